"""A network without the channels that pruning has removed, where its layers allow that."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.networks.cut import CutNetwork
from backdoor.networks.filters import CHANNELWISE, chain_to
from backdoor.networks.graph import is_nested, retrace, tensors_in

Kept = NDArray[np.int64]  # which numbers of a tensor's last axis are left

# Behind the cut a removed channel is zero, and has to stay so until a layer with weights reads it.
ZERO_AT_ZERO = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.tanh,
    keras.activations.elu,
    keras.activations.selu,
    keras.activations.gelu,
    keras.activations.silu,
)
# Where the weights of a layer count what comes out: the name of that number, and for each weight
# whether its last axis is that.
OUTPUTS = {
    keras.layers.Conv2D: ("filters", (True, True)),
    keras.layers.SeparableConv2D: ("filters", (False, True, True)),
    keras.layers.Dense: ("units", (True, True)),
}
INPUTS = {keras.layers.Conv2D: 2, keras.layers.Dense: 0}
"""Axis of the first weight that counts what goes in."""


def slim_model(network: CutNetwork, removed: Sequence[int]) -> keras.Model:
    """Return B without these channels: the layer that makes them and those that read them smaller.

    Raises:
        UserError: A layer that would have to become smaller is of no known kind, or no channel
            would be left.
    """
    kept = np.setdiff1d(np.arange(network.channels), removed)
    if not len(kept):
        raise UserError("repair: expected a channel that is left to slim the network, found none")
    making = chain_to(network.head, "repair")[0].layer
    if type(making) not in OUTPUTS or getattr(making, "groups", 1) != 1:
        raise _unknown(making)
    slimming = _Slimming(making, kept, network.channels)
    pictures = keras.Input(network.picture_shape, name="pictures")
    activations = retrace(network.head, pictures, slimming.call)
    slimming.behind_the_cut = True
    return keras.Model(pictures, retrace(network.tail, activations, slimming.call), name="repaired")


class _Slimming:
    """Run a network once more, with smaller layers where channels are gone.

    Attributes:
        smaller: What is left of a tensor, by the tensor's id; of others all is.
    """

    def __init__(self, making: keras.Layer, kept: Kept, channels: int) -> None:
        self.making, self.kept, self.channels = making, kept, channels
        self.behind_the_cut = False
        self.smaller: dict[int, Kept] = {}
        self.alive: list[Any] = []  # so that no id is given twice

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a layer, or what stands in its place, on symbolic tensors."""
        if is_nested(layer) and len(layer.inputs) == len(layer.outputs) == 1:
            return retrace(layer, args[0], self.call)
        inputs = tensors_in((args, kwargs))
        if layer is self.making and not self.behind_the_cut:
            return self._known(_with_outputs(layer, inputs[0], self.kept)(*args), self.kept)
        if not any(id(tensor) in self.smaller for tensor in inputs):
            return self._known(layer(*args, **kwargs), None)
        if len(inputs) > 1:
            raise _unknown(layer)
        return self._reduced(layer, inputs[0], self.smaller[id(inputs[0])])

    def _reduced(self, layer: Any, tensor: keras.KerasTensor, kept: Kept) -> Any:
        if type(layer) in INPUTS and getattr(layer, "groups", 1) == 1:
            return self._known(_with_inputs(layer, tensor, kept)(tensor), None)
        if isinstance(layer, keras.layers.Flatten):
            places = int(np.prod(tensor.shape[1:-1]))
            left = (np.arange(places)[:, None] * self.channels + kept).ravel()
            return self._known(layer(tensor), left)
        if isinstance(layer, CHANNELWISE):
            activation = getattr(layer, "activation", keras.activations.linear)
            mixes = activation is keras.activations.softmax
            if activation in ZERO_AT_ZERO or not (self.behind_the_cut or mixes):
                return self._known(layer(tensor), kept)
        if isinstance(layer, keras.layers.BatchNormalization) and not self.behind_the_cut:
            copy = type(layer).from_config(layer.get_config())
            copy.build(tensor.shape)
            copy.set_weights([weight[kept] for weight in layer.get_weights()])
            return self._known(copy(tensor), kept)
        raise _unknown(layer)

    def _known(self, output: Any, kept: Kept | None) -> Any:
        self.alive.append(output)
        if kept is not None:
            self.smaller[id(output)] = kept
        return output


def _with_outputs(layer: Any, tensor: keras.KerasTensor, kept: Kept) -> keras.Layer:
    """Return a copy of a layer that gives these channels alone."""
    counted, last = OUTPUTS[type(layer)]
    weights = [
        weight[..., kept] if is_last else weight
        for weight, is_last in zip(layer.get_weights(), last, strict=False)
    ]
    return _copy(layer, tensor, {counted: len(kept)}, weights)


def _with_inputs(layer: Any, tensor: keras.KerasTensor, kept: Kept) -> keras.Layer:
    """Return a copy of a layer that reads these channels alone."""
    first, *others = layer.get_weights()
    return _copy(layer, tensor, {}, [first.take(kept, axis=INPUTS[type(layer)]), *others])


def _copy(
    layer: Any, tensor: keras.KerasTensor, changed: dict[str, Any], weights: list[Any]
) -> keras.Layer:
    copy = type(layer).from_config(layer.get_config() | changed)
    copy.build(tensor.shape)
    copy.set_weights(weights)
    return copy


def _unknown(layer: Any) -> UserError:
    return UserError(
        f"repair: expected layers around the cut that can be made smaller (Conv2D or Dense "
        f"before and behind it, between them activations, pooling, Dropout, Flatten), got "
        f"{layer.name!r} ({type(layer).__name__}); repair=prune works on every network"
    )
