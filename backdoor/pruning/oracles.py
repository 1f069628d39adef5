"""Scores that see poisoned pictures: a bound on what an order can do, never a defence."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backdoor.pruning.scores import Evidence, Scores

ORACLES: dict[str, Callable[[Evidence, NDArray[np.float32]], Scores]] = {}
"""Each takes the evidence and the poisoned validation activations; the lowest score goes first."""
