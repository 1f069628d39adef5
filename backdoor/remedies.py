"""What repairs of a network under suspicion cost, and what they do to the trigger."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.inversion import Array
from backdoor.attacks.suspicion import EstimatedTrigger, triggered
from backdoor.cache import Cache
from backdoor.detection import Outcome, detect
from backdoor.errors import UserError
from backdoor.evaluation import Labels, goodnet_labels, measured
from backdoor.networks.cut import CutNetwork
from backdoor.networks.goodnet import build_goodnet
from backdoor.networks.repair import masked
from backdoor.pictures.test_bed import CLEAN_TEST, TestBed
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.kept import Kept

log = logging.getLogger(__name__)

ORDERS = ("estimated_trigger", "stimulation")  # which use what is known; see tracking.resume
POINTS = (2, 4, 10)  # of clean validation accuracy that are given up


@dataclass(frozen=True, eq=False)
class Trigger:
    """What turns pictures to the suspect: estimated, or a square that was found to do so.

    Without a suspect it turns each to another class.

    Attributes:
        mask: How opaque it is, (height, width, 1).
        pattern: Its colours, (height, width, channels), as the network takes them.
        others: Which clean test pictures are of other classes, (m,).
    """

    suspect: int | None
    mask: Array
    pattern: Array
    others: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Remedy:
    """A network pruned in an order until so many points of accuracy are gone.

    Attributes:
        clean: Labels of B and B' of the clean test pictures, (n,) each.
        triggered: The same of those of other classes with the trigger, (m,) each.
    """

    order: str
    points: int
    outcome: Outcome
    trigger: Trigger
    clean: tuple[Labels, Labels]
    triggered: tuple[Labels, Labels]

    @property
    def name(self) -> str:
        return f"{self.order}-{self.points}"

    @property
    def removed(self) -> list[int]:
        """The channels that are gone."""
        return self.outcome.removed(self.points)

    def networks(self) -> dict[str, tuple[keras.Model, Labels]]:
        """Return B' and G, each with its labels of the clean test pictures."""
        network = self.outcome.network
        goodnet = goodnet_labels(*self.clean, network.classes)
        return {
            "repaired": (masked(network, self.removed), self.clean[1]),
            "goodnet": (build_goodnet(network, self.removed), goodnet),
        }

    def before(self) -> dict[str, float]:
        """Return rates of B with their intervals."""
        truth = self.outcome.bed.clean_test.labels
        return {
            **measured("accuracy", self.clean[0] == truth),
            **measured("turned", self.triggered[0] == self.trigger.suspect),
        }

    def metrics(self) -> dict[str, float]:
        """Return rates of B' and G with their intervals."""
        truth, classes = self.outcome.bed.clean_test.labels, self.outcome.network.classes
        goodnet = goodnet_labels(*self.clean, classes)
        with_trigger = goodnet_labels(*self.triggered, classes)
        suspect = self.trigger.suspect
        return {
            "channels_removed": len(self.removed),
            "channels": self.outcome.network.channels,
            **measured("repaired_accuracy", self.clean[1] == truth),
            **measured("goodnet_accuracy", goodnet == truth),
            **measured("false_alarm_rate", goodnet == classes),
            **measured("repaired_turned", self.triggered[1] == suspect),
            **measured("goodnet_turned", with_trigger == suspect),
            **measured("detection_rate", with_trigger == classes),
        }


def best_remedy(found: Sequence[Remedy]) -> Remedy:
    """Return the remedy whose GoodNet tells pictures with the estimated trigger best from others.

    That is, whose detection rate is highest above its false alarm rate.
    """

    def worth(remedy: Remedy) -> float:
        metrics = remedy.metrics()
        return metrics["detection_rate"] - metrics["false_alarm_rate"]

    return max(found, key=worth)


def remedies(
    network: CutNetwork,
    bed: TestBed,
    suspect: int,
    seed: int,
    cache: Cache,
    known: tuple[Array, Array] | None = None,
) -> Sequence[Remedy]:
    """Prune the network in each of ORDERS, with that class under suspicion, at each of POINTS.

    What pruning cannot give up is left out, with a warning.

    Args:
        known: Mask and pattern of a trigger, by which repairs are measured; else it is estimated.
    """
    others = np.flatnonzero(bed.clean_test.labels != suspect)
    known = known or EstimatedTrigger(Kept(network, bed, cache), suspect, seed).trigger
    trigger = Trigger(suspect, *known, others)
    activations = triggered(network, bed.clean_test, others, trigger.mask, trigger.pattern)
    found = []
    for order, points in itertools.product(ORDERS, POINTS):
        try:
            outcome = detect(network, bed, order, [points], seed, cache, suspect=suspect)
        except UserError as error:
            log.warning("no repair by %s at %d points: %s", order, points, error)
            continue
        walked = walk_network(network, activations, outcome.order, "Walk with the trigger")
        badnet, pruned, _ = outcome.answers(CLEAN_TEST, points)
        with_trigger = walked[0], walked[outcome.stops[points]]
        found.append(Remedy(order, points, outcome, trigger, (badnet, pruned), with_trigger))
    return found
