"""The layers behind the cut in NumPy, for networks of a known kind: fast, with the same labels.

What comes first behind the cut is mostly linear (a flattened dense layer, a convolution), so what a
channel adds to it is one small matrix product. Only what follows the first nonlinearity has to be
computed in full when a channel goes, and of that only the units that are positive for some picture.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import scipy.special
from numpy.typing import NDArray

from backdoor.networks.graph import Call, calls_of
from backdoor.pruning.fast_walk import LinearTail
from backdoor.pruning.rest import Root, rest_of

Array = NDArray[np.float32]

LARGEST_SPREAD = 2**26  # numbers, 256 MB: more is slower than running the layers
TRIED = 256  # random activations on which the NumPy tail must agree with Keras

PASSING = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.Identity,
)
FLAT = (keras.layers.Flatten, keras.layers.Reshape)  # which leave the numbers in their order
WITH_ACTIVATION = (keras.layers.Dense, keras.layers.Conv2D)
LINEAR = (
    *WITH_ACTIVATION,
    *PASSING,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.BatchNormalization,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Rescaling,
)
ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.Softmax,
)


ELEMENTWISE = {
    keras.activations.relu6: lambda values: np.clip(values, 0, 6),
    keras.activations.sigmoid: scipy.special.expit,
    keras.activations.tanh: np.tanh,
}


class UnknownKindError(Exception):
    """The layers behind the cut are not all of a known kind."""


@dataclass(frozen=True, eq=False)
class Rectified:
    """The larger of `before` and zero, left to the reader, who may need a part of it only."""

    before: Array


Values = Array | Rectified
"""A row a picture, flat, that ends in a constant 1: so a bias is one more row of a kernel.

The scores of a dense layer at the network's end are without the constant.
"""

Operation = Callable[..., Values]


@dataclass(frozen=True)
class Step:
    """One operation of the NumPy tail: `values[output] = run(*(values[i] for i in inputs))`."""

    run: Operation
    inputs: Sequence[int]
    output: int


def translated(tail: keras.Model) -> LinearTail | None:
    """Return the layers behind the cut in NumPy, or None where one is of no known kind.

    What is returned has been tried: it agrees with Keras' own on random activations.
    """
    try:
        linear = _Translation(tail).result
    except UnknownKindError:
        return None
    return linear if _agrees(linear, tail) else None


def dense(values: Values, kernel: Array) -> Array:
    """Return values @ kernel; of rectified values, columns that are nowhere positive add nothing.

    They are left out before the others are rectified. NaN is kept: it is no zero.
    """
    if isinstance(values, Rectified):
        used = values.before.max(axis=0, initial=0).nonzero()[0]
        picked = values.before[:, used]
        product: Array = relu(picked, out=picked) @ kernel.take(used, axis=0)
    else:
        product = values @ kernel
    return product


def add(*several: Values) -> Array:
    """Return the sum; the constant stays 1."""
    total: Array = functools.reduce(np.add, map(whole, several))
    total[:, -1] = 1
    return total


def whole(values: Values) -> Array:
    """Return all values, rectified where they are to be."""
    return relu(values.before) if isinstance(values, Rectified) else values


def relu(values: Array, out: Array | None = None) -> Array:
    """Return the larger of each value and zero.

    NumPy 2.4 is three times as fast with a row of zeros as with a single one.
    """
    return np.maximum(values, np.zeros(values.shape[-1], values.dtype), out=out)


class _Translation:
    """Sort the layers into those linear in the activations and those that follow."""

    def __init__(self, tail: keras.Model) -> None:
        cut = keras.Input(tail.input_shape[1:])
        if None in cut.shape[1:]:
            raise UnknownKindError
        self.places, self.channels = int(np.prod(cut.shape[1:-1])), int(cut.shape[-1])
        self.linear: dict[int, Any] = {}
        self.roots: list[int] = []
        self.steps: list[Step] = []
        self.known: set[int] = set()
        self.before: dict[int, int] = {}
        self.calls, self.scores = calls_of(tail, cut)
        first = _reader(self.calls, cut)
        self.result = self._of_kernel(first) if first else self._of_basis(cut)

    def _of_kernel(self, first: "_Reader") -> LinearTail:
        """Return the tail whose first units are a dense layer's, with its kernel as it is."""
        call = self.calls[first.number]
        before = id(call.output)
        if _is_linear(call.layer.activation):
            self.known.add(before)
        else:
            before = id(call)  # of the values before the activation
            self._step_from(before, call)
        for other in self.calls[first.number + 1 :]:
            self._add(other)
        kernel, *bias = call.layer.get_weights()
        places = 1 if first.averaged else self.places
        by_channel = kernel.reshape(places, self.channels, -1).transpose(1, 0, 2)
        biases = bias[0] if bias else np.zeros(kernel.shape[1], np.float32)
        ends = call.output is self.scores

        def begin(units: Array) -> dict[int, Values]:
            return {before: units if ends else np.column_stack([units, _ones(units)])}

        roots = [Root(before, slice(0, len(biases)), (len(biases),))]
        rest = self._rest(roots)
        return LinearTail(biases, by_channel, self._score(begin), rest, first.averaged)

    def _of_basis(self, cut: keras.KerasTensor) -> LinearTail:
        """Return the tail whose linear layers are found out by what they make of a basis."""
        inputs = self.places * self.channels
        if inputs > LARGEST_SPREAD**0.5:
            raise UnknownKindError
        # No activations at all, then each single one: a linear layer's bias and its matrix.
        self.linear[id(cut)] = np.eye(inputs + 1, inputs, -1).reshape(-1, *cut.shape[1:])
        for call in self.calls:
            self._add(call)
        output = id(self.scores)
        if output in self.linear:
            self._root(output)
        matrices = [self._matrix(root) for root in self.roots]
        if sum(matrix.size for matrix in matrices) > LARGEST_SPREAD:
            raise UnknownKindError
        spread = np.concatenate(matrices, axis=1)
        ends = np.cumsum([matrix.shape[1] for matrix in matrices]).tolist()
        columns = [slice(*pair) for pair in itertools.pairwise([0, *ends])]
        roots = list(self.roots)

        def begin(units: Array) -> dict[int, Values]:
            return {root: units[:, some] for root, some in zip(roots, columns, strict=True)}

        by_channel = spread[1:].reshape(self.places, self.channels, -1).transpose(1, 0, 2)
        described = [
            Root(root, slice(some.start, some.stop - 1), self.linear[root].shape[1:])
            for root, some in zip(roots, columns, strict=True)
        ]  # without the constant
        return LinearTail(
            spread[0].astype(np.float32),
            np.ascontiguousarray(by_channel, np.float32),
            self._score(begin),
            self._rest(described),
        )

    def _rest(self, roots: Sequence[Root]) -> Callable[[Any], Any]:
        return rest_of(self.calls, self.scores, roots, self.before)

    def _score(self, begin: Callable[[Array], dict[int, Values]]) -> Callable[[Array], Array]:
        """Return what gives scores of the first units, which `begin` gives their names."""
        steps, output, classes = list(self.steps), id(self.scores), self.scores.shape[-1]

        def score(units: Array) -> Array:
            values = begin(units)
            for step in steps:
                values[step.output] = step.run(*(values[item] for item in step.inputs))
            return whole(values[output])[:, :classes]

        return score

    def _add(self, call: Call) -> None:
        layer, inputs, output = call.layer, [id(item) for item in call.inputs], id(call.output)
        if isinstance(layer, LINEAR) and all(item in self.linear for item in inputs):
            values = [self.linear[item] for item in inputs]
            if len(values[0]) * math.prod(call.output.shape[1:]) > LARGEST_SPREAD:
                raise UnknownKindError
            copy = _linear_copy(call)
            affine = np.asarray(copy(values if len(values) > 1 else values[0], training=False))
            if isinstance(layer, WITH_ACTIVATION) and not _is_linear(layer.activation):
                before = id(affine)  # of the values before the activation
                self.linear[before] = affine
                self._root(before)
                self._step_from(before, call)
            else:
                self.linear[output] = affine
            return
        for item in inputs:
            if item in self.linear:
                self._root(item)
            elif item not in self.known:
                raise UnknownKindError
        self._step(self._operation(call), inputs, output)

    def _operation(self, call: Call) -> Operation:
        layer = call.layer
        if isinstance(layer, (*PASSING, keras.layers.Flatten)):
            return lambda values: values
        if isinstance(layer, keras.layers.Add) and len({item.shape for item in call.inputs}) == 1:
            return add
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shift = _scale_and_shift(call)
            return lambda values: whole(values) * scale + shift
        if isinstance(layer, keras.layers.Dense):
            kernel = _kernel(call, constant=call.output is not self.scores)
            activation = self._activation(call)
            return lambda values: activation(dense(values, kernel))
        if isinstance(layer, ACTIVATIONS):
            return self._activation(call)
        raise UnknownKindError

    def _activation(self, call: Call) -> Operation:
        layer = call.layer
        if isinstance(layer, keras.layers.LeakyReLU):
            slope = np.float32(layer.negative_slope)
            return lambda values: _leaky(whole(values), slope)
        plain_relu = isinstance(layer, keras.layers.ReLU) and (
            layer.max_value is None and not layer.negative_slope and not layer.threshold
        )
        function = keras.activations.relu if plain_relu else getattr(layer, "activation", None)
        if function is keras.activations.relu:
            return lambda values: Rectified(whole(values))
        if function in ELEMENTWISE:
            one_by_one, constant = ELEMENTWISE[function], call.output is not self.scores
            return lambda values: _with_constant(one_by_one(whole(values)), constant)
        # The largest score is the largest before the softmax, too.
        softmax = function is keras.activations.softmax or isinstance(layer, keras.layers.Softmax)
        if _is_linear(function) or (call.output is self.scores and softmax):
            return lambda values: values
        raise UnknownKindError

    def _root(self, tensor: int) -> None:
        if tensor not in self.roots:
            self.roots.append(tensor)

    def _step_from(self, before: int, call: Call) -> None:
        """Add the activation of a layer, of whose values before it that is the name."""
        self.before[id(call.output)] = before
        self._step(self._activation(call), [before], id(call.output))

    def _step(self, run: Operation, inputs: Sequence[int], output: int) -> None:
        self.steps.append(Step(run, inputs, output))
        self.known.add(output)

    def _matrix(self, root: int) -> NDArray[np.float64]:
        values = self.linear[root].reshape(len(self.linear[root]), -1)
        values = np.append(values, np.ones((len(values), 1)), axis=1)
        return np.concatenate([values[:1], values[1:] - values[:1]])


@dataclass(frozen=True)
class _Reader:
    """The dense layer that alone reads the activations, flattened or each channel's mean.

    Attributes:
        number: Of its call.
    """

    number: int
    averaged: bool


def _reader(calls: Sequence[Call], cut: keras.KerasTensor) -> _Reader | None:
    """Return the dense layer that all paths from the cut lead to first, None where it is none."""
    at, averaged = cut, False
    for number, call in enumerate(calls):
        alone = sum(item is at for other in calls for item in other.inputs) == 1
        if not alone or len(call.inputs) != 1 or call.inputs[0] is not at:
            return None
        layer, dimensions = call.layer, len(at.shape)
        if isinstance(layer, keras.layers.Dense):
            usual = dimensions == 2 and len(layer.get_weights()) == 1 + layer.use_bias
            return _Reader(number, averaged) if usual else None
        pooled = isinstance(layer, keras.layers.GlobalAveragePooling2D) and at.shape == cut.shape
        if not pooled and not isinstance(layer, (*PASSING, *FLAT)):
            return None
        at, averaged = call.output, averaged or pooled
    return None


def _ones(values: Array) -> Array:
    return np.ones(len(values), values.dtype)


def _with_constant(values: Array, constant: bool) -> Array:
    if constant:
        values[:, -1] = 1
    return values


def _leaky(values: Array, slope: np.float32) -> Array:
    return np.where(values > 0, values, slope * values)


def _is_linear(activation: object) -> bool:
    return activation is keras.activations.linear


def _linear_copy(call: Call) -> keras.Layer:
    """Return the layer in double precision and without its activation."""
    layer = call.layer
    without = {"activation": None} if isinstance(layer, WITH_ACTIVATION) else {}
    copy = type(layer).from_config(layer.get_config() | {"dtype": "float64"} | without)
    if layer.weights:
        copy.build(call.inputs[0].shape)
        copy.set_weights(layer.get_weights())
    return copy


def _kernel(call: Call, constant: bool) -> Array:
    """Return the kernel with the bias as its last row, and a column that hands on the constant."""
    layer = call.layer
    if len(call.inputs[0].shape) != 2 or len(layer.get_weights()) != 1 + layer.use_bias:
        raise UnknownKindError
    weights, *bias = layer.get_weights()
    kernel = np.vstack([weights, *bias] if bias else [weights, np.zeros(layer.units)])
    if constant:
        kernel = np.column_stack([kernel, np.arange(len(kernel)) == len(weights)])
    return np.ascontiguousarray(kernel, np.float32)


def _scale_and_shift(call: Call) -> tuple[Array, Array]:
    """Return what the layer multiplies by and adds, got by asking it: f(0) and f(1) - f(0)."""
    shape = call.inputs[0].shape[1:]
    ends = np.stack([np.zeros(shape), np.ones(shape)])
    at_0, at_1 = np.asarray(_linear_copy(call)(ends)).reshape(2, -1)
    return np.append(at_1 - at_0, 1).astype(np.float32), np.append(at_0, 0).astype(np.float32)


def _agrees(linear: LinearTail, tail: keras.Model) -> bool:
    rng = np.random.default_rng(0)
    shape = (TRIED, *tail.input_shape[1:])
    some = rng.random(shape) < 0.5
    tried = (some * np.maximum(rng.normal(0, 2, shape), 0)).astype(np.float32)
    expected = np.asarray(tail(tried, training=False)).argmax(axis=1)
    return bool((linear.classify(tried) == expected).all())
