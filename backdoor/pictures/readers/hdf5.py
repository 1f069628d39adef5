"""Pictures and labels in HDF5.

The layout is that of the course the published BadNet comes from: `data` (n, channels, height,
width) or channels last, and `label` (n,), each of any number type; `true_label` (n,) where it is
known. Other names are found where they are usual ones.
"""

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.labels import checked_labels
from backdoor.pictures.picture_set import PictureSet, ReadRows, Selection
from backdoor.pictures.readers.layout import channels_last, check_layout
from backdoor.pictures.readers.wanted import DATA_NAMES, LABEL_NAMES, Wanted
from backdoor.pictures.safe_hdf5 import check_hdf5

TRUE_LABEL = "true_label"


def open_hdf5(path: Path, wanted: Wanted) -> PictureSet:
    """Check the file and read its labels.

    Raises:
        UserError: There is no such file, or it is not such a file; the message says what was found.
    """
    with _open(path) as file:
        data_name = _named(file, wanted.data, DATA_NAMES)
        label_name = _named(file, wanted.label, LABEL_NAMES)
        data = _dataset(file, path, data_name)
        if data.dtype.kind not in "buif":
            raise UserError(f"{path}: expected numbers in '{data_name}', got {data.dtype}")
        shape, axes = check_layout(data.shape, data.dtype.itemsize, path, data_name)
        stored = _dataset(file, path, label_name)[()]
        labels, names = checked_labels(stored, path, label_name, len(data))
        true_labels = None
        if TRUE_LABEL in file:
            true_labels, _ = checked_labels(
                _dataset(file, path, TRUE_LABEL)[()], path, TRUE_LABEL, len(data)
            )
    open_rows = functools.partial(_open_rows, path, data_name, axes)
    return PictureSet(path, labels, true_labels, shape, wanted.scale, open_rows, names)


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
def _open_rows(path: Path, name: str, axes: str) -> Iterator[ReadRows]:
    with _open(path) as file:

        def read_rows(rows: Selection) -> NDArray[np.generic]:
            try:
                stored: NDArray[np.generic] = file[name][rows]
            except OSError as error:
                raise UserError(f"{path}: expected whole pictures, got {error}") from error
            return channels_last(stored, axes)

        yield read_rows


def _named(file: h5py.File, asked: str | None, usual: tuple[str, ...]) -> str:
    """Return the dataset's name: as asked for, or the first of the usual ones that is there."""
    return asked or next((name for name in usual if name in file), usual[0])


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise UserError(
            f"{path}: expected a dataset '{name}', found {', '.join(file) or 'nothing'}"
        )
    return file[name]
