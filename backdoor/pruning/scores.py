"""In which order channels go: a score for each, the lowest goes first.

Liu, Dolan-Gavitt, Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018, arXiv 1805.12185, ranks by mean activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backdoor.versions import version

if TYPE_CHECKING:
    from backdoor.networks.cut import CutNetwork

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a defender may see, and nothing else.

    Attributes:
        activations: Of the clean validation pictures, channels last, shape (n, ..., C).
        labels: The classes of these pictures, shape (n,).
        rng: For scores that are drawn.
    """

    network: CutNetwork
    activations: NDArray[np.float32]
    labels: NDArray[np.int64]
    rng: np.random.Generator


@version(1)
def ascending(evidence: Evidence) -> Scores:
    """Least mean activation first: what clean pictures do not use goes first (fine-pruning)."""
    return mean_activation(evidence.activations)


@version(1)
def descending(evidence: Evidence) -> Scores:
    """Most mean activation first: what clean pictures use most goes first."""
    return -mean_activation(evidence.activations)


SCORES: dict[str, Callable[[Evidence], Scores]] = {
    "asc": ascending,
    "desc": descending,
}
"""Each takes the evidence and returns a score a channel, shape (C,)."""


def mean_activation(activations: NDArray[np.float32]) -> Scores:
    """Return each channel's mean over all other axes (pictures, height, width), shape (C,)."""
    axes = tuple(range(activations.ndim - 1))
    return np.asarray(activations.mean(axis=axes, dtype=np.float64))
