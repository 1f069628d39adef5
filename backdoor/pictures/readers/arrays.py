"""Pictures and labels in NumPy's files: `.npz` with both, `.npy` with the labels beside it."""

import functools
import math
import shutil
import tempfile
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
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
HEADS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # which differs in letters of field names alone
}


def open_npz(path: Path, wanted: Wanted) -> PictureSet:
    """Describe an archive of pictures and labels; it is unpacked to files without a name.

    Raises:
        UserError: It is no such archive; the message says what was found.
    """
    with _opened(path) as arrays:
        names = [name.removesuffix(".npy") for name in arrays.namelist()]
        data = _named(names, wanted.data, DATA_NAMES, "pictures", path)
        pictures = _array(arrays, data, path)
        if not wanted.labelled:
            return _described(path, pictures, _none_of(pictures), None, data, "", wanted)
        label = _named(names, wanted.label, LABEL_NAMES, "labels", path)
        labels = _array(arrays, label, path)
        true = _array(arrays, "true_label", path) if "true_label" in names else None
    return _described(path, pictures, labels, true, data, label, wanted)


def open_npy(path: Path, wanted: Wanted) -> PictureSet:
    """Describe an array of pictures, mapped from its file; labels are in a file beside it.

    Raises:
        UserError: It is no such array, or there are no labels.
    """
    if not wanted.labelled:
        pictures = _mapped(path)
        return _described(path, pictures, _none_of(pictures), None, path.name, "", wanted)
    beside = labels_beside(path)
    if beside is None:
        candidates = ", ".join(candidate.name for candidate in _candidates(path))
        raise UserError(
            f"{path}: expected its labels in a file beside it, one of {candidates}, found none"
        )
    pictures, labels = _mapped(path), _mapped(beside)
    return _described(path, pictures, labels, None, path.name, beside.name, wanted)


def _none_of(pictures: NDArray[Any]) -> NDArray[np.int64]:
    return np.zeros(len(pictures) if pictures.ndim else 0, np.int64)


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
    part = wanted.data or ""  # of a file that may hold others, too
    return PictureSet(path, labels, true_labels, shape, wanted.scale, open_rows, names, part)


@contextmanager
def _open_rows(pictures: NDArray[Any], axes: str) -> Iterator[ReadRows]:
    yield lambda selection: channels_last(pictures[selection], axes)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > LARGEST_ARCHIVE:
                raise UserError(
                    f"{path}: refused to read it: expected at most {LARGEST_ARCHIVE} bytes "
                    f"unpacked, found {unpacked}"
                )
            yield archive
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path}: expected an archive of NumPy arrays, got {error}") from error


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except UNREADABLE as error:
        raise UserError(f"{path}: expected a NumPy array of numbers, got {error}") from error
    return array


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """Return an array of an archive, mapped from a file that it is unpacked to.

    Its head says its size, which is compared with the member's before anything is unpacked.
    """
    try:
        with archive.open(f"{name}.npy") as member, tempfile.TemporaryFile() as file:
            read_head = HEADS[np.lib.format.read_magic(member)]
            shape, in_columns, dtype = read_head(member)
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject or archive.getinfo(f"{name}.npy").file_size != member.tell() + size:
                raise ValueError(f"{dtype} of shape {shape}")
            shutil.copyfileobj(member, file)
            order = "F" if in_columns else "C"
            if not size:
                return np.empty(shape, dtype)
            return np.memmap(file, dtype, "r", 0, shape, order)  # type: ignore[call-overload,no-any-return]
    except (*UNREADABLE, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: expected numbers in '{name}', got {reason}") from error


def _named(
    names: list[str], asked: str | None, usual: tuple[str, ...], what: str, path: Path
) -> str:
    for name in (asked,) if asked else usual:
        if name in names:
            return name
    raise UserError(
        f"{path}: expected {what} under {asked or ' or '.join(usual[:4])}, found "
        f"{', '.join(names) or 'nothing'}; dataset.keys.data and dataset.keys.label name others"
    )
