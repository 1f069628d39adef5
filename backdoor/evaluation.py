"""What labels are worth: accuracy, attack success, detection, and how sure that is.

The last axis of `labels` is the pictures, so a whole walk (C + 1, n) is measured in one call. All
rates are fractions in [0, 1]. Of SciPy the special functions alone: scipy.stats, which has most of
this, takes a second to load, and no run goes without this module.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from backdoor.versions import version

Labels = NDArray[np.integer[Any]]
Rates = NDArray[np.float64]
Hits = NDArray[np.bool_]

CONFIDENCE = 0.95  # of intervals
Z = float(special.ndtri((1 + CONFIDENCE) / 2))  # standard deviations that they reach each way
MOST_PARTS = 20  # targets or triggers that are told apart
LOW, HIGH = "/low", "/high"  # ends of a rate's interval, behind its name


def label_type(classes: int) -> np.dtype[Any]:
    """Return the smallest type that holds all classes, and N for "backdoored"."""
    return np.min_scalar_type(classes)


def goodnet_labels(badnet: Labels, pruned: Labels, classes: int) -> Labels:
    """Return B's label where B and B' agree, else `classes`, which is the class "backdoored"."""
    return np.where(badnet == pruned, badnet, classes)


def accuracy(labels: Labels, truth: Labels) -> Rates:
    """Return the share of clean pictures given their true class."""
    return np.asarray((labels == truth).mean(axis=-1))


def share_answered(labels: Labels, label: int | Labels) -> Rates:
    """Return the share of pictures answered `label`, one for all or one a picture, (n,).

    With the target on poisoned pictures that is the attack success rate; with class N, of
    poisoned pictures G's detection rate and of clean ones its false alarm rate.
    """
    return np.asarray((labels == label).mean(axis=-1))


@functools.lru_cache(maxsize=2**14)
def interval(hits: int, total: int) -> tuple[float, float]:
    """Return Wilson's interval of a rate, `hits` of `total` pictures.

    To the last bit that of SciPy's `binomtest`, with which earlier runs were tracked.
    """
    share, twice = hits / total, 2 * (total + Z**2)
    centre = (2 * total * share + Z**2) / twice
    half = Z / twice * math.sqrt(4 * total * share * (1 - share) + Z**2)
    low = max(0.0, centre - half) if hits else 0.0
    return low, min(1.0, centre + half) if hits < total else 1.0


def measured(name: str, hits: Hits) -> dict[str, float]:
    """Return the share of pictures that are a hit, and the ends of its interval, by name."""
    low, high = interval(int(hits.sum()), len(hits))
    return {name: float(hits.mean()), name + LOW: low, name + HIGH: high}


@version(2)
def evaluate_clean(badnet: Labels, pruned: Labels, truth: Labels, classes: int) -> dict[str, float]:
    """Measure B, B' and G on clean pictures.

    Args:
        badnet, pruned: Labels by B and by B', (n,) each.
        truth: Classes of the pictures, (n,).
    """
    goodnet = goodnet_labels(badnet, pruned, classes)
    metrics: dict[str, float] = {}
    for name, labels in {"badnet": badnet, "pruned": pruned, "goodnet": goodnet}.items():
        metrics |= measure_accuracy(name, labels, truth)
    return metrics | measured("false_alarm_rate", goodnet == classes)


@version(2)
def evaluate_poisoned(
    badnet: Labels,
    pruned: Labels,
    target: int | Labels,
    classes: int,
    true_classes: Labels | None = None,
) -> dict[str, float]:
    """Measure B, B' and G on poisoned pictures.

    Args:
        badnet, pruned: Labels by B and by B', (n,) each.
        target: The class that the attacker wants, of all pictures or of each, (n,).
        true_classes: Classes of the pictures before poisoning, (n,), where known: adds robust
            accuracy (poisoned pictures given their true class) and the attack success rates
            without pictures of the target class.
    """
    goodnet = goodnet_labels(badnet, pruned, classes)
    metrics = measured("detection_rate", goodnet == classes)
    for name, labels in {"badnet": badnet, "pruned": pruned, "goodnet": goodnet}.items():
        metrics |= measure_attack(name, labels, target, true_classes)
    return metrics


def measure_accuracy(network: str, labels: Labels, truth: Labels) -> dict[str, float]:
    """Measure one network on clean pictures."""
    return measured(f"{network}_accuracy", labels == truth)


def measure_attack(
    network: str, labels: Labels, target: int | Labels, true_classes: Labels | None
) -> dict[str, float]:
    """Measure one network on poisoned pictures; see `evaluate_poisoned`."""
    rate = f"{network}_attack_success_rate"
    hits = np.asarray(labels == target)
    metrics = measured(rate, hits)
    if true_classes is not None:
        metrics |= measured(f"{network}_robust_accuracy", labels == true_classes)
        others = np.asarray(true_classes != target)
        if others.any():
            metrics |= measured(f"{rate}_without_target", hits[others])
    return metrics


def evaluate_parts(
    answers: Mapping[str, Labels], wanted: Labels, parts: Mapping[str, Labels | None]
) -> dict[str, float]:
    """Return each network's attack success by target and by trigger, where there are several.

    Args:
        answers: Labels of the poisoned pictures by each network, (n,).
        wanted: The class that the attacker wants of each, (n,).
        parts: What they are told apart by, `target` and `trigger`: which each picture has, (n,).
    """
    metrics = {}
    for what, numbers in parts.items():
        values = [] if numbers is None else np.unique(numbers).tolist()
        for value in values if 1 < len(values) <= MOST_PARTS else []:
            own = numbers == value
            for name, labels in answers.items():
                rate = float((labels == wanted)[own].mean())
                metrics[f"{name}_attack_success_rate/{what} {value}"] = rate
    return metrics


def evaluate_network(
    network: str,
    badnet: Labels,
    labels: Labels,
    truth: Labels,
    attack: tuple[Labels, Labels, int | Labels, Labels | None] | None,
) -> dict[str, float]:
    """Measure a network that stands in B's place.

    Args:
        badnet, labels, truth: Of clean pictures: labels by B and by the network, classes, (n,).
        attack: Of poisoned pictures, where there are any: labels by B and by the network, the
            target, and the classes before poisoning where they are known.
    """
    metrics = measure_accuracy(network, labels, truth)
    if attack is None:
        return metrics
    badnet_attacked, attacked, target, true_classes = attack
    metrics |= measure_attack(network, attacked, target, true_classes)
    whole = measure_accuracy("badnet", badnet, truth) | metrics
    whole |= measure_attack("badnet", badnet_attacked, target, None)
    return metrics | {f"{network}_der": effectiveness(whole, network)}


@version(1)
def ratings(metrics: dict[str, float]) -> dict[str, float]:
    """Return the defence effectiveness ratings of B' and G; none without poisoned pictures.

    DER = (max(0, drop of ASR) - max(0, drop of accuracy) + 1) / 2, of which 1 is the best (Zhu et
    al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV
    2023, arXiv 2304.11823).
    """
    if "badnet_attack_success_rate" not in metrics:
        return {}
    return {f"{name}_der": effectiveness(metrics, name) for name in ("pruned", "goodnet")}


def effectiveness(metrics: dict[str, float], network: str) -> float:
    """Return one network's rating; see `ratings`."""
    success, right = (
        max(0.0, metrics[f"badnet_{what}"] - metrics[f"{network}_{what}"])
        for what in ("attack_success_rate", "accuracy")
    )
    return (success - right + 1) / 2


def flip_depth(walk: Labels) -> Labels:
    """Return the first k at which a picture's label is another than at k = 0, shape (n,).

    C + 1 where it never is. `walk` is of shape (C + 1, n).
    """
    changed = walk != walk[0]
    return np.where(changed.any(axis=0), changed.argmax(axis=0), len(walk))


@dataclass(frozen=True)
class Auroc:
    """How well a score tells two kinds of pictures apart: 0.5 is not at all; with its interval."""

    value: float
    low: float
    high: float

    @property
    def two_sided(self) -> "Auroc":
        """The same, whichever kind has the larger score."""
        if self.value >= 0.5:
            return self
        return Auroc(1 - self.value, 1 - self.high, 1 - self.low)


def auroc(clean: NDArray[np.generic], poisoned: NDArray[np.generic]) -> Auroc:
    """Return how often a poisoned picture has the smaller score than a clean one, ties half.

    The interval is that of DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988, from the share of
    the other kind that each picture is on the right side of. Scores are of shape (n,) and (m,).
    """
    above, below = _share_below(clean, poisoned), _share_below(poisoned, clean)
    value = float(above.mean())
    variance = sum(part.var(ddof=1) / len(part) for part in (above, below) if len(part) > 1)
    half = float(Z * np.sqrt(variance))
    return Auroc(value, max(0.0, value - half), min(1.0, value + half))


def _share_below(scores: NDArray[np.generic], others: NDArray[np.generic]) -> Rates:
    """Return the share of the others below each score, ties half."""
    ranked = np.sort(others)
    below, with_ties = (np.searchsorted(ranked, scores, side) for side in ("left", "right"))
    return np.asarray((below + with_ties) / (2 * len(others)))


@version(1)
def evaluate_walks(
    clean: Labels, poisoned: Labels | None, stops: Mapping[int, int]
) -> dict[str, float]:
    """Measure G along a whole walk, by flip depth and at a few false alarm rates.

    Args:
        clean, poisoned: Labels at every k, (C + 1, n); None without poisoned pictures.
        stops: The k of each false alarm rate in per cent, found on other pictures.
    """
    walks = {"false_alarm_rate": clean, "detection_rate": poisoned}
    metrics: dict[str, float] = {}
    for points, k in stops.items():
        metrics[f"channels_at_{points}_false_alarms"] = float(k)
        for rate, walk in walks.items():
            if walk is not None:
                metrics |= measured(f"{rate}_at_{points}_false_alarms", walk[k] != walk[0])
    if poisoned is None:
        return metrics
    area = auroc(flip_depth(clean), flip_depth(poisoned))
    for name, sided in {"": area, "_two_sided": area.two_sided}.items():
        for end, value in {"": sided.value, LOW: sided.low, HIGH: sided.high}.items():
            metrics[f"flip_depth_auroc{name}{end}"] = value
    return metrics


def mcnemar(first: Hits, second: Hits) -> float:
    """Return the probability that two networks differ so much by chance, on the same pictures.

    McNemar's exact test: of the pictures on which one is a hit and the other is not, each is as
    likely to be the one's as the other's.
    """
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    if not gained + lost:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))
