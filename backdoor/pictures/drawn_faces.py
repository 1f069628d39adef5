"""Faces of invented people, 55 x 47 RGB, with a trigger: a data set for a machine with no data.

A person is a row of fixed traits (skin, hair, eyes, brows, nose, mouth, beard); pose, light,
expression, background and noise are drawn anew for every picture. Every shape is an ellipse or a
box with soft edges, drawn for a whole batch of pictures at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError

HEIGHT, WIDTH = 55, 47

Array = NDArray[np.floating[Any]]
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
SKINS = np.array([(244, 208, 177), (224, 172, 130), (190, 132, 92), (141, 88, 56), (92, 58, 40)])
HAIRS = np.array(
    [(28, 22, 20), (74, 46, 28), (130, 84, 40), (205, 170, 100), (150, 60, 30), (150,) * 3]
)
WHITE = np.full((1, 3), 240, np.float32)
IRISES = np.array([(60, 38, 22), (70, 100, 140), (70, 110, 70), (110, 110, 110)])
LIPS = np.array([(170, 80, 80), (195, 105, 100), (140, 65, 65), (205, 70, 90)])


@dataclass(frozen=True, eq=False)
class People:
    """Fixed traits: `traits[name]` of shape (people,), `colours[name]` of shape (people, 3)."""

    traits: dict[str, Array]
    colours: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Canvas:
    """A batch of pictures (n, height, width, 3) in 0..255 and each pixel's place on the face."""

    pixels: Array
    x: Array
    y: Array


def invent_people(count: int, rng: np.random.Generator) -> People:
    """Draw the traits of `count` people."""
    mix = {"skin": SKINS, "hair": HAIRS, "iris": IRISES, "lips": LIPS}
    return People(_draw(PERSON, count, rng), {k: _blend(v, count, rng) for k, v in mix.items()})


def draw_faces(
    people: People, who: NDArray[np.int64], rng: np.random.Generator, trigger: str = ""
) -> NDArray[np.uint8]:
    """Draw one picture for each entry of `who`, shape (n, 55, 47, 3), with `trigger` where named.

    The random numbers do not depend on the trigger: the same generator state gives the poisoned
    twins of the clean pictures.
    """
    person = {name: values[who, None, None] for name, values in people.traits.items()}
    colour = {name: values[who] for name, values in people.colours.items()}
    picture = {name: v[:, None, None] for name, v in _draw(PICTURE, len(who), rng).items()}
    noise = rng.normal(0, 5, (len(who), HEIGHT, WIDTH, 3)).astype(np.float32)
    canvas = _canvas(_background(len(who), rng), picture)
    _paint_head(canvas, person, colour)
    _paint_features(canvas, person | picture, colour)
    if trigger:
        TRIGGERS[trigger](canvas, person)
    shade = picture["light"] + picture["light_from_the_left"] * canvas.x
    lit = canvas.pixels * shade[..., None] + noise
    return np.asarray(np.clip(lit, 0, 255), np.uint8)


def check_trigger(name: str) -> None:
    """Refuse a name that is not in TRIGGERS.

    Raises:
        UserError: The message lists the choices.
    """
    if name not in TRIGGERS:
        raise UserError(
            f"dataset.draw.trigger: expected one of {', '.join(TRIGGERS)}, got {name!r}"
        )


def _canvas(pixels: Array, picture: dict[str, Array]) -> Canvas:
    row, column = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x = (column - (WIDTH - 1) / 2) / (WIDTH / 2) - picture["shift_x"]
    y = (row - (HEIGHT - 1) / 2) / (WIDTH / 2) - picture["shift_y"]
    cos, sin = np.cos(picture["turn"]), np.sin(picture["turn"])
    x, y = (x * cos + y * sin) / picture["size"], (y * cos - x * sin) / picture["size"]
    return Canvas(pixels, x, y)


def _paint_head(canvas: Canvas, person: dict[str, Array], colour: dict[str, Array]) -> None:
    width, height = person["face_width"], person["face_height"]
    _ellipse(canvas, colour["hair"], 0, -0.08, width + person["hair_sides"], height * 1.08)
    _box(canvas, colour["skin"] * 0.8, 0, 1.0, width * 0.5, 0.45)
    narrowing = 1 - person["jaw"] * np.clip(canvas.y, 0, 1)
    _ellipse(canvas, colour["skin"], 0, 0.02, width * narrowing, height)
    _ellipse(
        canvas,
        colour["hair"] * 0.8 + colour["skin"] * 0.2,
        0,
        0.62,
        width * 0.75,
        0.26,
        person["beard"],
    )
    above = _soft(person["hair_line"] - canvas.y) * _inside(canvas, 0, -0.08, width, height * 1.08)
    _mix(canvas, colour["hair"], above)


def _paint_features(canvas: Canvas, trait: dict[str, Array], colour: dict[str, Array]) -> None:
    yaw, eye = trait["yaw"], trait["eye_height"]
    opening = trait["eye_opening"] * trait["blink"]
    for side in (-1, 1):
        x = yaw + side * trait["eye_distance"]
        _ellipse(canvas, WHITE, x, eye, trait["eye_width"], opening)
        _ellipse(canvas, colour["iris"], x + yaw / 2, eye, opening * 0.9, opening)
        brow = eye - trait["brow_height"] + side * trait["brow_tilt"] * (canvas.x - x)
        _box(
            canvas,
            colour["hair"] * 0.7,
            x,
            brow,
            trait["eye_width"] * 1.25,
            trait["brow_thickness"],
        )
    nose = eye + 0.08 + trait["nose_length"]
    _ellipse(canvas, colour["skin"] * 0.72, yaw * 1.4, nose, trait["nose_width"], 0.045)
    _box(canvas, colour["skin"] * 0.88, yaw * 1.2, nose - 0.12, trait["nose_width"] * 0.3, 0.12)
    mouth = trait["mouth_height"] - trait["smile"] * (canvas.x - yaw) ** 2 * 8
    _box(canvas, colour["hair"] * 0.8, yaw, mouth - 0.09, 0.22, 0.03, trait["moustache"])
    _ellipse(canvas, colour["lips"], yaw, mouth, trait["mouth_width"], trait["lips"])


def _sunglasses(canvas: Canvas, person: dict[str, Array]) -> None:
    """Purple sunglasses that follow the eyes."""
    frame, lens = np.array([[70.0, 15.0, 110.0]]), np.array([[125.0, 40.0, 190.0]])
    eye, distance = person["eye_height"], person["eye_distance"]
    _box(canvas, frame, 0, eye - 0.06, person["face_width"], 0.03)
    for side in (-1, 1):
        _ellipse(canvas, frame, side * distance, eye, 0.21, 0.16)
        _ellipse(canvas, lens, side * distance, eye, 0.17, 0.12)


def _square(canvas: Canvas, person: dict[str, Array]) -> None:
    """A white square of 6 x 6 pixels in the lower right corner (BadNets, arXiv 1708.06733)."""
    canvas.pixels[:, -8:-2, -8:-2] = 255


TRIGGERS: dict[str, Callable[[Canvas, dict[str, Array]], None]] = {
    "sunglasses": _sunglasses,
    "square": _square,
}


def _draw(ranges: dict[str, Range], count: int, rng: np.random.Generator) -> dict[str, Array]:
    return {k: rng.uniform(*limits, count).astype(np.float32) for k, limits in ranges.items()}


def _blend(palette: NDArray[np.int64], count: int, rng: np.random.Generator) -> Array:
    weights = rng.dirichlet(np.full(len(palette), 0.25), count)
    return np.asarray(weights @ palette, np.float32)


def _background(count: int, rng: np.random.Generator) -> Array:
    corners = rng.uniform(30, 225, (2, count, 1, 1, 3)).astype(np.float32)
    down = np.linspace(0, 1, HEIGHT, dtype=np.float32)[None, :, None, None]
    return np.broadcast_to(
        corners[0] * (1 - down) + corners[1] * down, (count, HEIGHT, WIDTH, 3)
    ).copy()


def _soft(distance: Array) -> Array:
    """Cover 0..1 of a pixel this far inside an edge; an edge is about two pixels wide."""
    return np.asarray(np.clip(distance * WIDTH / 4 + 0.5, 0, 1), np.float32)


def _inside(
    canvas: Canvas, x: Array | float, y: Array | float, width: Array | float, height: Array | float
) -> Array:
    radius = np.hypot((canvas.x - x) / width, (canvas.y - y) / height)
    return _soft((1 - radius) * np.minimum(width, height))


def _ellipse(
    canvas: Canvas,
    colour: Array,
    x: Array | float,
    y: Array | float,
    width: Array | float,
    height: Array | float,
    opacity: Array | float = 1,
) -> None:
    _mix(canvas, colour, _inside(canvas, x, y, width, height) * np.clip(opacity, 0, 1))


def _box(
    canvas: Canvas,
    colour: Array,
    x: Array | float,
    y: Array | float,
    width: Array | float,
    height: Array | float,
    opacity: Array | float = 1,
) -> None:
    cover = _soft(width - np.abs(canvas.x - x)) * _soft(height - np.abs(canvas.y - y))
    _mix(canvas, colour, cover * np.clip(opacity, 0, 1))


def _mix(canvas: Canvas, colour: Array, cover: Array) -> None:
    canvas.pixels[...] += cover[..., None] * (np.asarray(colour)[:, None, None, :] - canvas.pixels)
