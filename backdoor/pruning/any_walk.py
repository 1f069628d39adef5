"""The walk of any network, the fastest way that it and the machine allow."""

import functools

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork
from backdoor.pruning.device_walk import linear_walk_on_device, walk_on_device
from backdoor.pruning.fast_walk import LinearTail, linear_walk
from backdoor.pruning.linear_layers import translated
from backdoor.pruning.walk import Activations, parts_of, walk


def walk_network(
    network: CutNetwork, activations: Activations, order: NDArray[np.int64], what: str = "Walk"
) -> Labels:
    """Return the labels with the first k channels of `order` removed, k = 0..C, shape (C + 1, n).

    Whichever way is taken, the labels are the same, but where two scores are equal but for
    rounding.
    """
    on_device = tf.config.list_logical_devices("GPU")
    tail = linear_tail(network.tail)
    # In a sum of products, infinity times zero is NaN.
    finite = np.isfinite([activations.min(), activations.max()]).all()
    if tail is None or not finite:
        if on_device:
            return walk_on_device(network.tail, activations, order, what)
        return _plain_walk(network, activations, order, what)
    if on_device:
        return linear_walk_on_device(tail, activations, order, what)
    threads = tf.config.threading.get_intra_op_parallelism_threads() or 1
    return linear_walk(activations, order, tail, threads, what)


def _plain_walk(
    network: CutNetwork, activations: Activations, order: NDArray[np.int64], what: str
) -> Labels:
    """Walk with as many pictures at once as fit well into memory."""
    parts = parts_of(activations)
    labels = []
    for number, rows in enumerate(parts, start=1):
        said = f"{what}, part {number} of {len(parts)}" if what and len(parts) > 1 else what
        labels.append(walk(activations[rows], order, network.classify_activations, said))
    return np.concatenate(labels, axis=1)


@functools.lru_cache(maxsize=1)
def linear_tail(tail: keras.Model) -> LinearTail | None:
    """Return the tail in NumPy, None where it has a layer of no known kind."""
    return translated(tail)
