"""How an array of pictures is laid out: channels first, last, or grey without an axis."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError

MOST_PICTURES = 2**27
LARGEST = 2**22  # bytes of a picture
COLOURS = (1, 3)


def check_layout(
    shape: Sequence[int], itemsize: int, path: Path, name: str
) -> tuple[tuple[int, int, int], str]:
    """Return height, width, channels of a picture, and the axes of the array.

    Raises:
        UserError: They are no pictures, none at all, or too many or too large.
    """
    rank_fits = len(shape) == 3 or (len(shape) == 4 and {shape[1], shape[3]} & set(COLOURS))
    if not rank_fits:
        raise UserError(
            f"{path}: expected '{name}' of shape (n, channels, height, width) or (n, height, width,"
            f" channels) with 1 or 3 channels, or (n, height, width), got {tuple(shape)}"
        )
    if not shape[0]:
        raise UserError(f"{path}: expected at least one picture, got none")
    if shape[0] > MOST_PICTURES or itemsize * math.prod(shape[1:]) > LARGEST:
        raise UserError(
            f"{path}: expected at most {MOST_PICTURES} pictures of at most {LARGEST} bytes, got "
            f"{tuple(shape)}"
        )
    if len(shape) == 3:
        return (shape[1], shape[2], 1), "nhw"
    _, first, second, last = shape
    if first in COLOURS:
        return (second, last, first), "nchw"
    return (first, second, last), "nhwc"


def channels_last(stored: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    """Return pictures as (n, height, width, channels)."""
    if axes == "nhw":
        return stored[..., None]
    return np.moveaxis(stored, 1, -1) if axes == "nchw" else stored
