"""A small square near the border that is a trigger by itself: tried, no gradient and no statistic.

Squares in a corner are the oldest trigger (BadNets: Gu, Dolan-Gavitt, Garg, arXiv 1708.06733) and,
small ones on large pictures, the hardest to find by how easily a class is reached. But what hides
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
WORKS = 0.9  # share of the pictures of other classes; docs/verdict.md
MOVED = 0.6  # share of all, to the class so many further; mean over the classes
LEAST, LEAST_CLASSES = 20, 4  # pictures, classes that tell
MOST = 2**29  # numbers of pictures with squares: of large pictures those next to corners alone
AT_ONCE = 2**21

TEXTURES = ("white", "black", "checkerboard", "shifted checkerboard")


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

    def drawn(self, shape: tuple[int, ...], black: Array, white: Array) -> tuple[Array, Array]:
        """Return its mask (height, width, 1) and pattern (height, width, channels).

        Args:
            shape: Of a picture.
            black, white: What they are in each channel, (channels,).
        """
        rows, columns = np.indices(shape[:2])
        odd = (rows - self.top + columns - self.left) % 2
        bright = {
            "white": np.ones_like(odd),
            "black": np.zeros_like(odd),
            "checkerboard": 1 - odd,
            "shifted checkerboard": odd,
        }[self.texture]
        inside = np.zeros((*shape[:2], 1), np.float32)
        inside[self.top : self.top + self.side, self.left : self.left + self.side] = 1
        return inside, np.where(bright[..., None], white, black).astype(np.float32)


@dataclass(frozen=True)
class Sent:
    """Where most pictures go that the network was right on.

    Attributes:
        share: Of those of other classes; where each goes further, the mean over the classes.
        label: The class; None where each picture goes to the class `step` further.
        pictures: How many these are.
        classes: How many classes they are of.
    """

    share: float
    label: int | None
    step: int | None
    pictures: int
    classes: int

    @property
    def strength(self) -> float:
        """The share in units of the one that it takes."""
        return self.share / (WORKS if self.step is None else MOVED)

    @property
    def works(self) -> bool:
        enough = self.pictures >= LEAST and (self.step is None or self.classes >= LEAST_CLASSES)
        return enough and self.strength >= 1


@dataclass(frozen=True, eq=False)
class TriedSquare:
    """The best of the squares that were tried; mask and pattern are what `Square.drawn` gives."""

    square: Square
    sent: Sent
    mask: Array
    pattern: Array


def best_square(network: CutNetwork, clean: PictureSet, seed: int) -> TriedSquare | None:
    """Return the square that sends most pictures to one class, or each to one so many further.

    None where the pictures are so small that no square is, or the network is right on none.
    """
    few, many = (_right(sample_of(network, clean, count, seed)) for count in (FEW, MANY))
    shape = many.pictures.shape[1:]
    squares = squares_of(*shape[:2])
    if not len(few.labels) or not squares:
        return None
    corners = sum(_from_corner(square, *shape[:2]) == 0 for square in squares)
    squares = squares[: max(corners, MOST // few.pictures.size)]
    black, white = (ends(many.pictures, axis=(0, 1, 2)) for ends in (np.min, np.max))

    def tried_on(sample: Sample, some: Sequence[Square]) -> list[Sent]:
        drawn = [square.drawn(shape, black, white) for square in some]
        stamped = np.concatenate([stamp(sample.pictures, *both) for both in drawn])
        said = network.classify_pictures(stamped).astype(np.int64).reshape(len(some), -1)
        return [sent_to(row, sample.labels, network.classes) for row in said]

    each = max(1, AT_ONCE // few.pictures.size)
    starts = range(0, len(squares), each)
    shown = progress(starts, f"{len(squares)} squares at the border", len(starts))
    tried = [sent for start in shown for sent in tried_on(few, squares[start : start + each])]
    first = sorted(range(len(squares)), key=lambda number: -tried[number].strength)[:BEST]
    again = [(tried_on(many, [squares[number]])[0], squares[number]) for number in first]
    sent, square = max(again, key=lambda both: both[0].strength)
    return TriedSquare(square, sent, *square.drawn(shape, black, white))


def squares_of(height: int, width: int) -> list[Square]:
    """Return the squares that are tried, those in a corner first."""
    shorter = min(height, width)
    sides = sorted({max(SMALLEST, round(share * shorter)) for share in SIDES})
    squares = [
        Square(side, texture, top, left)
        for side, texture in itertools.product(sides, TEXTURES)
        if side <= shorter
        for top, left in itertools.product(_places(height, side), _places(width, side))
        if _at_border(height, side, top) or _at_border(width, side, left)
    ]
    return sorted(squares, key=lambda square: _from_corner(square, height, width))


def sent_to(said: Labels, labels: Labels, classes: int) -> Sent:
    """Return where most pictures (m,) of these classes go, by what a network says of them now."""
    there = np.unique(labels)
    found = [Sent(0, int(labels[0]), None, 0, 0)]
    for label in np.unique(said).tolist():
        others = labels != label
        if others.any():
            share = float((said[others] == label).mean())
            found.append(Sent(share, label, None, int(others.sum()), int((there != label).sum())))
    steps = (said - labels) % classes
    for step in np.unique(steps[steps != 0]).tolist():
        share = float(np.mean([(steps[labels == label] == step).mean() for label in there]))
        found.append(Sent(share, None, step, len(labels), len(there)))
    return max(found, key=lambda sent: sent.strength)


def _right(sample: Sample) -> Sample:
    """Return the pictures that the network is right on: what others are sent to is their own."""
    right = sample.network.classify_pictures(sample.pictures) == sample.labels
    return Sample(sample.network, sample.pictures[right], sample.labels[right])


def _places(size: int, side: int) -> list[int]:
    """Return where squares begin: every half of a side, and at the far end."""
    return sorted({*range(0, size - side + 1, (side + 1) // 2), size - side})


def _at_border(size: int, side: int, start: int) -> bool:
    return start + side <= BORDER * size or size - start <= BORDER * size


def _from_corner(square: Square, height: int, width: int) -> int:
    below, right = height - square.side - square.top, width - square.side - square.left
    return min(square.top, below) + min(square.left, right)
