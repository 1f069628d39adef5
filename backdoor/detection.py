"""The experiment: score the channels, walk along their order, stop, compare B with B'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Cache, NoCache
from backdoor.evaluation import (
    Labels,
    accuracy,
    evaluate_clean,
    evaluate_poisoned,
    goodnet_labels,
    share_answered,
)
from backdoor.networks.checks import check_bed
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.test_bed import (
    CLEAN_TEST,
    CLEAN_VALID,
    POISONED_TEST,
    POISONED_VALID,
    TestBed,
)
from backdoor.pruning.kept import Kept
from backdoor.pruning.orders import check_order
from backdoor.pruning.stop import channels_to_remove, check_threshold

Threshold = float | str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an order gives on a test bed.

    Attributes:
        digests: SHA-256 of each set's file, by name.
        order: Channels, first to go first, shape (C,).
        labels: What the network says of each set at every k, `labels[set]` of shape (C + 1, n).
        stops: Channels removed at each threshold.
        seconds: How long hashing, checks, head, ranking and walk took.

    Thresholds are those that `detect` was given; of another there is no stop (KeyError).
    """

    network: CutNetwork
    bed: TestBed
    digests: Mapping[str, str]
    order: NDArray[np.int64]
    labels: Mapping[str, Labels]
    stops: Mapping[Threshold, int]
    seconds: Mapping[str, float]

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
            badnet, pruned, _ = self.answers(POISONED_TEST, threshold)
            truth = poisoned.test.true_labels
            metrics |= evaluate_poisoned(badnet, pruned, poisoned.target, classes, truth)
        channels = {"removed": self.stops[threshold], "total": self.network.channels}
        return metrics | {f"channels_{name}": count for name, count in channels.items()}

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return accuracy and attack success rate at k = 0..C, of B' on valid and of G on test."""
        curves: dict[str, NDArray[np.float64]] = {}
        for prefix, clean, poisoned, walked in (
            ("valid", CLEAN_VALID, POISONED_VALID, self.labels),
            ("test_goodnet", CLEAN_TEST, POISONED_TEST, self._goodnet_walks()),
        ):
            curves[f"{prefix}_accuracy"] = accuracy(walked[clean], self.bed.sets[clean].labels)
            if self.bed.poisoned is not None:
                rates = share_answered(walked[poisoned], self.bed.poisoned.target)
                curves[f"{prefix}_attack_success_rate"] = rates
        return curves

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
) -> Outcome:
    """Prune the network along an order until each threshold; B and B' answer every picture.

    Args:
        order: One of `pruning.orders.orders()`.
        thresholds: Percentage points of clean validation accuracy given up: 2 is two points.
        seed: For orders that are drawn.
        cache: Keeps activations, orders and walks on disk; None keeps nothing.

    Raises:
        UserError: No such order or threshold, or network and pictures do not fit.
    """
    check_order(order)
    for threshold in thresholds:
        check_threshold(threshold)
    kept = Kept(network, bed, cache or NoCache())
    with kept.stage("network"):
        check_bed(network, bed)
    channels = kept.rank(order, seed)
    labels = {name: kept.walk(name, channels) for name in bed.sets}
    correct = (labels[CLEAN_VALID] == bed.clean_valid.labels).sum(axis=1)
    total = len(bed.clean_valid)
    stops = {points: channels_to_remove(correct, total, points) for points in thresholds}
    return Outcome(network, bed, kept.digests, channels, labels, stops, kept.stage.seconds)
