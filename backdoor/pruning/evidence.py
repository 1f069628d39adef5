"""What a score may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Key
from backdoor.pruning.effects import Tail
from backdoor.pruning.walk import Activations

if TYPE_CHECKING:
    from backdoor.networks.cut import CutNetwork

Labels = NDArray[np.int64]
MOST = 1024  # pictures of one pass a channel


class Suspicion(Protocol):
    """The class that an attacker may want, and the trigger that may be his.

    Attributes:
        key: What they depend on besides network and clean validation pictures.
        seconds: How long the search took when it was made; 0 as long as none was needed.
    """

    seconds: float

    @property
    def key(self) -> Key: ...

    def suspect(self) -> int:
        """Return the class under suspicion."""

    def triggered(self, rows: NDArray[np.int64]) -> Activations:
        """Return the activations of these clean validation pictures with the trigger."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a defender may see, and nothing else.

    Attributes:
        activations: Of the clean validation pictures, channels last, shape (n, ..., C).
        labels: The classes of these pictures, shape (n,).
        rng: For scores that are drawn.
        tail: The layers behind the cut, which give logits.
        suspicion: Found on first use.
    """

    network: CutNetwork
    activations: Activations
    labels: Labels
    rng: np.random.Generator
    tail: Tail
    suspicion: Suspicion

    @classmethod
    def of_activations(cls, activations: Activations, seed: int = 0) -> Evidence:
        """Return what orders look at that rank by activations alone, and nothing else."""
        nothing: Any = None
        labels = np.zeros(len(activations), np.int64)
        return cls(nothing, activations, labels, np.random.default_rng(seed), nothing, nothing)

    def rows(self, most: int = MOST) -> NDArray[np.int64]:
        """Return the indices of at most so many pictures, spread evenly."""
        return np.unique(np.linspace(0, len(self.labels) - 1, most).astype(np.int64))


@dataclass(frozen=True, eq=False)
class PoisonedEvidence:
    """What an oracle sees besides.

    Attributes:
        activations: Of the poisoned validation pictures, shape (m, ..., C).
        targets: The class that the attacker wants of each, (m,).
        twins: Whether each picture is the clean one of the same row with the trigger, as far as
            number and classes tell.
    """

    activations: Activations
    targets: Labels
    twins: bool = True
