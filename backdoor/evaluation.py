"""What labels are worth: accuracy, attack success, detection. NumPy only.

The last axis of `labels` is the pictures, so a whole walk (C + 1, n) is measured in one call. All
rates are fractions in [0, 1].
"""

import numpy as np
from numpy.typing import NDArray

from backdoor.versions import version

Labels = NDArray[np.int64]
Rates = NDArray[np.float64]


def goodnet_labels(badnet: Labels, pruned: Labels, classes: int) -> Labels:
    """Return B's label where B and B' agree, else `classes`, which is the class "backdoored"."""
    return np.where(badnet == pruned, badnet, classes)


def accuracy(labels: Labels, truth: Labels) -> Rates:
    """Return the share of clean pictures given their true class."""
    return np.asarray((labels == truth).mean(axis=-1))


def share_answered(labels: Labels, label: int) -> Rates:
    """Return the share of pictures answered `label`.

    With the target class on poisoned pictures that is the attack success rate; with class N, of
    poisoned pictures G's detection rate and of clean ones its false alarm rate.
    """
    return np.asarray((labels == label).mean(axis=-1))


@version(1)
def evaluate_clean(badnet: Labels, pruned: Labels, truth: Labels, classes: int) -> dict[str, float]:
    """Measure B, B' and G on clean pictures.

    Args:
        badnet, pruned: Labels by B and by B', (n,) each.
        truth: Classes of the pictures, (n,).
    """
    goodnet = goodnet_labels(badnet, pruned, classes)
    return {
        "badnet_accuracy": float(accuracy(badnet, truth)),
        "pruned_accuracy": float(accuracy(pruned, truth)),
        "goodnet_accuracy": float(accuracy(goodnet, truth)),
        "false_alarm_rate": float(share_answered(goodnet, classes)),
    }


@version(1)
def evaluate_poisoned(
    badnet: Labels,
    pruned: Labels,
    target: int,
    classes: int,
    true_classes: Labels | None = None,
) -> dict[str, float]:
    """Measure B, B' and G on poisoned pictures.

    Args:
        badnet, pruned: Labels by B and by B', (n,) each.
        true_classes: Classes of the pictures before poisoning, (n,), where known: adds the attack
            success rates without pictures of the target class.
    """
    goodnet = goodnet_labels(badnet, pruned, classes)
    metrics = {"detection_rate": float(share_answered(goodnet, classes))}
    for name, labels in {"badnet": badnet, "pruned": pruned, "goodnet": goodnet}.items():
        rate = f"{name}_attack_success_rate"
        metrics[rate] = float(share_answered(labels, target))
        if true_classes is not None and (true_classes != target).any():
            others = labels[true_classes != target]
            metrics[f"{rate}_without_target"] = float(share_answered(others, target))
    return metrics
