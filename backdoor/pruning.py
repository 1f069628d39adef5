"""Fine-pruning: in which order channels go, what the network says on the way, where to stop.

Liu, Dolan-Gavitt, Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018, arXiv 1805.12185.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from backdoor.progress import progress

Activations = NDArray[np.float32]
Labels = NDArray[np.int64]


def ascending(activations: Activations) -> NDArray[np.int64]:
    """Least mean activation first: what clean pictures do not use goes first (fine-pruning)."""
    return np.argsort(mean_activation(activations), kind="stable")


def descending(activations: Activations) -> NDArray[np.int64]:
    """Most mean activation first: what clean pictures use most goes first."""
    return np.argsort(-mean_activation(activations), kind="stable")


ORDERS: dict[str, Callable[[Activations], NDArray[np.int64]]] = {
    "asc": ascending,
    "desc": descending,
}
"""Each takes the clean validation activations and returns the channels, first to go first.

The sort is stable, so that channels which tie (dead ones, at exactly zero) go by their number.
"""


def mean_activation(activations: Activations) -> NDArray[np.float64]:
    """Return each channel's mean over all other axes (pictures, height, width), shape (C,)."""
    axes = tuple(range(activations.ndim - 1))
    return np.asarray(activations.mean(axis=axes, dtype=np.float64))


def walk(
    activations: Activations,
    order: NDArray[np.int64],
    classify: Callable[[Activations], Labels],
    what: str = "Walk",
) -> Labels:
    """Return the labels with the first k channels of `order` removed, k = 0..C, shape (C + 1, n).

    A picture on which the channel that goes is zero keeps its label; only the others are scored.

    Args:
        activations: Output of the pooling layer, channels last, shape (n, ..., C).
        order: A permutation of the channels, shape (C,).
        classify: The network behind the layer: activations (m, ..., C) to labels (m,).
        what: What to call it while progress is shown.
    """
    remaining = activations.copy()
    labels = np.empty((len(order) + 1, len(activations)), np.int64)
    labels[0] = classify(remaining)
    for k, channel in enumerate(progress(order, what, len(order)), start=1):
        labels[k] = labels[k - 1]
        active = np.flatnonzero(remaining[..., channel].reshape(len(remaining), -1).any(axis=1))
        if len(active):
            remaining[..., channel] = 0
            labels[k, active] = classify(remaining[active])
    return labels


def channels_to_remove(correct: NDArray[np.int64], total: int, threshold: float) -> int:
    """Return the fewest channels, at least one, whose removal costs `threshold` points of accuracy.

    Counts are compared, not rates: in floating point 0.95 - 0.92 < 0.03.

    Args:
        correct: Clean validation pictures right at k = 0..C, shape (C + 1,).
        total: Clean validation pictures.
        threshold: Percentage points of accuracy given up: 2 is two points; reached is enough.

    Raises:
        ValueError: The threshold is no number in (0, 100], or no k gives up that much.
    """
    fewest_lost = math.ceil(check_threshold(threshold) * total / 100)
    lost = correct[0] - correct
    reached = np.flatnonzero(lost[1:] >= fewest_lost)
    if not len(reached):
        worst = 100 * int(lost[1:].max()) / total
        raise ValueError(
            f"threshold: expected a loss of accuracy that pruning reaches, got {threshold} points; "
            f"the largest drop is {worst:.2f} points"
        )
    return int(reached[0]) + 1


def check_threshold(threshold: float | str) -> Fraction:
    """Return the threshold exactly as written.

    Raises:
        ValueError: It is no number of percentage points in (0, 100].
    """
    try:
        points = Fraction(str(threshold))
    except (ValueError, ZeroDivisionError):
        points = Fraction(0)
    if not 0 < points <= 100:
        raise ValueError(
            f"threshold: expected percentage points above 0 and at most 100, got {threshold}"
        )
    return points


def check_order(order: str) -> None:
    """Refuse a name that is not in ORDERS.

    Raises:
        ValueError: The message lists the choices.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
