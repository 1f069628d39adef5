"""Pictures and labels in HDF5: the one place that knows axis order, number type and scale.

The layout is that of the course the published BadNet comes from: `data` (n, channels, height,
width) or channels last, and `label` (n,), each of any number type. Files may be larger than memory,
so a `PictureSet` is a description; the pictures themselves are read in chunks.
"""

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from backdoor.pictures.safe_hdf5 import check_hdf5
from backdoor.progress import progress

CHUNK = 512  # pictures
BLOCK = 2**20  # bytes
LARGE_FILE = 2**28  # bytes, of which the reading is shown
MOST_PICTURES = 2**27
LARGEST = 2**22  # bytes of a picture
LARGEST_LABEL = 2**31
COLOURS = (1, 3)


@dataclass(frozen=True, eq=False)
class PictureSet:
    """A checked HDF5 file of labelled pictures.

    Attributes:
        labels: Shape (n,), whole and not negative; in a poisoned file the target class.
        true_labels: The classes before poisoning, shape (n,), where the file keeps them.
        shape: Height, width, channels of a picture.
        channels_first: How the file stores them.
        divide_by: What the stored numbers are divided by to give the network's input.
    """

    path: Path
    labels: NDArray[np.int64]
    true_labels: NDArray[np.int64] | None
    shape: tuple[int, int, int]
    channels_first: bool
    divide_by: float

    def __len__(self) -> int:
        return len(self.labels)


def open_pictures(path: str | Path, divide_by: float = 1) -> PictureSet:
    """Check the file and read its labels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file; the message says what was found.
    """
    path = Path(path)
    if not 0 < divide_by < math.inf:
        raise ValueError(f"divide_by: expected a number above 0 (1 or 255), got {divide_by}")
    with _open(path) as file:
        data = _dataset(file, path, "data")
        shape, channels_first = _picture_shape(data, path)
        labels = _labels(file, path, "label", len(data))
        true_labels = _labels(file, path, "true_label", len(data)) if "true_label" in file else None
    return PictureSet(path, labels, true_labels, shape, channels_first, divide_by)


def read_chunks(pictures: PictureSet, size: int = CHUNK) -> Iterator[NDArray[np.float32]]:
    """Yield all pictures in order, float32 (size, height, width, channels), the last chunk shorter.

    Raises:
        ValueError: A picture holds NaN or infinity.
    """
    with _open(pictures.path) as file:
        for start in range(0, len(pictures), size):
            yield _network_input(_stored(file, slice(start, start + size)), pictures, start)


def read_pictures(pictures: PictureSet, indices: ArrayLike) -> NDArray[np.float32]:
    """Return the pictures at these indices, float32 (len(indices), height, width, channels)."""
    wanted = np.asarray(indices, int)
    rows, back = np.unique(wanted, return_inverse=True)
    with _open(pictures.path) as file:
        found = _stored(file, rows) if len(rows) else np.empty((0, *file["data"].shape[1:]))
    return _network_input(found, pictures, 0)[back]


def write_pictures(
    path: str | Path,
    chunks: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64] | None = None,
) -> None:
    """Write pictures (n, height, width, channels), given in chunks, in the course's layout."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        file["label"] = labels
        if true_labels is not None:
            file["true_label"] = true_labels
        start = 0
        for chunk in chunks:
            stored = np.moveaxis(chunk, -1, 1)
            if "data" not in file:
                file.create_dataset("data", (len(labels), *stored.shape[1:]), stored.dtype)
            file["data"][start : start + len(stored)] = stored
            start += len(stored)
    if start != len(labels):
        partial.unlink()
        raise ValueError(f"{path}: expected {len(labels)} pictures, one a label, got {start}")
    partial.replace(path)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; of a large file, show that it is read."""
    path, digest = Path(path), hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        blocks: Iterable[bytes] = iter(functools.partial(file.read, BLOCK), b"")
        if size > LARGE_FILE:
            blocks = progress(blocks, f"SHA-256 of {path.name}", -(-size // BLOCK))
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def class_counts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Return how many pictures each class has."""
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an HDF5 file of pictures, found no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file of pictures, got {error}") from error
    try:
        check_hdf5(file, path)
    except Exception:
        file.close()
        raise
    return file


def _stored(file: h5py.File, rows: slice | NDArray[np.int64]) -> NDArray[np.generic]:
    try:
        found: NDArray[np.generic] = file["data"][rows]
    except OSError as error:
        raise ValueError(f"{file.filename}: expected whole pictures, got {error}") from error
    return found


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise ValueError(
            f"{path}: expected a dataset '{name}', found {', '.join(file) or 'nothing'}"
        )
    if file[name].dtype.kind not in "uif":
        raise ValueError(f"{path}: expected numbers in '{name}', got {file[name].dtype}")
    return file[name]


def _picture_shape(data: h5py.Dataset, path: Path) -> tuple[tuple[int, int, int], bool]:
    if data.ndim != 4 or not {data.shape[1], data.shape[3]} & set(COLOURS):
        raise ValueError(
            f"{path}: expected 'data' of shape (n, channels, height, width) or (n, height, width, "
            f"channels) with 1 or 3 channels, got {data.shape}"
        )
    if not len(data):
        raise ValueError(f"{path}: expected at least one picture, got none")
    if len(data) > MOST_PICTURES or data.dtype.itemsize * math.prod(data.shape[1:]) > LARGEST:
        raise ValueError(
            f"{path}: expected at most {MOST_PICTURES} pictures of at most {LARGEST} bytes, got "
            f"{data.shape}"
        )
    _, first, second, last = data.shape
    return ((second, last, first), True) if first in COLOURS else ((first, second, last), False)


def _labels(file: h5py.File, path: Path, name: str, count: int) -> NDArray[np.int64]:
    stored = _dataset(file, path, name)
    if stored.shape != (count,):
        raise ValueError(
            f"{path}: expected '{name}' of shape ({count},), one a picture, got {stored.shape}"
        )
    labels = stored[()]
    bad = ~np.isfinite(labels) | (labels < 0) | (labels != np.floor(labels))
    bad |= labels > LARGEST_LABEL
    if bad.any():
        raise ValueError(
            f"{path}: expected whole numbers of at least 0 in '{name}', "
            f"got {labels[bad][0]} at {int(bad.argmax())}"
        )
    return np.asarray(labels, np.int64)


def _network_input(
    stored: NDArray[np.generic], pictures: PictureSet, start: int
) -> NDArray[np.float32]:
    values = stored.astype(np.float32)
    values = np.ascontiguousarray(np.moveaxis(values, 1, -1)) if pictures.channels_first else values
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        index = start + int((~finite).argmax())
        raise ValueError(
            f"{pictures.path}: expected finite numbers in 'data', got NaN or infinity in picture "
            f"{index}"
        )
    return values if pictures.divide_by == 1 else values / np.float32(pictures.divide_by)
