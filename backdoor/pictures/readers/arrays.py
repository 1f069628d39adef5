"""Pictures and labels in NumPy's files: `.npz` with both, `.npy` with the labels beside it."""

import functools
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.labels import checked_labels
from backdoor.pictures.picture_set import PictureSet, ReadRows
from backdoor.pictures.readers.layout import channels_last, check_layout
from backdoor.pictures.readers.wanted import DATA_NAMES, LABEL_NAMES, Wanted

LARGEST_ARCHIVE = 2**33  # bytes, unpacked
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def open_npz(path: Path, wanted: Wanted) -> PictureSet:
    """Describe an archive of pictures and labels; it is unpacked into memory once it is read.

    Raises:
        UserError: It is no such archive; the message says what was found.
    """
    with _opened(path) as arrays:
        names = list(arrays)
        data = _named(names, wanted.data, DATA_NAMES, "pictures", path)
        label = _named(names, wanted.label, LABEL_NAMES, "labels", path)
        pictures, labels = _array(arrays, data, path), _array(arrays, label, path)
        true = _array(arrays, "true_label", path) if "true_label" in names else None
    return _described(path, pictures, labels, true, data, label, wanted)


def open_npy(path: Path, wanted: Wanted) -> PictureSet:
    """Describe an array of pictures, mapped from its file; labels are in a file beside it.

    Raises:
        UserError: It is no such array, or there are no labels.
    """
    beside = labels_beside(path)
    if beside is None:
        candidates = ", ".join(candidate.name for candidate in _candidates(path))
        raise UserError(
            f"{path}: expected its labels in a file beside it, one of {candidates}, found none"
        )
    pictures, labels = _mapped(path), _mapped(beside)
    return _described(path, pictures, labels, None, path.name, beside.name, wanted)


def labels_beside(path: Path) -> Path | None:
    """Return the file of a `.npy`'s labels, None where there is none."""
    return next((file for file in _candidates(path) if file.is_file() and file != path), None)


def _candidates(path: Path) -> list[Path]:
    stem = path.stem
    names = [f"{stem}_labels", f"{stem}_label"]
    names += [stem.replace(x, y) for x, y in (("x", "y"), ("X", "Y"), ("X", "y")) if x in stem]
    return [path.with_name(f"{name}.npy") for name in (*names, "labels")]


def _described(
    path: Path,
    pictures: NDArray[Any],
    stored_labels: NDArray[Any],
    true: NDArray[Any] | None,
    data: str,
    label: str,
    wanted: Wanted,
) -> PictureSet:
    if pictures.dtype.kind not in "buif":
        raise UserError(f"{path}: expected numbers in '{data}', got {pictures.dtype}")
    shape, axes = check_layout(pictures.shape, pictures.dtype.itemsize, path, data)
    labels, names = checked_labels(stored_labels, path, label, len(pictures))
    true_labels = None
    if true is not None:
        true_labels, _ = checked_labels(true, path, "true_label", len(pictures))
    open_rows = functools.partial(_open_rows, pictures, axes)
    return PictureSet(path, labels, true_labels, shape, wanted.scale, open_rows, names)


@contextmanager
def _open_rows(pictures: NDArray[Any], axes: str) -> Iterator[ReadRows]:
    yield lambda selection: channels_last(pictures[selection], axes)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST_ARCHIVE:
            raise UserError(
                f"{path}: refused to read it: expected at most {LARGEST_ARCHIVE} bytes unpacked, "
                f"found {unpacked}"
            )
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path}: expected an archive of NumPy arrays, got {error}") from error


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise UserError(f"{path}: expected a NumPy array of numbers, got {error}") from error
    return array


def _array(arrays: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = arrays[name]
    except UNREADABLE as error:
        raise UserError(f"{path}: expected numbers in '{name}', got {error}") from error
    return array


def _named(
    names: list[str], asked: str | None, usual: tuple[str, ...], what: str, path: Path
) -> str:
    for name in (asked,) if asked else usual:
        if name in names:
            return name
    raise UserError(
        f"{path}: expected {what} under {asked or ' or '.join(usual[:4])}, found "
        f"{', '.join(names) or 'nothing'}"
    )
