"""Fine-pruning: in which order channels go, what the network says on the way, where to stop.

Liu, Dolan-Gavitt, Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018, arXiv 1805.12185.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from backdoor.progress import progress

Activations = NDArray[np.float32]
Labels = NDArray[np.int64]

BATCH = 512  # pictures: more leave a core's cache, fewer make threads wait for each other
MOST = 0.8  # of a batch's pictures: picking them out costs more than scoring the others, too
SAMPLE, COMPONENTS = 512, 8  # pictures and directions by which alike ones are found


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


@dataclass(frozen=True, eq=False)
class LinearTail:
    """The network behind the layer where that begins linear, as most do.

    Attributes:
        bias: What the first units are without any activation, shape (U,).
        spread: What an activation adds to them, shape (C, places, U); places is height x width.
        score: Units (m, U) to one score a class, (m, N).
    """

    bias: Activations
    spread: Activations
    score: Callable[[Activations], Activations]

    def classify(self, activations: Activations) -> Labels:
        """Return the labels of activations (m, ..., C)."""
        channels, places, units = self.spread.shape
        by_place = activations.reshape(-1, places * channels)
        spread = self.spread.transpose(1, 0, 2).reshape(-1, units)
        return np.asarray(self.score(by_place @ spread + self.bias).argmax(axis=1))


def linear_walk(
    activations: Activations,
    order: NDArray[np.int64],
    tail: LinearTail,
    threads: int = 1,
    what: str = "Walk",
) -> Labels:
    """Return what `walk` returns, in a fraction of the time.

    The walk is taken backwards, from the last channel's removal to the first: what a channel adds
    to the tail's first units is a small matrix product, and sums that grow from nothing round less
    than differences that shrink to it. Pictures with alike activations are scored together, since
    they leave the same units at zero.
    """
    channels, places, _ = tail.spread.shape
    by_channel = activations.reshape(len(activations), places, channels)
    alike = _alike(by_channel.reshape(len(activations), -1))
    rounds = math.ceil(len(alike) / (threads * BATCH))
    size = math.ceil(len(alike) / (threads * rounds))  # so that all threads end together
    batches = [alike[start : start + size] for start in range(0, len(alike), size)]
    labels = np.empty((channels + 1, len(activations)), np.int64)

    def walk_batch(batch: NDArray[np.int64]) -> None:
        labels[:, batch] = _walk_back(by_channel[batch], order, tail)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in progress(pool.map(walk_batch, batches), what, len(batches)):
            pass
    return labels


def _walk_back(pictures: Activations, order: NDArray[np.int64], tail: LinearTail) -> Labels:
    """Return the labels of activations (n, places, C) at every k, (C + 1, n)."""
    by_channel = np.ascontiguousarray(pictures.transpose(0, 2, 1))
    active = (pictures != 0).any(axis=1).T
    labels = np.empty((len(order) + 1, len(pictures)), np.int64)
    units = np.tile(tail.bias, (len(pictures), 1))
    labels[-1] = tail.score(units[:1]).argmax()
    for k in range(len(order) - 1, -1, -1):
        channel = order[k]
        labels[k] = labels[k + 1]
        changed = np.flatnonzero(active[channel])
        if not len(changed):
            continue
        most = len(changed) > MOST * len(pictures)
        rows = slice(None) if most else changed  # to the others it adds zero
        units[rows] += by_channel[rows, channel] @ tail.spread[channel]
        labels[k, rows] = tail.score(units[rows]).argmax(axis=1)
    return labels


def _alike(values: Activations) -> NDArray[np.int64]:
    """Return an order of the rows (n, d) in which neighbours have alike values.

    That of the signs along the leading principal components, found by subspace iteration.
    """
    some = values[:: max(1, len(values) // SAMPLE)]
    some = some - some.mean(axis=0)
    leading = np.random.default_rng(0).normal(size=(values.shape[1], COMPONENTS))
    for _ in range(4):
        leading = np.linalg.qr(some.T @ (some @ leading.astype(np.float32)))[0]
    along = values @ leading.astype(np.float32)
    return np.lexsort((along > np.median(along, axis=0)).T[::-1])


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
        points = Fraction(Decimal(str(threshold)))
    except (InvalidOperation, ValueError, OverflowError):
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
