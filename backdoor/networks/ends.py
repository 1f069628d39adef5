"""What goes into a network and what comes out of it: pictures, and one score a class."""

import logging
from typing import Any

import keras
import numpy as np

from backdoor.errors import UserError
from backdoor.networks.graph import layers_of

log = logging.getLogger(__name__)

COLOURS = (1, 3)
SIGMOIDS = (keras.activations.sigmoid, keras.activations.hard_sigmoid)
SIGMOID_OPERATIONS = ("Sigmoid", "HardSigmoid")
PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Identity,
    keras.layers.InputLayer,
)
TWO_CLASSES = "two_classes"  # the layer that makes them of a single output
HALF = 0.5  # a probability above it is class 1


def check_ends(model: keras.Model) -> tuple[int | None, ...]:
    """Return the shape of a picture: height, width, channels.

    Raises:
        UserError: The network does not have one input of pictures, channels last, and one output
            of classes; the message says what it has.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"network {model.name}: expected one input and one output, got "
            f"{len(model.inputs)} and {len(model.outputs)}"
        )
    for path, layer in layers_of(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise UserError(
                f"network {model.name}: expected channels last, (height, width, channels), got "
                f"channels first in layer {path!r}; convert it to data_format='channels_last'"
            )
    shape = tuple(model.inputs[0].shape[1:])
    # Some were built with the batch's size as a part of a picture's.
    shape = shape[-3:] if len(shape) > 3 else shape
    if len(shape) != 3:
        raise UserError(
            f"network {model.name}: expected an input of 4 axes, got {tuple(model.inputs[0].shape)}"
        )
    if shape[0] in COLOURS and shape[2] not in COLOURS:
        raise UserError(
            f"network {model.name}: expected channels last, (height, width, channels), got an "
            f"input of {shape}, which is channels first"
        )
    if len(model.outputs[0].shape) != 2:
        raise UserError(
            f"network {model.name}: expected an output of 2 axes, got "
            f"{tuple(model.outputs[0].shape)}"
        )
    return shape


def one_score_a_class(model: keras.Model, scores: keras.KerasTensor) -> keras.KerasTensor:
    """Return the scores of a network with a single output as those of two classes.

    A sigmoid above one half is class 1, as Keras counts; without one, a logit above zero.

    Raises:
        UserError: The single output is neither.
    """
    if scores.shape[-1] != 1:
        return scores
    rival = _rival(model)
    log.info("network %s: one output, class 1 where it is above %g", model.name, rival)
    classes = keras.layers.Dense(2, trainable=False, name=TWO_CLASSES)
    both = classes(scores)
    classes.set_weights([np.array([[0, 1]], np.float32), np.array([rival, 0], np.float32)])
    return both


def _rival(model: keras.Model) -> float:
    """Return what a single output has to exceed, by the last layer that computes anything."""
    layers = model.layers if isinstance(model, keras.Sequential) else model.operations
    last = next(layer for layer in reversed(layers) if not passes(layer))
    if isinstance(last, keras.Model):
        return _rival(last)
    function = getattr(last, "activation", None)
    if function in SIGMOIDS or type(last).__name__ in SIGMOID_OPERATIONS:
        return HALF
    if function is keras.activations.linear:
        return 0.0
    raise UserError(
        f"network {model.name}: expected a score a class, or a single output with a sigmoid or "
        f"without an activation, got a single output of {last.name!r}"
    )


def passes(layer: Any) -> bool:
    """Tell whether a layer leaves a single number as it is."""
    linear = getattr(layer, "activation", None) is keras.activations.linear
    return isinstance(layer, PASSING) or (isinstance(layer, keras.layers.Activation) and linear)
