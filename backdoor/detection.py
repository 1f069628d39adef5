"""The experiment: score the channels, walk along their order, stop, compare B with B'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.suspicion import EstimatedTrigger
from backdoor.cache import Cache, NoCache
from backdoor.evaluation import (
    Labels,
    accuracy,
    evaluate_clean,
    evaluate_parts,
    evaluate_poisoned,
    evaluate_walks,
    goodnet_labels,
    ratings,
    share_answered,
)
from backdoor.networks.checks import check_suspect
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.test_bed import (
    CLEAN_TEST,
    CLEAN_VALID,
    POISONED_TEST,
    POISONED_VALID,
    TestBed,
)
from backdoor.pruning.kept import Kept, Ranking
from backdoor.pruning.orders import POOLING, check_order
from backdoor.pruning.stop import STOPS, check_stop, check_threshold, false_alarms

Threshold = float | str
FIRST = "first"  # the usual stop rule
FALSE_ALARMS = (1, 5)  # per cent of clean validation pictures, at which detection is told


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an order gives on a test bed.

    Attributes:
        digests: SHA-256 of each set's file, by name.
        ranking: The order of the channels, and what finding it took.
        labels: What the network says of each set at every k, `labels[set]` of shape (C + 1, n).
        stops: Channels removed at each threshold.
        seconds: How long hashing, checks, head, ranking and walk took.

    Thresholds are those that `detect` was given; of another there is no stop (KeyError).
    """

    network: CutNetwork
    bed: TestBed
    digests: Mapping[str, str]
    ranking: Ranking
    labels: Mapping[str, Labels]
    stops: Mapping[Threshold, int]
    seconds: Mapping[str, float]

    @property
    def order(self) -> NDArray[np.int64]:
        """Channels, first to go first, shape (C,)."""
        return self.ranking.channels

    def removed(self, threshold: Threshold) -> list[int]:
        """Return the channels that are gone at a threshold."""
        return [int(channel) for channel in self.order[: self.stops[threshold]]]

    def answers(self, name: str, threshold: Threshold) -> tuple[Labels, Labels, Labels]:
        """Return the labels that B, B' and G give the pictures of a set."""
        badnet, pruned = self.labels[name][0], self.labels[name][self.stops[threshold]]
        return badnet, pruned, goodnet_labels(badnet, pruned, self.network.classes)

    def metrics(self, threshold: Threshold) -> dict[str, float]:
        """Return what the test sets give; what needs poisoned pictures is absent without them."""
        classes, poisoned = self.network.classes, self.bed.poisoned
        badnet, pruned, _ = self.answers(CLEAN_TEST, threshold)
        metrics = evaluate_clean(badnet, pruned, self.bed.clean_test.labels, classes)
        if poisoned is not None:
            badnet, pruned, goodnet = self.answers(POISONED_TEST, threshold)
            truth, wanted = poisoned.test.true_labels, poisoned.test.labels
            metrics |= evaluate_poisoned(badnet, pruned, wanted, classes, truth)
            networks = {"badnet": badnet, "pruned": pruned, "goodnet": goodnet}
            parts = {"target": wanted, "trigger": poisoned.test.triggers}
            metrics |= evaluate_parts(networks, wanted, parts)
        metrics |= ratings(metrics) | self.detection()
        channels = {"removed": self.stops[threshold], "total": self.network.channels}
        return metrics | {f"channels_{name}": count for name, count in channels.items()}

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return rates at k = 0..C.

        Accuracy and attack success of B' on the validation sets and of G on the test sets; on these
        detection and false alarms, too.
        """
        curves: dict[str, NDArray[np.float64]] = {}
        for prefix, clean, poisoned, walked in (
            ("valid", CLEAN_VALID, POISONED_VALID, self.labels),
            ("test_goodnet", CLEAN_TEST, POISONED_TEST, self._goodnet_walks()),
        ):
            curves[f"{prefix}_accuracy"] = accuracy(walked[clean], self.bed.sets[clean].labels)
            if self.bed.poisoned is not None:
                rates = share_answered(walked[poisoned], self.bed.sets[poisoned].labels)
                curves[f"{prefix}_attack_success_rate"] = rates
        for name, curve in ((CLEAN_TEST, "false_alarm_rate"), (POISONED_TEST, "detection_rate")):
            if name in self.bed.tests:
                alarms = share_answered(self._goodnet_walks()[name], self.network.classes)
                curves[f"test_{curve}"] = alarms
        return curves

    def detection(self) -> dict[str, float]:
        """Return how well G tells poisoned test pictures from clean ones along the whole walk.

        The k of a false alarm rate is the last that keeps it on the clean validation pictures; the
        rates are those of the test pictures.
        """
        valid, truth = self.labels[CLEAN_VALID], self.bed.clean_valid.labels
        stops = {points: false_alarms(valid, truth, points) for points in FALSE_ALARMS}
        return evaluate_walks(self.labels[CLEAN_TEST], self.labels.get(POISONED_TEST), stops)

    def _goodnet_walks(self) -> dict[str, Labels]:
        """Return what G says of the test sets at every k."""
        walks = {name: self.labels[name] for name in self.bed.tests}
        return {name: goodnet_labels(w[0], w, self.network.classes) for name, w in walks.items()}


def detect(
    network: CutNetwork,
    bed: TestBed,
    order: str,
    thresholds: Sequence[Threshold],
    seed: int = 0,
    cache: Cache | None = None,
    *,
    stop: str = FIRST,
    rank_at: str = POOLING,
    suspect: int | None = None,
) -> Outcome:
    """Prune the network along an order until each threshold; B and B' answer every picture.

    Args:
        order: One of `pruning.orders.orders()`.
        thresholds: Percentage points given up, of clean validation accuracy or, with the stop rule
            `false_alarms`, in false alarms: 2 is two points.
        seed: For orders that are drawn, and for the search of a trigger.
        cache: Keeps activations, orders and walks on disk; None keeps nothing.
        stop: One of `pruning.stop.STOPS`.
        rank_at: `pool` ranks by activations at the cut, `conv` by those that go into the pooling.
        suspect: The class that an attacker may want; None has it looked for where an order asks.

    Raises:
        UserError: No such order, rule or threshold, or network, order and pictures do not fit.
    """
    check_order(order)
    rule = STOPS[check_stop(stop)]
    for threshold in thresholds:
        check_threshold(threshold)
    check_suspect(network, suspect)
    kept = Kept(network, bed, cache or NoCache())
    kept.check()
    suspicion = EstimatedTrigger(kept, suspect, seed)
    ranking = kept.rank(order, seed, rank_at, suspicion)
    labels = {name: kept.walk(name, ranking.channels) for name in bed.sets}
    valid, truth = labels[CLEAN_VALID], bed.clean_valid.labels
    stops = {points: rule(valid, truth, points) for points in thresholds}
    return Outcome(network, bed, kept.digests, ranking, labels, stops, kept.stage.seconds)
