"""A few pictures of both test sets, with what the networks say of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backdoor.evaluation import Labels, flip_depth
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
    truth: Labels
    badnet: Labels
    pruned: Labels
    goodnet: Labels
    poisoned: NDArray[np.bool_]


def sample_pictures(
    outcome: "Outcome", threshold: "Threshold", rng: np.random.Generator
) -> Samples:
    """Draw pictures of the test sets at random, with what B, B' and G say of them."""
    chosen = {
        name: np.sort(rng.choice(len(pictures), min(SHOWN, len(pictures)), replace=False))
        for name, pictures in outcome.bed.tests.items()
    }
    return _shown(outcome, threshold, chosen)


def worst_mistakes(outcome: "Outcome", threshold: "Threshold") -> Samples:
    """Return pictures of the test sets with which G is most wrong.

    Of the clean ones that do not get their class, those whose label changes first along the walk;
    of the poisoned ones that get what the attacker wants and are not of that class, those whose
    label changes last.
    """
    chosen = {}
    for name, pictures in outcome.bed.tests.items():
        poisoned = name == POISONED_TEST
        as_labelled = outcome.answers(name, threshold)[2] == pictures.labels
        attacked = true_classes(name, pictures) != pictures.labels
        mistakes = np.flatnonzero(as_labelled & attacked if poisoned else ~as_labelled)
        depth = flip_depth(outcome.labels[name])[mistakes]
        worst = np.argsort(-depth if poisoned else depth, kind="stable")[:SHOWN]
        chosen[name] = mistakes[worst]
    return _shown(outcome, threshold, chosen)


def _shown(
    outcome: "Outcome", threshold: "Threshold", chosen: Mapping[str, NDArray[np.int64]]
) -> Samples:
    """Return the pictures of each test set with these indices."""
    parts = []
    for name, rows in chosen.items():
        pictures = outcome.bed.sets[name]
        stored = read_stored(pictures, rows)
        columns = [
            as_bytes(stored) if len(rows) else stored.astype(np.uint8),
            true_classes(name, pictures)[rows],
            *(labels[rows] for labels in outcome.answers(name, threshold)),
            np.full(len(rows), name == POISONED_TEST),
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
