"""Pictures and labels in HDF5: the one place that knows this layout's axis order and number types.

It is that of the course the published BadNet comes from: `data` (n, channels, height, width) or
channels last, and `label` (n,), each of any number type; `true_label` (n,) where it is known.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.picture_set import PictureSet, ReadRows, Selection, checked_labels
from backdoor.pictures.safe_hdf5 import check_hdf5

MOST_PICTURES = 2**27
LARGEST = 2**22  # bytes of a picture
COLOURS = (1, 3)


def open_hdf5(path: Path, divide_by: float) -> PictureSet:
    """Check the file and read its labels.

    Raises:
        UserError: There is no such file, or it is not such a file; the message says what was found.
    """
    with _open(path) as file:
        data = _dataset(file, path, "data")
        shape, channels_first = _picture_shape(data, path)
        labels = _labels(file, path, "label", len(data))
        true_labels = _labels(file, path, "true_label", len(data)) if "true_label" in file else None
    open_rows = functools.partial(_open_rows, path, channels_first)
    return PictureSet(path, labels, true_labels, shape, divide_by, open_rows)


def write_pictures(
    path: str | Path,
    chunks: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    true_labels: NDArray[np.int64] | None = None,
) -> None:
    """Write pictures (n, height, width, channels), given in chunks, in the course's layout.

    Raises:
        ValueError: There are fewer or more pictures than labels; nothing is written then.
    """
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


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise UserError(f"{path}: expected an HDF5 file of pictures, found no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: expected an HDF5 file of pictures, got {error}") from error
    try:
        check_hdf5(file, path)
    except Exception:
        file.close()
        raise
    return file


@contextmanager
def _open_rows(path: Path, channels_first: bool) -> Iterator[ReadRows]:
    with _open(path) as file:

        def read_rows(rows: Selection) -> NDArray[np.generic]:
            try:
                stored: NDArray[np.generic] = file["data"][rows]
            except OSError as error:
                raise UserError(f"{path}: expected whole pictures, got {error}") from error
            return np.moveaxis(stored, 1, -1) if channels_first else stored

        yield read_rows


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise UserError(
            f"{path}: expected a dataset '{name}', found {', '.join(file) or 'nothing'}"
        )
    if file[name].dtype.kind not in "uif":
        raise UserError(f"{path}: expected numbers in '{name}', got {file[name].dtype}")
    return file[name]


def _picture_shape(data: h5py.Dataset, path: Path) -> tuple[tuple[int, int, int], bool]:
    if data.ndim != 4 or not {data.shape[1], data.shape[3]} & set(COLOURS):
        raise UserError(
            f"{path}: expected 'data' of shape (n, channels, height, width) or (n, height, width, "
            f"channels) with 1 or 3 channels, got {data.shape}"
        )
    if not len(data):
        raise UserError(f"{path}: expected at least one picture, got none")
    if len(data) > MOST_PICTURES or data.dtype.itemsize * math.prod(data.shape[1:]) > LARGEST:
        raise UserError(
            f"{path}: expected at most {MOST_PICTURES} pictures of at most {LARGEST} bytes, got "
            f"{data.shape}"
        )
    _, first, second, last = data.shape
    return ((second, last, first), True) if first in COLOURS else ((first, second, last), False)


def _labels(file: h5py.File, path: Path, name: str, count: int) -> NDArray[np.int64]:
    stored = _dataset(file, path, name)
    if stored.shape != (count,):
        raise UserError(
            f"{path}: expected '{name}' of shape ({count},), one a picture, got {stored.shape}"
        )
    return checked_labels(stored[()], path, name)
