"""The tail with its scores before the softmax, where one loss can still be told from another."""

from typing import Any

import keras
import numpy as np

from backdoor.networks.ends import SIGMOID_OPERATIONS, SIGMOIDS, TWO_CLASSES, passes
from backdoor.networks.graph import calls_of

SQUASHING = (keras.activations.softmax, *SIGMOIDS)
OPERATIONS = ("Softmax", *SIGMOID_OPERATIONS)  # layers and operations by these names squash
TRIED = 8  # random activations by whose scores probabilities are told
SMALLEST = 1e-12  # a probability that has a logarithm


def logits_of(tail: keras.Model) -> keras.Model:
    """Return the tail without the softmax or sigmoid that it ends in: one logit a class.

    Of a network that ends in neither and gives probabilities all the same, their logarithms.
    """
    shape = tail.input_shape[1:]
    calls, _ = calls_of(tail, keras.Input(shape))
    computing = [n for n, call in enumerate(calls) if not _passes(call.layer)]
    last = computing[-1] if computing else -1
    squashed = last >= 0 and _squashes(calls[last].layer)

    def instead(number: int, layer: Any) -> Any:
        if squashed and number == last:
            return _without_activation(layer, calls[number].inputs[0].shape)
        if squashed and _makes_two_classes(layer):
            return _against_zero(layer)
        return layer

    cut = keras.Input(shape)
    _, logits = calls_of(tail, cut, instead)
    if not squashed and _are_probabilities(tail):
        logits = keras.ops.log(logits + SMALLEST)
    return keras.Model(cut, logits, name="logits")


def _passes(layer: Any) -> bool:
    return passes(layer) or _makes_two_classes(layer)


def _makes_two_classes(layer: Any) -> bool:
    """Tell whether a layer is the one with which ends.py makes two scores of one."""
    is_dense = isinstance(layer, keras.layers.Dense) and layer.name == TWO_CLASSES
    return is_dense and not layer.trainable


def _squashes(layer: Any) -> bool:
    by_name = type(layer).__name__ in OPERATIONS
    return by_name or getattr(layer, "activation", None) in SQUASHING


def _without_activation(layer: Any, shape: tuple[int | None, ...]) -> keras.Layer:
    if type(layer).__name__ in OPERATIONS or isinstance(layer, keras.layers.Activation):
        return keras.layers.Identity()
    copy = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    copy.build(shape)
    copy.set_weights(layer.get_weights())
    return copy


def _against_zero(two_classes: Any) -> keras.Layer:
    """Return the layer that makes two classes of a single logit: class 1 where it is above zero."""
    copy = keras.layers.Dense(2, name=TWO_CLASSES)
    copy.build((None, 1))
    copy.set_weights([two_classes.get_weights()[0], np.zeros(2, np.float32)])
    return copy


def _are_probabilities(tail: keras.Model) -> bool:
    shape = [TRIED, *(size or 1 for size in tail.input_shape[1:])]
    tried = np.maximum(np.random.default_rng(0).normal(size=shape), 0).astype(np.float32)
    scores = np.asarray(tail(tried, training=False))
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
