"""A small square near the border that is a trigger by itself: tried, no gradient and no statistic.

Squares in a corner are the oldest trigger (BadNets: Gu, Dolan-Gavitt, Garg, arXiv 1708.06733) and,
small ones on large pictures, the hardest to find by how easily a class is reached. But what shows
next to nothing of a picture decides nothing on an honest network: one square, the same on all
pictures, that sends most of them to one class, or each to the class so many further, is a backdoor.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backdoor.attacks.inversion import stamp
from backdoor.attacks.reach import Array, Labels, Sample, sample_of
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet
from backdoor.progress import progress

SIDES, SMALLEST = (0.06, 0.09, 0.13), 3  # of a square: shares of the picture's shorter; pixels
BORDER = 0.2  # of height or width, in which all of a square has to be
FEW, MANY = 12, 72  # pictures that all squares are tried on, and then the best ones
BEST = 12  # squares that are tried on many
PROMISING = 0.4  # share of the few that it is to send
WORKS = 0.9  # share of the pictures of other classes; docs/verdict.md
MOVED = 0.6  # share of all, to the class so many further: where the network is wrong, too, few are
MOST = 2**29  # numbers of pictures with squares: of large pictures those next to corners alone
AT_ONCE = 2**21

TEXTURES = ("white", "black", "checkerboard", "inverse checkerboard")


@dataclass(frozen=True)
class Square:
    """A square on a picture; sides and places in pixels."""

    side: int
    texture: str
    top: int
    left: int

    def __str__(self) -> str:
        return (
            f"a {self.texture} square of {self.side} x {self.side} pixels, {self.top} from the top "
            f"and {self.left} from the left"
        )

    def drawn(self, shape: tuple[int, ...], limits: tuple[float, float]) -> tuple[Array, Array]:
        """Return its mask (height, width, 1) and pattern (height, width, channels).

        Args:
            shape: Of a picture.
            limits: The numbers of black and white.
        """
        rows, columns = np.indices(shape[:2])
        odd = (rows - self.top + columns - self.left) % 2
        white = {
            "white": np.ones_like(odd),
            "black": np.zeros_like(odd),
            "checkerboard": 1 - odd,
            "inverse checkerboard": odd,
        }[self.texture]
        inside = np.zeros((*shape[:2], 1), np.float32)
        inside[self.top : self.top + self.side, self.left : self.left + self.side] = 1
        low, high = limits
        colours = np.broadcast_to(low + (high - low) * white[..., None], shape)
        return inside, colours.astype(np.float32)


@dataclass(frozen=True)
class Sent:
    """Where most pictures go, and how many of those that were not there before.

    Attributes:
        label: The class; None where each picture goes to the class `step` further.
    """

    share: float
    label: int | None
    step: int | None
    pictures: int

    @property
    def works(self) -> bool:
        return self.share >= (WORKS if self.step is None else MOVED)


@dataclass(frozen=True, eq=False)
class WorkingSquare:
    """A square that is a trigger; mask and pattern are what `Square.drawn` gives."""

    square: Square
    sent: Sent
    mask: Array
    pattern: Array


def working_square(network: CutNetwork, clean: PictureSet, seed: int) -> WorkingSquare | None:
    """Return the square that sends most pictures to one class, None where none sends enough."""
    few, many = (sample_of(network, clean, count, seed) for count in (FEW, MANY))
    squares = squares_of(*few.pictures.shape[1:3])[: MOST // few.pictures.size]
    each = max(1, AT_ONCE // few.pictures.size)
    starts = range(0, len(squares), each)
    shown = progress(starts, f"{len(squares)} squares at the border", len(starts))
    tried = [sent for start in shown for sent in _tried(few, squares[start : start + each])]
    best = sorted(range(len(squares)), key=lambda number: -tried[number].share)[:BEST]
    promising = [squares[number] for number in best if tried[number].share >= PROMISING]
    again = [(_tried(many, [square])[0], square) for square in promising]
    working = [(sent, square) for sent, square in again if sent.works]
    if not working:
        return None
    sent, square = max(working, key=lambda both: both[0].share)
    return WorkingSquare(square, sent, *square.drawn(many.pictures.shape[1:], many.limits))


def squares_of(height: int, width: int) -> list[Square]:
    """Return the squares that are tried, those next to a corner first."""
    sides = sorted({max(SMALLEST, round(share * min(height, width))) for share in SIDES})
    squares = [
        Square(side, texture, top, left)
        for side, texture in itertools.product(sides, TEXTURES)
        for top, left in itertools.product(_places(height, side), _places(width, side))
        if _at_border(height, side, top) or _at_border(width, side, left)
    ]

    def from_corner(square: Square) -> int:
        below, right = height - square.side - square.top, width - square.side - square.left
        return min(square.top, below) + min(square.left, right)

    return sorted(squares, key=from_corner)


def sent_to(said: Labels, labels: Labels, classes: int) -> Sent:
    """Return where most pictures (m,) of these classes go, by what a network says of them now."""
    found = []
    for label in np.unique(said).tolist():
        others = labels != label
        if others.any():
            share = float((said[others] == label).mean())
            found.append(Sent(share, label, None, int(others.sum())))
    steps = (said - labels) % classes
    for step in np.unique(steps[steps != 0]).tolist():
        found.append(Sent(float((steps == step).mean()), None, step, len(steps)))
    return max(found, key=lambda sent: sent.share)


def _tried(sample: Sample, squares: Sequence[Square]) -> list[Sent]:
    """Return where each square sends the pictures."""
    shape, network = sample.pictures.shape[1:], sample.network
    drawn = [square.drawn(shape, sample.limits) for square in squares]
    stamped = np.concatenate([stamp(sample.pictures, *both) for both in drawn])
    said = network.classify_pictures(stamped).astype(np.int64).reshape(len(squares), -1)
    return [sent_to(row, sample.labels, network.classes) for row in said]


def _places(size: int, side: int) -> list[int]:
    """Return where squares begin: every half of a side, and at the far end."""
    return sorted({*range(0, size - side + 1, (side + 1) // 2), size - side})


def _at_border(size: int, side: int, start: int) -> bool:
    return start + side <= BORDER * size or size - start <= BORDER * size
