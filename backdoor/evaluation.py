"""What labels are worth: accuracy, attack success, detection. NumPy only.

The last axis of `labels` is the pictures, so a whole walk (C + 1, n) is measured in one call. All
rates are fractions in [0, 1].
"""

import numpy as np
from numpy.typing import NDArray

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


def evaluate(
    clean: tuple[Labels, Labels],
    poisoned: tuple[Labels, Labels],
    truth: Labels,
    target: int,
    classes: int,
    true_classes: Labels | None = None,
) -> dict[str, float]:
    """Measure B, B' and G.

    Args:
        clean: Labels by B and by B' of the clean pictures, (n,) each.
        poisoned: Labels by B and by B' of the poisoned pictures, (m,) each.
        truth: Classes of the clean pictures, (n,).
        true_classes: Classes of the poisoned pictures before poisoning, (m,), where known: adds the
            attack success rates without pictures of the target class.
    """
    metrics: dict[str, float] = {}
    answers = {
        "badnet": (clean[0], poisoned[0]),
        "pruned": (clean[1], poisoned[1]),
        "goodnet": (goodnet_labels(*clean, classes), goodnet_labels(*poisoned, classes)),
    }
    for name, (on_clean, on_poisoned) in answers.items():
        metrics[f"{name}_accuracy"] = float(accuracy(on_clean, truth))
        metrics[f"{name}_attack_success_rate"] = float(share_answered(on_poisoned, target))
        if true_classes is not None and (true_classes != target).any():
            others = on_poisoned[true_classes != target]
            metrics[f"{name}_attack_success_rate_without_target"] = float(
                share_answered(others, target)
            )
    metrics["detection_rate"] = float(share_answered(answers["goodnet"][1], classes))
    metrics["false_alarm_rate"] = float(share_answered(answers["goodnet"][0], classes))
    return metrics
