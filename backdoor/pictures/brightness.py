"""Between which numbers clean pictures lie, by which those in another scale are noticed."""

from dataclasses import dataclass

import numpy as np

from backdoor.pictures.picture_set import PictureSet, evenly, read_stored
from backdoor.pictures.scale import range_of

LOOKED_AT = 256  # pictures
NEARLY_ALL = 0.95
ENDS = {"full": (0, 255), "unit": (0, 1), "tf": (-1, 1)}


@dataclass(frozen=True)
class Brightness:
    """Numbers of clean pictures, as the network takes them.

    Attributes:
        low, high: Ends of the scale; of an unknown one, of what was seen.
        darkest, brightest: Of clean pictures, nearly all have a number of at most `darkest` and one
            of at least `brightest`.
    """

    low: float
    high: float
    darkest: float
    brightest: float


def brightness(pictures: PictureSet) -> Brightness:
    """Return the numbers of a set of clean pictures, by some of them."""
    stored = read_stored(pictures, evenly(pictures, LOOKED_AT))
    seen = pictures.scale.apply(stored)
    ends = ENDS.get(range_of(stored) or "", (stored.min(), stored.max()))
    scaled = [pictures.scale.apply(np.full_like(stored[:1], end)) for end in ends]
    within = tuple(range(1, seen.ndim))
    return Brightness(
        low=float(np.min(scaled)),
        high=float(np.max(scaled)),
        darkest=float(np.quantile(seen.min(axis=within), NEARLY_ALL, method="higher")),
        brightest=float(np.quantile(seen.max(axis=within), 1 - NEARLY_ALL, method="lower")),
    )
