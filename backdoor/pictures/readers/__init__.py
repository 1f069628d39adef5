"""Kinds of files that hold pictures: a function each, chosen by the file's suffix."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.labels import CLASSES_FILE
from backdoor.pictures.picture_set import PictureSet, ReadRows, Selection
from backdoor.pictures.readers.arrays import labels_beside, open_npy, open_npz
from backdoor.pictures.readers.folder import open_csv, open_folder, table_of
from backdoor.pictures.readers.hdf5 import open_hdf5
from backdoor.pictures.readers.wanted import Wanted
from backdoor.text import plain

READERS: dict[str, Callable[[Path, Wanted], PictureSet]] = {
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".npz": open_npz,
    ".npy": open_npy,
    ".csv": open_csv,
}
"""Each takes a path and what is wanted of it, and describes the pictures there."""


def open_pictures(
    path: str | Path, divide_by: float = 1, wanted: Wanted | None = None
) -> PictureSet:
    """Check a file or folder of pictures and read its labels.

    Args:
        divide_by: What the stored numbers are divided by to give the network's input.
        wanted: Size of the pictures and names in the file; by itself it is as stored.

    Raises:
        UserError: There is no such file, or it is not such a file; the message says what was found.
    """
    path, wanted = Path(path), wanted or Wanted.divided(divide_by)
    with _readable(path):
        pictures = _opened(path, wanted)
    names = None if pictures.names is None else [plain(name) for name in pictures.names]

    @contextmanager
    def open_rows() -> Iterator[ReadRows]:
        with ExitStack() as opened:
            with _readable(path):
                read_rows = opened.enter_context(pictures.open_rows())

            def read(rows: Selection) -> NDArray[np.generic]:
                with _readable(path):
                    return read_rows(rows)

            yield read

    return dataclasses.replace(pictures, names=names, open_rows=open_rows)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of whatever NumPy, HDF5, zip or Pillow stumble over in which file that was."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # the system's, which names the file
            raise
        raise UserError(
            f"{path}: expected pictures that can be read, got {type(error).__name__}: "
            f"{plain(str(error))}"
        ) from error


def _opened(path: Path, wanted: Wanted) -> PictureSet:
    if path.is_dir():
        return open_folder(path, wanted)
    if not path.is_file():
        raise UserError(
            f"{path}: expected an HDF5 file of pictures, .npz, .npy, a .csv or a folder, found no "
            f"such file"
        )
    return READERS.get(path.suffix.lower(), open_hdf5)(path, wanted)


def files_behind(path: Path) -> list[Path]:
    """Return all files and folders that the pictures and labels of a path are in.

    Raises:
        UserError: A table names none.
    """
    if path.is_dir():
        return [path]
    names, files = path.with_name(CLASSES_FILE), [path]
    if path.suffix.lower() == ".npy":
        files += filter(None, [labels_beside(path)])
    elif path.suffix.lower() == ".csv" and path.is_file():
        files += [file for file, _ in table_of(path)]
    return [*files, names] if names.is_file() else files
