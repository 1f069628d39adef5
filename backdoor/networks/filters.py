"""The convolution that makes the channels at the cut, and the layers between the two."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.networks.graph import Call, calls_of
from backdoor.networks.where import POOLING

# What leaves channels apart: each of what comes out depends on the same of what goes in.
CHANNELWISE = (
    *POOLING,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.Identity,
    keras.layers.ZeroPadding2D,
    keras.layers.UpSampling2D,
)
MAKING = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)


@dataclass(frozen=True, eq=False)
class Filters:
    """What makes each channel.

    Attributes:
        kernel: Shape (inputs, places, C), places is height x width.
        factor: By which batch normalisation multiplies each channel afterwards, shape (C,).
    """

    kernel: NDArray[np.float32]
    factor: NDArray[np.float32]


def chain_to(head: keras.Model, wanted_by: str) -> list[Call]:
    """Return the convolution whose channels the head gives and what follows it, first to last.

    Args:
        wanted_by: The setting that asks for it, for messages.

    Raises:
        UserError: Before the cut is something else than a convolution and layers that leave
            channels apart.
    """
    calls, output = calls_of(head, keras.Input(head.input_shape[1:]))
    by_output = {id(call.output): call for call in calls}
    chain: list[Call] = []
    while True:
        call = by_output.get(id(output))
        if call is None or not isinstance(
            call.layer, (*MAKING, *CHANNELWISE, keras.layers.BatchNormalization)
        ):
            there = call.layer.name if call else "the pictures"
            raise UserError(
                f"{wanted_by}: expected a convolution before the cut, with nothing but activation, "
                f"normalisation and pooling between, got {there}"
            )
        chain.insert(0, call)
        if isinstance(call.layer, MAKING):
            return chain
        output = call.inputs[0]


def filters_of(chain: Sequence[Call]) -> Filters:
    """Return the kernel of the first layer of a chain, and the factors of those that follow."""
    kernel = _kernel(chain[0].layer)
    factor = np.ones(kernel.shape[-1], np.float32)
    for call in chain[1:]:
        if isinstance(call.layer, keras.layers.BatchNormalization):
            scale = call.layer.gamma if call.layer.scale else 1
            spread = np.sqrt(np.asarray(call.layer.moving_variance) + call.layer.epsilon)
            factor = factor * np.abs(np.asarray(scale) / spread)
    return Filters(kernel, factor)


def _kernel(layer: keras.Layer) -> NDArray[np.float32]:
    if isinstance(layer, keras.layers.SeparableConv2D):
        depthwise, pointwise = (np.asarray(weight) for weight in layer.get_weights()[:2])
        height, width, inputs, several = depthwise.shape
        pointwise = pointwise.reshape(inputs, several, -1)
        whole = np.einsum("hwim,imo->ihwo", depthwise, pointwise)
        return np.ascontiguousarray(whole.reshape(inputs, height * width, -1))
    kernel = np.asarray(layer.get_weights()[0])
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return kernel.reshape(1, kernel.shape[0] * kernel.shape[1], -1)
    if isinstance(layer, keras.layers.Dense):
        return kernel[:, None]
    height, width, inputs, outputs = kernel.shape
    return kernel.transpose(2, 0, 1, 3).reshape(inputs, height * width, outputs)
