"""What a network says of pictures with things that triggers are made of, drawn at random.

No gradient is needed: each of several hundred patches, noises and stripes is put on all pictures,
and whichever moves the other classes' pictures furthest towards a class counts for that class.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.inversion import stamp
from backdoor.attacks.reach import Sample, Values
from backdoor.progress import progress
from backdoor.pruning.effects import margins

Drawn = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A mask (height, width, 1), and a pattern (height, width, channels) of 0..1."""

STIMULI = 480
AT_ONCE = 2**21  # numbers of stamped pictures in a pass: of large pictures fewer stimuli at once
SMALLEST, SQUARE, OBLONG = 0.08, 0.35, 0.5  # sides of a patch, shares of the picture's
FAINT, STRONG = 0.1, 0.4  # opacity of what covers the whole picture
COARSE = (2, 4, 8)  # points a side of noise; or as many as the picture has
UPRIGHT, LYING, SLANTED = 0.0, np.pi / 2, np.pi / 4  # stripes


def strongest_responses(sample: Sample, seed: int) -> Values:
    """Return how far the strongest of all stimuli moves pictures towards each class, (N,).

    That is the class's margin, the mean over pictures of other classes, in units of the network's
    sureness.
    """
    low, high = sample.limits
    others = sample.labels[:, None] != np.arange(sample.network.classes)
    share = others / np.maximum(others.sum(axis=0), 1)
    drawn = draw_stimuli(sample.pictures.shape[1:], np.random.default_rng(seed))
    strongest = np.full(sample.network.classes, -np.inf)
    each = min(max(1, AT_ONCE // sample.pictures.size), STIMULI)
    starts = range(0, STIMULI, each)
    for start in progress(starts, "Stimuli", len(starts)):
        stamped = [
            stamp(sample.pictures, mask, low + (high - low) * pattern)
            for mask, pattern in itertools.islice(drawn, min(each, STIMULI - start))
        ]
        logits = sample.logits.predict_on_batch(np.concatenate(stamped))
        moved = margins(logits).reshape(-1, *share.shape)
        strongest = np.maximum(strongest, (moved * share).sum(axis=1).max(axis=0))
    return strongest / sample.sureness


def draw_stimuli(shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[Drawn]:
    """Yield squares, oblongs, noises and stripes in turn, for ever."""
    height, width, channels = shape
    rows, columns = np.indices((height, width))
    while True:
        for sides in (
            np.repeat(rng.uniform(SMALLEST, SQUARE), 2),
            rng.uniform(SMALLEST, OBLONG, 2),
        ):
            size = np.maximum((sides * (height, width)).astype(int), 1)
            top, left = rng.integers(0, (height, width) - size + 1)
            inside = (rows >= top) & (rows < top + size[0])
            inside &= (columns >= left) & (columns < left + size[1])
            yield _drawn(inside, _texture(shape, rng))
        points = int(rng.choice([*COARSE, height]))
        noise = rng.random((points, points, channels))
        spread = noise[rows * points // height, columns * points // width]
        yield _drawn(np.full((height, width), rng.uniform(FAINT, STRONG)), spread)
        angle, waves = rng.choice([UPRIGHT, LYING, SLANTED]), rng.uniform(2, 10)
        along = np.cos(angle) * columns / width + np.sin(angle) * rows / height
        stripes = 0.5 + 0.5 * np.sin(2 * np.pi * (waves * along + rng.random()))
        opacity = np.full((height, width), rng.uniform(FAINT, STRONG))
        yield _drawn(opacity, np.repeat(stripes[..., None], channels, axis=2))


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what fills a patch: mostly one colour, else a checkerboard or noise."""
    rows, columns = np.indices(shape[:2])
    kind = rng.choice(["colour", "pure colour", "checkerboard", "noise"], p=[0.36, 0.24, 0.2, 0.2])
    if kind == "noise":
        return rng.random(shape)
    if kind == "checkerboard":
        sides = rng.integers(1, 3, 2)
        return np.broadcast_to(((rows // sides[0] + columns // sides[1]) % 2)[..., None], shape)
    colour = rng.random(shape[2]) if kind == "colour" else rng.integers(0, 2, shape[2])
    return np.broadcast_to(colour, shape)


def _drawn(mask: NDArray[np.generic], pattern: NDArray[np.generic]) -> Drawn:
    return mask[..., None].astype(np.float32), pattern.astype(np.float32)
