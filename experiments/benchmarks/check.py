"""Whether the fast walk's labels are those of the whole tail at every k."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.test_bed import CLEAN_VALID
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.device_walk import walk_on_device
from backdoor.pruning.walk import walk
from experiments.benchmarks.measure import Pictures, activate, published_orders


def check_labels(network: CutNetwork, pictures: Pictures) -> dict[str, Any]:
    """Compare the walks with another way to take them, the whole tail run at every k.

    A mismatch is a near-tie where the walk's label is one of the two best of the whole tail and
    their scores before the softmax are within a thousandth.
    """

    def other_walk(activations: NDArray[np.float32], order: NDArray[np.int64]) -> Labels:
        if tf.config.list_logical_devices("GPU"):
            return walk(activations, order, network.classify_activations)
        return walk_on_device(network.tail, activations, order)

    activations = {name: activate(network, values) for name, values in pictures.items()}
    gaps: list[float] = []
    orders = published_orders(activations[CLEAN_VALID])
    pictures_in_all = sum(map(len, activations.values()))
    for order in orders.values():
        for values in activations.values():
            labels = walk_network(network, values, order)
            for k, i in np.argwhere(labels != other_walk(values, order)):
                gaps.append(_gap(network, values[i], order[:k], labels[k, i]))
    return {
        "labels_compared": len(orders) * (network.channels + 1) * pictures_in_all,
        "label_mismatches": len(gaps),
        "of_these_near_ties": sum(gap < 1e-3 for gap in gaps),
        "largest_gap": max(gaps, default=0.0),
    }


def _gap(
    network: CutNetwork,
    activations: NDArray[np.float32],
    removed: NDArray[np.int64],
    label: int,
) -> float:
    """Return how far the two best scores are apart, infinity where the label is neither's."""
    kept = activations[None].copy()
    kept[..., removed] = 0
    scores = np.log(np.asarray(network.tail(kept))[0] + 1e-38)
    second, best = np.argsort(scores)[-2:]
    if label not in (second, best):
        return float("inf")
    gap, size = scores[best] - scores[second], max(1, abs(scores[best]), abs(scores[second]))
    return float(gap / size)
