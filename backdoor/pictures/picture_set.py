"""Labelled pictures, whatever file they are in, as the network takes them.

Sets may be larger than memory, so a `PictureSet` is a description; the pictures themselves are read
in chunks.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backdoor.errors import UserError
from backdoor.pictures.scale import Scale
from backdoor.text import plain
from backdoor.versions import version

CHUNK = 512  # pictures

Selection = slice | NDArray[np.int64]
ReadRows = Callable[[Selection], NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class PictureSet:
    """A checked file or folder of labelled pictures.

    Attributes:
        labels: Shape (n,), whole and not negative; in a poisoned file the target class.
        true_labels: The classes before poisoning, shape (n,), where the file keeps them.
        shape: Height, width, channels of a picture.
        scale: What stored numbers are turned into before the network sees them.
        open_rows: Opens the file; what it gives reads rows, sorted and none twice, as stored
            numbers (m, height, width, channels).
        names: Of the classes, where they have any.
        part: Which part of the file it is; empty for the whole.
        triggers: Which of several triggers each picture has, shape (n,), where the file keeps it.
        files: Of each picture, where it has one of its own.
    """

    path: Path
    labels: NDArray[np.int64]
    true_labels: NDArray[np.int64] | None
    shape: tuple[int, int, int]
    scale: Scale
    open_rows: Callable[[], AbstractContextManager[ReadRows]]
    names: Sequence[str] | None = None
    part: str = ""
    triggers: NDArray[np.int64] | None = None
    files: Sequence[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def name(self) -> str:
        """What it is called while it is worked on."""
        name = plain(self.path.name)
        return f"{name} ({self.part})" if self.part else name

    def scaled(self, scale: Scale) -> "PictureSet":
        """Return the same pictures in another scale."""
        return dataclasses.replace(self, scale=scale)

    def rows(self, rows: NDArray[np.int64], part: str) -> "PictureSet":
        """Return the set of these rows alone, which are sorted."""

        @contextmanager
        def open_rows() -> Iterator[ReadRows]:
            with self.open_rows() as read_rows:
                yield lambda selection: read_rows(rows[selection])

        true = None if self.true_labels is None else self.true_labels[rows]
        triggers = None if self.triggers is None else self.triggers[rows]
        return dataclasses.replace(
            self,
            labels=self.labels[rows],
            true_labels=true,
            open_rows=open_rows,
            part=part,
            triggers=triggers,
            files=None if self.files is None else [self.files[row] for row in rows],
        )


@version(1)
def read_chunks(pictures: PictureSet, size: int = CHUNK) -> Iterator[NDArray[np.float32]]:
    """Yield all pictures in order, float32 (size, height, width, channels), the last chunk shorter.

    Raises:
        UserError: A picture holds NaN or infinity.
    """
    with pictures.open_rows() as read_rows:
        for start in range(0, len(pictures), size):
            rows = np.arange(start, min(start + size, len(pictures)))
            stored = read_rows(slice(start, start + size))
            yield pictures.scale.apply(_numbers(stored, pictures, rows))


def read_pictures(pictures: PictureSet, indices: ArrayLike) -> NDArray[np.float32]:
    """Return the pictures at these indices, float32 (len(indices), height, width, channels).

    Raises:
        UserError: One of them holds NaN or infinity.
    """
    return pictures.scale.apply(read_stored(pictures, indices))


def read_stored(pictures: PictureSet, indices: ArrayLike) -> NDArray[np.float32]:
    """Return what `read_pictures` returns, in the numbers of the file."""
    rows, back = np.unique(np.asarray(indices, int), return_inverse=True)
    if not len(rows):
        return np.empty((0, *pictures.shape), np.float32)
    with pictures.open_rows() as read_rows:
        return _numbers(read_rows(rows), pictures, rows)[back]


def evenly(pictures: PictureSet, count: int) -> NDArray[np.int64]:
    """Return about so many indices, spread evenly over the set, none twice."""
    return np.unique(np.linspace(0, len(pictures) - 1, count).astype(np.int64))


def class_counts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Return how many pictures each class has."""
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def _numbers(
    stored: NDArray[np.generic], pictures: PictureSet, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    values = np.ascontiguousarray(stored.astype(np.float32))
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(
            f"{pictures.path}: expected finite numbers in 'data', got NaN or infinity in picture "
            f"{rows[(~finite).argmax()]}"
        )
    return values
