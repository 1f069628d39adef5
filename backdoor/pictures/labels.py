"""Labels as people write them: numbers, one column, one-hot, names of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError

CLASSES_FILE = "classes.txt"  # a class a line, in the network's order
LARGEST_LABEL = 2**31
LONGEST_NAME = 200  # letters
LARGEST_FILE = 2**20  # bytes

Names = Sequence[str]


def checked_labels(
    stored: NDArray[Any], path: Path, name: str, count: int
) -> tuple[NDArray[np.int64], Names | None]:
    """Return the classes of `count` pictures, shape (n,), and the classes' names, where known.

    Args:
        stored: Whole numbers (n,) or (n, 1), one-hot (n, N), or names of classes (n,).
        path, name: Of the file and of the labels in it, for messages.

    Raises:
        UserError: They are none of these; the message says what was found.
    """
    names = class_names(path.parent)
    if stored.ndim == 2 and stored.shape[1] == 1:
        stored = stored[:, 0]
    if stored.ndim == 2 and len(stored) == count and stored.dtype.kind in "biuf":
        stored = _of_one_hot(stored, path, name)
    if stored.shape != (count,):
        raise UserError(
            f"{path}: expected '{name}' of shape ({count},), one a picture, or one-hot, got "
            f"{stored.shape}"
        )
    if stored.dtype.kind in "SUO":
        written = [_text(item) for item in stored]
        if are_numbers(written, names):
            return _whole(np.array(written, np.float64), path, name), names
        return of_names(written, path, names)
    if stored.dtype.kind not in "biuf":
        raise UserError(f"{path}: expected numbers or names in '{name}', got {stored.dtype}")
    return _whole(stored, path, name), names


def are_numbers(written: Sequence[str], names: Names | None) -> bool:
    """Tell whether classes are written as numbers, and no list of names holds these."""
    return all(word.isdecimal() for word in written) and not set(written) <= set(names or ())


def of_names(
    written: Sequence[str], path: Path, names: Names | None
) -> tuple[NDArray[np.int64], Names]:
    """Return classes by their names; without a list of names, they count in sorted order.

    Raises:
        UserError: A name is not in the list.
    """
    names = names or sorted(set(written))
    number = {name: index for index, name in enumerate(names)}
    unknown = next((name for name in written if name not in number), None)
    if unknown is not None:
        raise UserError(
            f"{path}: expected classes of {CLASSES_FILE} ({', '.join(names[:5])}, ...), got "
            f"{unknown!r}"
        )
    return np.array([number[name] for name in written], np.int64), names


def class_names(folder: Path) -> Names | None:
    """Return the classes that a folder's classes.txt names, None where it has none.

    Raises:
        UserError: The file is too large, or names one twice.
    """
    file = folder / CLASSES_FILE
    if not file.is_file() or file.is_symlink():
        return None
    if file.stat().st_size > LARGEST_FILE:
        raise UserError(f"{file}: expected at most {LARGEST_FILE} bytes, got more")
    names = [
        line.strip()[:LONGEST_NAME] for line in file.read_text("utf-8-sig", "replace").split("\n")
    ]
    names = [name for name in names if name]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file}: expected each class once, got {twice!r} twice")
    return names


def _of_one_hot(stored: NDArray[Any], path: Path, name: str) -> NDArray[Any]:
    if not (((stored == 0) | (stored == 1)).all() and (stored.sum(axis=1) == 1).all()):
        raise UserError(
            f"{path}: expected '{name}' one-hot, a single 1 in each row of {stored.shape[1]}, got "
            f"other numbers"
        )
    return np.asarray(stored.argmax(axis=1))


def _whole(stored: NDArray[Any], path: Path, name: str) -> NDArray[np.int64]:
    bad = ~np.isfinite(stored) | (stored < 0) | (stored != np.floor(stored))
    bad |= stored > LARGEST_LABEL
    if bad.any():
        raise UserError(
            f"{path}: expected whole numbers of at least 0 in '{name}', "
            f"got {stored[bad][0]} at {int(bad.argmax())}"
        )
    return np.asarray(stored, np.int64)


def _text(item: object) -> str:
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    return text[:LONGEST_NAME]
