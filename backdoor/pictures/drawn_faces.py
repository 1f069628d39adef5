"""Faces of invented people, 55 x 47 RGB, some with sunglasses: data for a machine that has none.

A person is a row of fixed traits (skin, hair, eyes, brows, nose, mouth, beard); pose, light,
expression, background and noise are drawn anew for every picture. Every shape is an ellipse or a
box with soft edges, drawn for a whole batch of pictures at once.

The bytes are the same on every processor. Random numbers are the generator's raw output, whose
stream NumPy guarantees; pixels are made of float32 sums, products, quotients and square roots, one
operation at a time, each of which IEEE 754 fixes to the last bit. What it does not fix (sin, exp,
sums of arrays, matrix products) is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 55, 47
SHAPE = (HEIGHT, WIDTH, 3)
SUNGLASSES = "sunglasses"  # what a face may wear
BACKGROUND = 8  # random numbers of a picture's background
NOISE = 5.0  # standard deviation, of 255

Array = NDArray[np.floating[Any]]  # of 32 bits
Number = Array | float
Raw = NDArray[np.uint64]
Range = tuple[float, float]

# Lengths are in units of half a picture's width; the face is centred on (0, 0), y points down.
PERSON: dict[str, Range] = {
    "face_width": (0.50, 0.68),
    "face_height": (0.72, 0.90),
    "jaw": (0.0, 0.35),
    "hair_line": (-0.72, -0.42),
    "hair_sides": (0.02, 0.22),
    "eye_distance": (0.20, 0.30),
    "eye_height": (-0.22, -0.08),
    "eye_width": (0.085, 0.14),
    "eye_opening": (0.04, 0.075),
    "brow_height": (0.11, 0.19),
    "brow_thickness": (0.02, 0.06),
    "brow_tilt": (-0.25, 0.25),
    "nose_length": (0.14, 0.30),
    "nose_width": (0.05, 0.13),
    "mouth_height": (0.36, 0.50),
    "mouth_width": (0.14, 0.28),
    "lips": (0.025, 0.065),
    "beard": (-0.9, 1.0),
    "moustache": (-0.9, 1.0),
}
PICTURE: dict[str, Range] = {
    "shift_x": (-0.08, 0.08),
    "shift_y": (-0.08, 0.08),
    "turn": (-0.10, 0.10),
    "size": (0.94, 1.08),
    "yaw": (-0.07, 0.07),
    "smile": (-0.12, 0.22),
    "blink": (0.65, 1.1),
    "light": (0.80, 1.15),
    "light_from_the_left": (-0.22, 0.22),
}
COLOURS: dict[str, Sequence[tuple[int, int, int]]] = {
    "skin": [(244, 208, 177), (224, 172, 130), (190, 132, 92), (141, 88, 56), (92, 58, 40)],
    "hair": [
        (28, 22, 20), (74, 46, 28), (130, 84, 40), (205, 170, 100), (150, 60, 30), (150, 150, 150),
    ],
    "iris": [(60, 38, 22), (70, 100, 140), (70, 110, 70), (110, 110, 110)],
    "lips": [(170, 80, 80), (195, 105, 100), (140, 65, 65), (205, 70, 90)],
}  # fmt: skip
WHITE, FRAME, LENS = (
    np.array([rgb], np.float32) for rgb in ((240, 240, 240), (70, 15, 110), (150, 0, 255))
)
BRIGHTNESS, TINT = (30.0, 225.0), (-15.0, 15.0)  # of the background, and of each colour in it


@dataclass(frozen=True, eq=False)
class People:
    """Fixed traits: `traits[name]` of shape (people,), `colours[name]` of shape (people, 3)."""

    traits: dict[str, Array]
    colours: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Canvas:
    """A batch of pictures (n, 3, height, width) in 0..255 and each pixel's place on the face."""

    pixels: Array
    x: Array
    y: Array


def invent_people(count: int, seed: Sequence[int]) -> People:
    """Draw the traits of `count` people."""
    raw = _raw(seed, count * (len(PERSON) + 3 * len(COLOURS))).reshape(-1, count)
    mixes = np.split(raw[len(PERSON) :], len(COLOURS))
    colours = {name: _mixed(COLOURS[name], *mix) for name, mix in zip(COLOURS, mixes, strict=True)}
    return People(_within(PERSON, raw), colours)


def draw_faces(
    people: People,
    who: NDArray[np.int64],
    seed: Sequence[int],
    numbers: Sequence[int] | NDArray[np.int64],
    worn: str = "",
) -> NDArray[np.uint8]:
    """Draw a picture of each person of `who`, shape (n, 55, 47, 3).

    A picture depends on its person, seed and number alone, so that any can be drawn by itself, and
    what a face wears changes nothing else of it.

    Args:
        numbers: One a picture.
        worn: `sunglasses`, or nothing.
    """
    noises = HEIGHT * WIDTH * 3 // 4 + 1  # of a number's 8 bytes two go into each
    count = len(PICTURE) + BACKGROUND + noises
    raw = np.stack([_raw((*seed, int(number)), count) for number in numbers], axis=1)
    picture = {name: v[:, None, None] for name, v in _within(PICTURE, raw).items()}
    canvas = _canvas(_background(raw[len(PICTURE) : len(PICTURE) + BACKGROUND]), picture)
    person = {name: values[who, None, None] for name, values in people.traits.items()}
    colour = {name: values[who] for name, values in people.colours.items()}
    _paint_head(canvas, person, colour)
    _paint_features(canvas, person | picture, colour)
    if worn == SUNGLASSES:
        _paint_sunglasses(canvas, person)
    shade = picture["light"] + picture["light_from_the_left"] * canvas.x
    lit = canvas.pixels * shade[:, None] + _noise(raw[-noises:])
    return np.ascontiguousarray(np.moveaxis(np.clip(lit, 0, 255).astype(np.uint8), 1, -1))


def _raw(seed: Sequence[int], count: int) -> Raw:
    return np.asarray(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count))


def _unit(raw: Raw) -> Array:
    """Return numbers in [0, 1), as many as float32 holds exactly."""
    return np.asarray((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))


def _between(limits: Range, raw: Raw) -> Array:
    low, high = np.float32(limits[0]), np.float32(limits[1])
    return low + (high - low) * _unit(raw)


def _within(ranges: dict[str, Range], raw: Raw) -> dict[str, Array]:
    """Return a number in each range for every column of raw (rows, n)."""
    return {name: _between(ranges[name], row) for name, row in zip(ranges, raw, strict=False)}


def _mixed(palette: Sequence[tuple[int, int, int]], first: Raw, second: Raw, share: Raw) -> Array:
    """Return colours (n, 3) between two of a palette, mostly close to the first."""
    colours, size = np.array(palette, np.float32), np.uint64(len(palette))
    weight = _unit(share)[:, None]
    weight = weight * weight
    one, other = colours[(first >> np.uint64(8)) % size], colours[(second >> np.uint64(8)) % size]
    return np.asarray(one + weight * (other - one))


def _noise(raw: Raw) -> Array:
    """Return the sum of two random bytes about their mean, scaled, (n, 3, height, width)."""
    pairs = np.ascontiguousarray(raw.T).astype("<u8").view(np.uint8).reshape(raw.shape[1], -1, 2)
    sums = (pairs[..., 0].astype(np.float32) + pairs[..., 1])[:, : HEIGHT * WIDTH * 3]
    deviation = (2 * (256**2 - 1) / 12) ** 0.5
    return ((sums - 255) * np.float32(NOISE / deviation)).reshape(-1, 3, HEIGHT, WIDTH)


def _background(raw: Raw) -> Array:
    """Return a muted colour at the top that becomes another at the bottom, from raw (8, n)."""
    top, bottom = (
        (_between(BRIGHTNESS, half[0]) + _between(TINT, half[1:])).T[:, :, None, None]
        for half in np.split(raw, 2)
    )
    down = (np.arange(HEIGHT, dtype=np.float32) / np.float32(HEIGHT - 1))[:, None]
    return np.repeat(top + (bottom - top) * down, WIDTH, axis=3)


def _canvas(pixels: Array, picture: dict[str, Array]) -> Canvas:
    row, column = (axis.astype(np.float32) for axis in np.mgrid[:HEIGHT, :WIDTH])
    x = (column - (WIDTH - 1) / 2) / (WIDTH / 2) - picture["shift_x"]
    y = (row - (HEIGHT - 1) / 2) / (WIDTH / 2) - picture["shift_y"]
    turn = picture["turn"]  # so small that two terms of each series do
    cos, sin = 1 - turn * turn / 2, turn - turn * turn * turn / 6
    x, y = (x * cos + y * sin) / picture["size"], (y * cos - x * sin) / picture["size"]
    return Canvas(pixels, x, y)


def _paint_head(canvas: Canvas, person: dict[str, Array], colour: dict[str, Array]) -> None:
    width, height = person["face_width"], person["face_height"]
    skin, hair = colour["skin"], colour["hair"]
    _ellipse(canvas, hair, 0, -0.08, width + person["hair_sides"], height * 1.08)
    _box(canvas, skin * 0.8, 0, 1.0, width * 0.5, 0.45)
    narrowing = 1 - person["jaw"] * np.clip(canvas.y, 0, 1)
    _ellipse(canvas, skin, 0, 0.02, width * narrowing, height)
    _ellipse(canvas, hair * 0.8 + skin * 0.2, 0, 0.62, width * 0.75, 0.26, person["beard"])
    above = _soft(person["hair_line"] - canvas.y) * _inside(canvas, 0, -0.08, width, height * 1.08)
    _mix(canvas, hair, above)


def _paint_features(canvas: Canvas, trait: dict[str, Array], colour: dict[str, Array]) -> None:
    yaw, eye = trait["yaw"], trait["eye_height"]
    opening = trait["eye_opening"] * trait["blink"]
    brow_width, thickness = trait["eye_width"] * 1.25, trait["brow_thickness"]
    for side in (-1, 1):
        x = yaw + side * trait["eye_distance"]
        _ellipse(canvas, WHITE, x, eye, trait["eye_width"], opening)
        _ellipse(canvas, colour["iris"], x + yaw / 2, eye, opening * 0.9, opening)
        brow = eye - trait["brow_height"] + side * trait["brow_tilt"] * (canvas.x - x)
        _box(canvas, colour["hair"] * 0.7, x, brow, brow_width, thickness)
    nose = eye + 0.08 + trait["nose_length"]
    _ellipse(canvas, colour["skin"] * 0.72, yaw * 1.4, nose, trait["nose_width"], 0.045)
    _box(canvas, colour["skin"] * 0.88, yaw * 1.2, nose - 0.12, trait["nose_width"] * 0.3, 0.12)
    across = canvas.x - yaw
    mouth = trait["mouth_height"] - trait["smile"] * across * across * 8
    _box(canvas, colour["hair"] * 0.8, yaw, mouth - 0.09, 0.22, 0.03, trait["moustache"])
    _ellipse(canvas, colour["lips"], yaw, mouth, trait["mouth_width"], trait["lips"])


def _paint_sunglasses(canvas: Canvas, person: dict[str, Array]) -> None:
    """Paint purple ones that follow the eyes."""
    eye, distance = person["eye_height"], person["eye_distance"]
    _box(canvas, FRAME, 0, eye - 0.06, person["face_width"], 0.03)
    for side in (-1, 1):
        _ellipse(canvas, FRAME, side * distance, eye, 0.21, 0.16)
        _ellipse(canvas, LENS, side * distance, eye, 0.17, 0.12)


def _soft(distance: Array) -> Array:
    """Cover 0..1 of a pixel this far inside an edge; an edge is about two pixels wide."""
    return np.asarray(np.clip(distance * (WIDTH / 4) + 0.5, 0, 1), np.float32)


def _inside(canvas: Canvas, x: Number, y: Number, width: Number, height: Number) -> Array:
    across, down = (canvas.x - x) / width, (canvas.y - y) / height
    return _soft((1 - np.sqrt(across * across + down * down)) * np.minimum(width, height))


def _ellipse(
    canvas: Canvas,
    colour: Array,
    x: Number,
    y: Number,
    width: Number,
    height: Number,
    opacity: Number = 1,
) -> None:
    _mix(canvas, colour, _inside(canvas, x, y, width, height) * np.clip(opacity, 0, 1))


def _box(
    canvas: Canvas,
    colour: Array,
    x: Number,
    y: Number,
    width: Number,
    height: Number,
    opacity: Number = 1,
) -> None:
    cover = _soft(width - np.abs(canvas.x - x)) * _soft(height - np.abs(canvas.y - y))
    _mix(canvas, colour, cover * np.clip(opacity, 0, 1))


def _mix(canvas: Canvas, colour: Array, cover: Array) -> None:
    canvas.pixels[...] += cover[:, None] * (colour[:, :, None, None] - canvas.pixels)
