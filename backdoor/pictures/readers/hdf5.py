"""Pictures and labels in HDF5.

The layout is that of the course the published BadNet comes from: `data` (n, channels, height,
width) or channels last, and `label` (n,), each of any number type; `true_label` (n,) and `trigger`
(n,), which of several, where they are known. Other names are found where they are usual ones.
"""

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.labels import LONGEST_NAME, Names, checked_labels
from backdoor.pictures.picture_set import PictureSet, ReadRows, Selection
from backdoor.pictures.readers.layout import channels_last, check_layout
from backdoor.pictures.readers.wanted import DATA_NAMES, LABEL_NAMES, Wanted
from backdoor.pictures.safe_hdf5 import LARGEST_CHUNK, check_hdf5

TRUE_LABEL, TRIGGER = "true_label", "trigger"
LARGEST_LABELS = 2**28  # bytes


def open_hdf5(path: Path, wanted: Wanted) -> PictureSet:
    """Check the file and read its labels.

    Raises:
        UserError: There is no such file, or it is not such a file; the message says what was found.
    """
    with _open(path) as file:
        data_name = _named(file, wanted.data, DATA_NAMES)
        label_name = _named(file, wanted.label, LABEL_NAMES)
        data = _dataset(file, path, data_name)
        if data.shape is None:
            raise UserError(f"{path}: expected pictures in '{data_name}', found it empty")
        if data.dtype.kind not in "buif":
            raise UserError(f"{path}: expected numbers in '{data_name}', got {data.dtype}")
        shape, axes = check_layout(data.shape, data.dtype.itemsize, path, data_name)
        labels, names = np.zeros(len(data), np.int64), None
        if wanted.labelled:
            labels, names = _labels(file, path, label_name, len(data))
        true_labels, triggers = (
            _labels(file, path, name, len(data))[0] if wanted.labelled and name in file else None
            for name in (TRUE_LABEL, TRIGGER)
        )
    open_rows = functools.partial(_open_rows, path, data_name, axes)
    part = wanted.data or ""  # of a file that may hold others, too
    return PictureSet(
        path, labels, true_labels, shape, wanted.scale, open_rows, names, part, triggers
    )


def write_pictures(
    path: str | Path,
    chunks: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    **known: NDArray[np.int64],
) -> None:
    """Write pictures (n, height, width, channels), given in chunks, in the course's layout.

    Args:
        known: `true_label` and `trigger` of each picture, where they are known, (n,).

    Raises:
        ValueError: There are fewer or more pictures than labels; nothing is written then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        file["label"] = labels
        for name, values in known.items():
            file[name] = values
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
        # The last chunk is kept, so that a large one is not unpacked for each of its rows.
        file = h5py.File(path, "r", rdcc_nbytes=LARGEST_CHUNK)
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


def _labels(
    file: h5py.File, path: Path, name: str, count: int
) -> tuple[NDArray[np.int64], Names | None]:
    """Return classes and their names; what a small file may unpack to is looked at before."""
    stored = _dataset(file, path, name)
    if not stored.shape or stored.shape[0] != count or stored.nbytes > LARGEST_LABELS:
        raise UserError(
            f"{path}: expected '{name}' of shape ({count},), one a picture, or one-hot, got "
            f"{stored.shape}"
        )
    if h5py.check_string_dtype(stored.dtype) is None and stored.dtype.kind == "O":
        raise UserError(f"{path}: expected numbers or names in '{name}', got {stored.dtype}")
    if stored.dtype.kind != "O":
        return checked_labels(stored[()], path, name, count)
    written = []
    for row in range(count):  # one by one: each may refer to the same gigabyte
        written.append(stored[row])
        if len(written[-1]) > LONGEST_NAME:
            raise UserError(
                f"{path}: expected names of at most {LONGEST_NAME} letters in '{name}', got more"
            )
    return checked_labels(np.array(written, object), path, name, count)


def _named(file: h5py.File, asked: str | None, usual: tuple[str, ...]) -> str:
    """Return the dataset's name: as asked for, or the first of the usual ones that is there."""
    return asked or next((name for name in usual if name in file), usual[0])


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise UserError(
            f"{path}: expected a dataset '{name}', found {', '.join(file) or 'nothing'}"
        )
    return file[name]
