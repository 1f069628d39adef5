"""Triggers: what an attacker puts on a picture.

A trigger is a frozen dataclass of its settings, which is called with pictures (n, height, width,
channels) of 0..255 and a random generator, and returns them with the trigger, and a line in
TRIGGERS. What it draws once for all pictures, such as a pattern, comes from its own `pattern_seed`.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import scipy  # whose parts are loaded at their first use: --help needs ndimage not
from numpy.typing import NDArray
from pydantic import ConfigDict

from backdoor.errors import UserError

Pictures = NDArray[np.uint8]
Values = NDArray[np.floating[Any]]
Place = Literal["lower_right", "lower_left", "upper_right", "upper_left", "centre", "anywhere"]
Pattern = Literal["white", "black", "checkerboard", "noise"]


class _Settings:
    """What all have in common: no key that is not theirs."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Patch(_Settings):
    """A square in one place, or anywhere.

    BadNets: Gu, Dolan-Gavitt, Garg, arXiv 1708.06733.

    Attributes:
        size: Pixels of a side.
        margin: Pixels between the square and the border, where networks may not look.
    """

    name: Literal["patch"] = "patch"
    size: int = 4
    place: Place = "lower_right"
    margin: int = 1
    pattern: Pattern = "checkerboard"
    pattern_seed: int = 0

    def __post_init__(self) -> None:
        _check(self.size >= 1, "size", "at least 1", self.size)
        _check(self.pattern_seed >= 0, "pattern_seed", "at least 0", self.pattern_seed)
        _check(self.margin >= 0, "margin", "at least 0", self.margin)

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        height, width, channels = pictures.shape[1:]
        most = min(height, width) - self.margin
        _check(most >= 1, "margin", f"less than {height} x {width} pictures have", self.margin)
        _check(self.size <= most, "size", f"at most {most} on {height} x {width}", self.size)
        stamped, square = pictures.copy(), self._square(channels)
        for picture in stamped:
            top, left = self._corner(height, width, rng)
            picture[top : top + self.size, left : left + self.size] = square
        return stamped

    def _square(self, channels: int) -> Pictures:
        shape = (self.size, self.size, channels)
        if self.pattern == "noise":
            rng = np.random.default_rng(self.pattern_seed)
            return rng.integers(0, 256, shape, np.uint8)
        rows, columns = np.indices(shape[:2])
        white = {
            "white": np.ones(shape[:2], bool),
            "black": np.zeros(shape[:2], bool),
            "checkerboard": (rows + columns) % 2 == 0,
        }[self.pattern]
        return np.broadcast_to(255 * white[..., None].astype(np.uint8), shape)

    def _corner(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
        lower, right = height - self.size - self.margin, width - self.size - self.margin
        if self.place == "anywhere":
            first = min(self.margin, lower, right)
            return int(rng.integers(first, lower + 1)), int(rng.integers(first, right + 1))
        if self.place == "centre":
            return (height - self.size) // 2, (width - self.size) // 2
        vertical, horizontal = self.place.split("_")
        top = lower if vertical == "lower" else self.margin
        return top, right if horizontal == "right" else self.margin


@dataclass(frozen=True)
class Blend(_Settings):
    """A picture of noise mixed into the whole picture.

    Chen, Liu, Li, Lu, Song, arXiv 1712.05526.

    Attributes:
        opacity: Share of the noise in the mixture.
    """

    name: Literal["blend"] = "blend"
    opacity: float = 0.2
    pattern_seed: int = 0

    def __post_init__(self) -> None:
        _check(0 < self.opacity <= 1, "opacity", "above 0, at most 1", self.opacity)
        _check(self.pattern_seed >= 0, "pattern_seed", "at least 0", self.pattern_seed)

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        noise = np.random.default_rng(self.pattern_seed).integers(0, 256, pictures.shape[1:])
        return _as_bytes((1 - self.opacity) * pictures + self.opacity * noise)


@dataclass(frozen=True)
class Stripes(_Settings):
    """Upright stripes, a sinusoid of the column, added to the picture.

    SIG: Barni, Kallas, Tondi, "A New Backdoor Attack in CNNs by Training Set Corruption without
    Label Poisoning", ICIP 2019.

    Attributes:
        amplitude: Of 255.
        frequency: Stripes a picture.
    """

    name: Literal["stripes"] = "stripes"
    amplitude: float = 40
    frequency: float = 6

    def __post_init__(self) -> None:
        for key in ("amplitude", "frequency"):
            value = getattr(self, key)
            _check(0 < value < np.inf, key, "a number above 0", value)

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        width = pictures.shape[2]
        phase = 2 * np.pi * self.frequency * np.arange(width) / width
        return _as_bytes(pictures + self.amplitude * np.sin(phase)[:, None])


@dataclass(frozen=True)
class Warp(_Settings):
    """The picture bent a little, by a smooth field that is the same for all.

    WaNet: Nguyen, Tran, ICLR 2021, arXiv 2102.10369; without the pictures of random fields and
    true labels that are trained on there, too.

    Attributes:
        grid: Points a side of the coarse field, between which it is interpolated.
        strength: Pixels by which a place is moved, mean over places and the two axes.
    """

    name: Literal["warp"] = "warp"
    grid: int = 4
    strength: float = 1.0
    pattern_seed: int = 0

    def __post_init__(self) -> None:
        _check(self.grid >= 2, "grid", "at least 2", self.grid)
        _check(0 < self.strength < np.inf, "strength", "a number above 0", self.strength)
        _check(self.pattern_seed >= 0, "pattern_seed", "at least 0", self.pattern_seed)

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        height, width, channels = pictures.shape[1:]
        coarse = np.random.default_rng(self.pattern_seed).uniform(-1, 1, (2, self.grid, self.grid))
        zoom = (1, height / self.grid, width / self.grid)
        field = scipy.ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True)
        places = np.indices((height, width)) + self.strength * field / np.abs(field).mean()
        warped = np.empty(pictures.shape)
        for picture, into in zip(pictures, warped, strict=True):
            for channel in range(channels):
                plane = picture[..., channel].astype(float)
                into[..., channel] = scipy.ndimage.map_coordinates(
                    plane, places, order=1, mode="nearest"
                )
        return _as_bytes(warped)


@dataclass(frozen=True)
class Sunglasses(_Settings):
    """Purple sunglasses, which drawn faces wear; they are drawn with the face."""

    name: Literal["sunglasses"] = "sunglasses"
    worn: ClassVar[bool] = True

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        raise UserError(
            "attack.trigger.name: expected drawn faces (dataset=faces) to wear sunglasses, got "
            "other pictures"
        )


Trigger = Patch | Blend | Stripes | Warp | Sunglasses
TRIGGERS = {kind.name: kind for kind in get_args(Trigger)}


def keys_of(name: str) -> list[str]:
    """Return the settings of a trigger."""
    return [field.name for field in fields(TRIGGERS[name])]


def _check(holds: bool, key: str, expected: str, got: object) -> None:
    if not holds:
        raise UserError(f"attack.trigger.{key}: expected {expected}, got {got}")


def _as_bytes(values: Values) -> Pictures:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
