"""A few pictures of both test sets, with what the networks say of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backdoor.pictures.picture_set import PictureSet, read_stored
from backdoor.pictures.scale import as_bytes
from backdoor.pictures.test_bed import POISONED_TEST

if TYPE_CHECKING:
    from backdoor.detection import Outcome, Threshold

SHOWN = 6  # pictures of each test set
UNKNOWN = -1  # the class of a poisoned picture whose file keeps only the target


@dataclass(frozen=True, eq=False)
class Samples:
    """Pictures (n, height, width, channels); of each its class, labels, and whether poisoned."""

    pictures: NDArray[np.uint8]
    truth: NDArray[np.int64]
    badnet: NDArray[np.int64]
    pruned: NDArray[np.int64]
    goodnet: NDArray[np.int64]
    poisoned: NDArray[np.bool_]


def sample_pictures(
    outcome: "Outcome", threshold: "Threshold", rng: np.random.Generator
) -> Samples:
    """Draw pictures of the test sets at random, with what B, B' and G say of them."""
    parts = []
    for name, pictures in outcome.bed.tests.items():
        sample = np.sort(rng.choice(len(pictures), min(SHOWN, len(pictures)), replace=False))
        columns = [
            as_bytes(read_stored(pictures, sample)),
            true_classes(name, pictures)[sample],
            *(labels[sample] for labels in outcome.answers(name, threshold)),
            np.full(len(sample), name == POISONED_TEST),
        ]
        parts.append(columns)
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def true_classes(name: str, pictures: PictureSet) -> NDArray[np.int64]:
    """Return what the pictures show; UNKNOWN where a poisoned file keeps only the target."""
    if name != POISONED_TEST:
        return pictures.labels
    if pictures.true_labels is None:
        return np.full(len(pictures), UNKNOWN)
    return pictures.true_labels
