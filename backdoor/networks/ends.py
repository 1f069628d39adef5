"""What goes into a network and what comes out of it: pictures, and one score a class."""

import keras
import numpy as np

from backdoor.errors import UserError
from backdoor.networks.graph import layers_of

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
    if len(model.outputs[0].shape) != 2:
        raise UserError(
            f"network {model.name}: expected an output of 2 axes, got "
            f"{tuple(model.outputs[0].shape)}"
        )
    return shape


def one_score_a_class(model: keras.Model, scores: keras.KerasTensor) -> keras.KerasTensor:
    """Return the scores of a network with a single output as those of two classes.

    A sigmoid above one half is class 1, as Keras counts; without one, a logit above zero.
    """
    if scores.shape[-1] != 1:
        return scores
    rival = HALF if _ends_in_sigmoid(model) else 0.0
    classes = keras.layers.Dense(2, trainable=False, name="two_classes")
    both = classes(scores)
    classes.set_weights([np.array([[0, 1]], np.float32), np.array([rival, 0], np.float32)])
    return both


def _ends_in_sigmoid(model: keras.Model) -> bool:
    last = (model.layers if isinstance(model, keras.Sequential) else model.operations)[-1]
    if isinstance(last, keras.Model):
        return _ends_in_sigmoid(last)
    function = getattr(last, "activation", None)
    return function is keras.activations.sigmoid or type(last).__name__ == "Sigmoid"
