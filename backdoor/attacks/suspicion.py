"""Which class an attacker may want, and by which trigger, as far as clean pictures tell.

An estimate by which orders rank, no verdict: of a network without a backdoor it names a class, too.
"""

import logging
import math
import time
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.inversion import AT_ONCE, Array, cheapest_triggers, stamp
from backdoor.cache import Key
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import CHUNK, PictureSet, evenly, read_pictures
from backdoor.pictures.test_bed import CLEAN_VALID
from backdoor.pruning.effects import Tail, push_of_each
from backdoor.pruning.evidence import MOST
from backdoor.pruning.kept import Kept
from backdoor.pruning.walk import Activations
from backdoor.versions import SEARCH

log = logging.getLogger(__name__)

CANDIDATES = 8  # classes of which masks are sought: those that channels push most towards
PICTURES, STEPS = 16, 100  # that a mask has to turn, and steps of the search
MANY, LONG = 64, 300  # the same of one class that is given: at the cost of a few candidates


def most_pushed(tail: Tail, activations: Activations, labels: NDArray[np.int64]) -> list[int]:
    """Return the classes towards which raised channels push other classes' pictures most.

    Measured on the published network with 1283 classes and on the drawn faces, the attacker's is
    the first of them.
    """
    push = push_of_each(tail, activations, labels)
    return [int(label) for label in np.argsort(-np.maximum(push, 0).sum(axis=0))[:CANDIDATES]]


def triggered(
    network: CutNetwork, pictures: PictureSet, rows: NDArray[np.int64], mask: Array, pattern: Array
) -> Activations:
    """Return the activations of some pictures of a set with a trigger, (m, ..., C)."""
    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    stamped = (stamp(read_pictures(pictures, part), mask, pattern) for part in parts)
    return network.activate(stamped, len(rows), "Head with the trigger")


class EstimatedTrigger:
    """The suspected class and the cheapest mask and pattern that turn clean pictures to it.

    Attributes:
        seconds: How long the search took when it was made; 0 as long as none was needed.
    """

    def __init__(self, kept: Kept, given: int | None, seed: int) -> None:
        self.kept, self.given, self.seed = kept, given, seed
        self.pictures = kept.bed.clean_valid
        self.seconds = 0.0

    @property
    def key(self) -> Key:
        """What the result depends on besides network and clean validation pictures."""
        given = -1 if self.given is None else self.given
        return (given, self.seed, SEARCH)

    def suspect(self) -> int:
        """Return the class that was given, else the one with the smallest mask."""
        return self.given if self.given is not None else int(self._found[0])

    @property
    def trigger(self) -> tuple[Array, Array]:
        """Mask (height, width, 1) and pattern (height, width, channels), in the network's scale."""
        height, width, channels = self.pictures.shape
        both = self._found[3:].reshape(height, width, 1 + channels).astype(np.float32)
        return both[..., :1], both[..., 1:]

    def triggered(self, rows: NDArray[np.int64]) -> Activations:
        """Return the activations of these clean validation pictures with the trigger."""
        return triggered(self.kept.network, self.pictures, rows, *self.trigger)

    @cached_property
    def _found(self) -> NDArray[np.float64]:
        """The suspect, the seconds, the mask's mean, and mask and pattern, flat."""
        key = (*self.kept.key(CLEAN_VALID), *self.key)
        values = self.kept.cache("trigger", key, self._search)
        self.seconds = float(values[1])
        if not np.isfinite(values[2]):
            log.warning("no trigger was found that turns clean pictures to class %d", values[0])
        return values

    def _search(self) -> NDArray[np.float64]:
        start = time.perf_counter()
        if self.given is None:
            classes, count, steps = self._candidates(), PICTURES, STEPS
        else:
            classes, steps = [self.given], LONG
            count = int(np.clip(AT_ONCE // math.prod(self.pictures.shape), PICTURES, MANY))
        rows = evenly(self.pictures, count)
        labels = self.pictures.labels[rows]
        shown = read_pictures(self.pictures, rows)
        triggers = cheapest_triggers(self.kept.network, shown, labels, classes, self.seed, steps)
        best = int(np.argmin(triggers.costs))
        trigger = np.concatenate([triggers.masks[best], triggers.patterns[best]], axis=-1)
        seconds = time.perf_counter() - start
        return np.concatenate([[classes[best], seconds, triggers.costs[best]], trigger.ravel()])

    def _candidates(self) -> list[int]:
        some = evenly(self.pictures, MOST)
        activations = self.kept.activations(CLEAN_VALID)[some]
        return most_pushed(self.kept.tail, activations, self.pictures.labels[some])
