"""The GoodNet: B where B and its pruned copy B' agree, else one class more, "backdoored"."""

from collections.abc import Sequence

import keras
import numpy as np

from backdoor.networks.cut import CutNetwork


def build_goodnet(network: CutNetwork, removed: Sequence[int]) -> keras.Model:
    """Return G: pictures to (n, N + 1), one-hot, so that argmax is the answer.

    It is made of Keras' own layers and operations alone, so it loads wherever Keras does; B and B'
    share the head, and B' differs by a factor of 0 on the removed channels.
    """
    keep = np.ones(network.channels)
    keep[list(removed)] = 0
    pictures = keras.Input(network.model.input_shape[1:], name="pictures")
    activations = network.head(pictures)
    pruned_activations = keras.layers.Rescaling(keep.tolist(), name="pruning")(activations)
    badnet = keras.ops.argmax(network.tail(activations), axis=-1)
    pruned = keras.ops.argmax(network.tail(pruned_activations), axis=-1)
    answer = keras.ops.where(keras.ops.equal(badnet, pruned), badnet, network.classes)
    return keras.Model(pictures, keras.ops.one_hot(answer, network.classes + 1), name="goodnet")
