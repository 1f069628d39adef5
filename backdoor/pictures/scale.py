"""The scale of a network's input: what stored numbers are turned into before the network sees them.

The modes are those of `keras.applications` (`imagenet_utils.preprocess_input`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError

Array = NDArray[np.float32]
Convert = Callable[[Array], Array]

TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red

MODES: dict[str, Convert] = {
    "full": lambda pictures: pictures,
    "unit": lambda pictures: pictures / np.float32(255),
    "tf": lambda pictures: pictures / np.float32(127.5) - np.float32(1),
    "torch": lambda pictures: (pictures / np.float32(255) - TORCH_MEAN) / TORCH_DEVIATION,
    "caffe": lambda pictures: pictures[..., ::-1] - CAFFE_MEAN,
}
"""Of pictures in 0..255: 0..255, 0..1, -1..1, ImageNet's mean and deviation, its mean in BGR."""
IN_COLOUR = ("torch", "caffe")
STORED, AUTO = "stored", "auto"
CHOICES = (AUTO, STORED, *MODES)

RANGES: dict[str, Convert] = {
    "full": lambda pictures: pictures,
    "unit": lambda pictures: pictures * np.float32(255),
    "tf": lambda pictures: (pictures + np.float32(1)) * np.float32(127.5),
}
"""How pictures that are stored in a range become those in 0..255."""


@dataclass(frozen=True, eq=False)
class Scale:
    """A named function of stored pictures (n, height, width, channels); keys hold the name."""

    name: str
    apply: Convert


def divided_by(number: float) -> Scale:
    """Return the scale that divides by a number.

    Raises:
        UserError: It is not above 0.
    """
    if not 0 < number < np.inf:
        raise UserError(f"divide_by: expected a number above 0 (1 or 255), got {number}")
    if number == 1:
        return Scale("divide_by=1", lambda pictures: pictures)
    return Scale(f"divide_by={number:g}", lambda pictures: pictures / np.float32(number))


def scales_of(stored: Array) -> dict[str, Scale]:
    """Return the scales that such pictures may be brought to, by name; the first is as stored."""
    origin = range_of(stored)
    scales = {STORED: Scale(STORED, lambda pictures: pictures)}
    for mode, convert in MODES.items() if origin else ():
        if mode != origin and (mode not in IN_COLOUR or stored.shape[-1] == 3):
            scales[mode] = Scale(f"{mode} of {origin}", _chained(RANGES[origin or ""], convert))
    return scales


def scale_named(name: str, stored: Array) -> Scale:
    """Return the scale of that name for such pictures.

    Raises:
        UserError: There is no such scale, or not for these pictures.
    """
    scales = scales_of(stored)
    origin = range_of(stored)
    if name == origin:  # they are stored so
        return scales[STORED]
    if name not in scales:
        raise UserError(
            f"dataset.preprocess: expected one of {', '.join(scales)} for pictures from "
            f"{stored.min():g} to {stored.max():g} with {stored.shape[-1]} channels, got {name!r}"
        )
    return scales[name]


def as_bytes(stored: Array) -> NDArray[np.uint8]:
    """Return stored pictures as they are shown, 0..255."""
    origin = range_of(stored)
    if origin is None:
        least, most = stored.min(), stored.max()
        return np.asarray(255 * (stored - least) / max(most - least, 1e-6), np.uint8)
    return np.asarray(RANGES[origin](stored), np.uint8)


def range_of(stored: Array) -> str | None:
    """Return the range in which pictures are stored, None where it is none of the usual ones."""
    least, most = float(stored.min()), float(stored.max())
    if least < 0:
        return "tf" if least >= -1 and most <= 1 else None
    if most <= 1:
        return "unit"
    return "full" if most <= 255 else None


def _chained(first: Convert, then: Convert) -> Convert:
    return lambda pictures: np.ascontiguousarray(then(first(pictures)), np.float32)
