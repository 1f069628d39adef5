"""How many multiply-adds the head and a walk need, to compare with what a machine can do."""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.networks.cut import CutNetwork
from backdoor.pruning import linear_layers
from backdoor.pruning.any_walk import linear_tail
from backdoor.pruning.fast_walk import LinearTail, linear_walk
from backdoor.pruning.linear_layers import Rectified, dense

WITH_KERNEL = (
    keras.layers.Dense,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


def multiplications(model: keras.Model) -> int:
    """Return the multiply-adds of one picture in the model's convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, WITH_KERNEL):
            places = int(np.prod(layer.output.shape[1:-1]))
            kernels = [weight for weight in layer.get_weights() if weight.ndim > 1]
            total += places * sum(kernel.size for kernel in kernels)
    return total


def needed_by_walk(
    network: CutNetwork, activations: Mapping[str, NDArray[np.float32]], order: NDArray[np.int64]
) -> int:
    """Return the multiply-adds of a walk on all sets, those with a zero left out.

    An activation is multiplied once, as its channel goes; what follows is computed again for
    pictures on which that channel is not zero, from what is positive there.
    """
    tail = linear_tail(network.tail)
    if tail is None:
        return sum(map(_scored, activations.values())) * multiplications(network.tail)
    return sum(_needed(tail, values, order) for values in activations.values())


def _needed(tail: LinearTail, values: NDArray[np.float32], order: NDArray[np.int64]) -> int:
    found = int(np.count_nonzero(tail.by_place(values))) * len(tail.bias)

    def counting(given: Any, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal found
        numbers = given.before > 0 if isinstance(given, Rectified) else given
        found += int(np.count_nonzero(numbers)) * kernel.shape[1]
        return dense(given, kernel)

    with mock.patch.object(linear_layers, "dense", counting):
        linear_walk(values, order, tail, what="")
    return found


def _scored(activations: NDArray[np.float32]) -> int:
    """Return how often a channel that goes is not zero on a picture."""
    return int(np.count_nonzero(activations.any(axis=tuple(range(1, activations.ndim - 1)))))
