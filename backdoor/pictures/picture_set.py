"""Labelled pictures, whatever file they are in, as the network takes them.

Sets may be larger than memory, so a `PictureSet` is a description; the pictures themselves are read
in chunks.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backdoor.errors import UserError
from backdoor.versions import version

CHUNK = 512  # pictures
LARGEST_LABEL = 2**31

Selection = slice | NDArray[np.int64]
ReadRows = Callable[[Selection], NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class PictureSet:
    """A checked file of labelled pictures.

    Attributes:
        labels: Shape (n,), whole and not negative; in a poisoned file the target class.
        true_labels: The classes before poisoning, shape (n,), where the file keeps them.
        shape: Height, width, channels of a picture.
        divide_by: What the stored numbers are divided by to give the network's input.
        open_rows: Opens the file; what it gives reads rows, sorted and none twice, as stored
            numbers (m, height, width, channels).
    """

    path: Path
    labels: NDArray[np.int64]
    true_labels: NDArray[np.int64] | None
    shape: tuple[int, int, int]
    divide_by: float
    open_rows: Callable[[], AbstractContextManager[ReadRows]]

    def __len__(self) -> int:
        return len(self.labels)


@version(1)
def read_chunks(pictures: PictureSet, size: int = CHUNK) -> Iterator[NDArray[np.float32]]:
    """Yield all pictures in order, float32 (size, height, width, channels), the last chunk shorter.

    Raises:
        UserError: A picture holds NaN or infinity.
    """
    with pictures.open_rows() as read_rows:
        for start in range(0, len(pictures), size):
            stored = read_rows(slice(start, start + size))
            yield _network_input(stored, pictures, start + np.arange(len(stored)))


def read_pictures(pictures: PictureSet, indices: ArrayLike) -> NDArray[np.float32]:
    """Return the pictures at these indices, float32 (len(indices), height, width, channels).

    Raises:
        UserError: One of them holds NaN or infinity.
    """
    rows, back = np.unique(np.asarray(indices, int), return_inverse=True)
    if not len(rows):
        return np.empty((0, *pictures.shape), np.float32)
    with pictures.open_rows() as read_rows:
        return _network_input(read_rows(rows), pictures, rows)[back]


def class_counts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Return how many pictures each class has."""
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def checked_labels(stored: NDArray[Any], path: Path, name: str) -> NDArray[np.int64]:
    """Return labels as whole numbers.

    Raises:
        UserError: One is negative, a fraction, no number or too large.
    """
    bad = ~np.isfinite(stored) | (stored < 0) | (stored != np.floor(stored))
    bad |= stored > LARGEST_LABEL
    if bad.any():
        raise UserError(
            f"{path}: expected whole numbers of at least 0 in '{name}', "
            f"got {stored[bad][0]} at {int(bad.argmax())}"
        )
    return np.asarray(stored, np.int64)


def _network_input(
    stored: NDArray[np.generic], pictures: PictureSet, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    values = np.ascontiguousarray(stored.astype(np.float32))
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(
            f"{pictures.path}: expected finite numbers in 'data', got NaN or infinity in picture "
            f"{rows[(~finite).argmax()]}"
        )
    return values if pictures.divide_by == 1 else values / np.float32(pictures.divide_by)
