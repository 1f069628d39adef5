"""Kinds of files that hold pictures: a function each, chosen by the file's suffix."""

import math
from collections.abc import Callable
from pathlib import Path

from backdoor.errors import UserError
from backdoor.pictures.picture_set import PictureSet
from backdoor.pictures.readers.hdf5 import open_hdf5

READERS: dict[str, Callable[[Path, float], PictureSet]] = {
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}


def open_pictures(path: str | Path, divide_by: float = 1) -> PictureSet:
    """Check a file of pictures and read its labels.

    Args:
        divide_by: What the stored numbers are divided by to give the network's input.

    Raises:
        UserError: There is no such file, or it is not such a file; the message says what was found.
    """
    if not 0 < divide_by < math.inf:
        raise UserError(f"divide_by: expected a number above 0 (1 or 255), got {divide_by}")
    path = Path(path)
    return READERS.get(path.suffix.lower(), open_hdf5)(path, divide_by)
