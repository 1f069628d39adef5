"""The walk: what the network says with the first k channels of an order removed, k = 0..C."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backdoor.progress import progress
from backdoor.versions import version

if TYPE_CHECKING:
    from backdoor.evaluation import Labels  # which loads SciPy, and --help needs not

Activations = NDArray[np.float32]

PART = 2**27  # bytes of activations that are computed with at once, where a set may be many more


def parts_of(activations: Activations, most: int = sys.maxsize) -> list[slice]:
    """Return rows that together are all, so many at once, at most `most`, as fit into memory."""
    size = min(most, max(1, PART // activations[:1].nbytes))
    return [slice(start, start + size) for start in range(0, len(activations), size)]


@version(1)
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
    badnet = classify(remaining)
    labels = np.empty((len(order) + 1, len(badnet)), badnet.dtype)
    labels[0] = badnet
    for k, channel in enumerate(progress(order, what, len(order)), start=1):
        labels[k] = labels[k - 1]
        active = np.flatnonzero(remaining[..., channel].reshape(len(remaining), -1).any(axis=1))
        if len(active):
            remaining[..., channel] = 0
            labels[k, active] = classify(remaining[active])
    return labels
