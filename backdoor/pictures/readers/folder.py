"""Pictures in files of their own: a folder a class, or a table of names and classes.

Classes count as `keras.utils.image_dataset_from_directory` counts them: by the folders' names in
sorted order, unless a classes.txt beside them says otherwise.
"""

import csv
import functools
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from backdoor.errors import UserError
from backdoor.pictures.labels import are_numbers, checked_labels, class_names, of_names
from backdoor.pictures.picture_set import PictureSet, ReadRows, Selection
from backdoor.pictures.readers.wanted import Wanted

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm")
FORMATS = ("PNG", "JPEG", "PPM")
MOST_PIXELS = 2**26  # of a picture in a file
SCAN, MOST_SCANS = b"\xff\xda", 64  # of a JPEG, each of which goes over all its pixels
MOST_FILES = 2**22
LONGEST_PATH = 200  # letters
LOOKED_AT = 64  # pictures whose size is looked at beforehand
LARGEST_TABLE = 2**28  # bytes
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError)


def open_folder(path: Path, wanted: Wanted) -> PictureSet:
    """Describe a folder with a folder of PNG, JPEG or PPM files for each class.

    Raises:
        UserError: It holds something else, links, or files that are no pictures.
    """
    if not wanted.labelled:
        return _unlabelled(path, wanted)
    folders = [entry for entry in sorted(path.iterdir()) if _is_own(entry, path) and entry.is_dir()]
    by_class = {folder.name: _pictures_in(folder) for folder in folders}
    by_class = {name: files for name, files in by_class.items() if files}
    if not by_class:
        alone = len(_pictures_in(path))
        raise UserError(
            f"{path}: expected a folder of PNG, JPEG or PPM files for each class in it, found "
            f"{f'{alone} pictures without a class' if alone else 'none'}"
        )
    others = [f for folder in folders for f in folder.iterdir() if _is_left_out(f)]
    if others:
        kinds = ", ".join(sorted({file.suffix or "folders" for file in others}))
        log.warning(
            "%s: %d entries are no PNG, JPEG or PPM, left out: %s", path, len(others), kinds
        )
    if all(name.isdecimal() for name in by_class) and sorted(by_class, key=int) != list(by_class):
        log.warning(
            "%s: the folders count in sorted order, as Keras counts them: %s, ...; a classes.txt "
            "says another order",
            path,
            ", ".join(list(by_class)[:4]),
        )
    files = [file for files in by_class.values() for file in files]
    written = [name for name, files in by_class.items() for _ in files]
    labels, names = of_names(written, path, class_names(path))
    return _described(path, files, labels, names, wanted)


def _unlabelled(path: Path, wanted: Wanted) -> PictureSet:
    """Describe all pictures in a folder and in the folders in it, whatever these are called."""
    inside = [entry for entry in sorted(path.iterdir()) if _is_own(entry, path) and entry.is_dir()]
    files = [file for folder in (path, *inside) for file in _pictures_in(folder)]
    if not files:
        raise UserError(f"{path}: expected PNG, JPEG or PPM files in it, found none")
    return _described(path, files, np.zeros(len(files), np.int64), None, wanted)


def open_csv(path: Path, wanted: Wanted) -> PictureSet:
    """Describe a table whose lines are a picture's file, beside the table, and its class.

    Raises:
        UserError: A file is not below the table's folder or no picture, or a class is unknown.
    """
    files, written = zip(*table_of(path), strict=True)
    given = class_names(path.parent)
    if are_numbers(written, given):
        numbers, _ = checked_labels(np.array(written), path, "class", len(files))
        return _described(path, files, numbers, given, wanted)
    labels, names = of_names(written, path, given)
    return _described(path, files, labels, names, wanted)


def table_of(path: Path) -> list[tuple[Path, str]]:
    """Return the files and classes that a table names.

    Raises:
        UserError: It is no such table, or a file is not below its folder.
    """
    if path.stat().st_size > LARGEST_TABLE:
        raise UserError(f"{path}: expected at most {LARGEST_TABLE} bytes, got more")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = [row for row in csv.reader(file) if row]
    except csv.Error as error:
        raise UserError(f"{path}: expected a table of names and classes, got {error}") from error
    if rows and not rows[0][0].lower().endswith(SUFFIXES):
        rows = rows[1:]  # its head
    if not rows or any(len(row) < 2 or not row[1].strip() for row in rows):
        raise UserError(f"{path}: expected lines NAME,CLASS, found others")
    return [(_beside(path, row[0].strip()), row[1].strip()) for row in rows]


def _described(
    path: Path,
    files: Sequence[Path],
    labels: NDArray[np.int64],
    names: Sequence[str] | None,
    wanted: Wanted,
) -> PictureSet:
    first = _opened(files[0], channels=None)
    height, width, channels = (wanted.shape or (None,) * 3)[-3:]
    shape = (height or first.shape[0], width or first.shape[1], channels or first.shape[2])
    if shape[2] not in (1, 3):
        raise UserError(f"{path}: expected a network of 1 or 3 colours, got {shape[2]}")
    some = files[:: max(1, len(files) // LOOKED_AT)]
    sizes = {_opened(file, channels=None).shape[:2] for file in some}
    if sizes != {shape[:2]}:
        log.info(
            "%s: %d pictures, resized to the network's %d x %d (the first is %d x %d%s)",
            path,
            len(files),
            *shape[:2],
            *first.shape[:2],
            "" if len(sizes) == 1 else f", others differ: {len(sizes)} sizes",
        )
    open_rows = functools.partial(_open_rows, list(files), shape)
    return PictureSet(path, labels, None, shape, wanted.scale, open_rows, names, files=files)


@contextmanager
def _open_rows(files: list[Path], shape: tuple[int, int, int]) -> Iterator[ReadRows]:
    def read_rows(rows: Selection) -> NDArray[np.uint8]:
        numbers = range(len(files))[rows] if isinstance(rows, slice) else rows
        pictures = np.empty((len(numbers), *shape), np.uint8)
        for place, number in enumerate(numbers):
            pictures[place] = _opened(files[number], shape[2], shape[:2])
        return pictures

    yield read_rows


def _opened(
    file: Path, channels: int | None, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Return a picture (height, width, channels), resized where a size is given.

    Raises:
        UserError: It is none of these, or would take too much memory; nothing is decoded then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise UserError(
                        f"{file}: refused to open it: expected at most {MOST_PIXELS} pixels, found "
                        f"{picture.width} x {picture.height}"
                    )
                if picture.format == "JPEG" and file.read_bytes().count(SCAN) > MOST_SCANS:
                    raise UserError(
                        f"{file}: refused to open it: expected at most {MOST_SCANS} scans of a JPEG"
                    )
                grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
                mode = {1: "L", 3: "RGB"}.get(channels or (1 if grey else 3), "RGB")
                converted = _of_eight_bits(picture).convert(mode)
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{file}: expected a PNG, JPEG or PPM picture, got {error}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: refused to open it: {error}") from error
    if size is not None and converted.size != size[::-1]:
        converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
    values = np.asarray(converted, np.uint8)
    return values if values.ndim == 3 else values[..., None]


def _of_eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of 16 bits as one of 8; Pillow itself would take all above 255 for white."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture, np.float64) / 257).round().astype(np.uint8))


def _pictures_in(folder: Path) -> list[Path]:
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and _is_own(file, folder) and file.is_file()
    ]
    if len(files) > MOST_FILES:
        raise UserError(f"{folder}: expected at most {MOST_FILES} pictures, got {len(files)}")
    return files


def _is_left_out(entry: Path) -> bool:
    return entry.suffix.lower() not in SUFFIXES and not entry.name.startswith(".")


def _is_own(entry: Path, folder: Path) -> bool:
    if entry.is_symlink():
        raise UserError(
            f"{folder}: refused to read it: expected pictures in the folder itself, found the link "
            f"{entry.name!r} to {str(entry.readlink())!r}"
        )
    return not entry.name.startswith(".")


def _beside(table: Path, name: str) -> Path:
    """Return a file that a table names; it has to be below the table's folder."""
    folder = table.parent.resolve()
    if "\0" in name or len(name) > LONGEST_PATH:
        raise UserError(f"{table}: expected pictures beside it, found a name that cannot be one")
    file = folder / name
    if not file.resolve().is_relative_to(folder):
        raise UserError(
            f"{table}: refused to read it: expected pictures beside it, found {name!r}, which "
            f"leads out of its folder"
        )
    if not file.is_file():
        raise UserError(f"{table}: expected pictures beside it, found no {name!r}")
    return file
