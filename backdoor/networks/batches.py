"""Networks as functions of arrays, computed with so many rows at once as fit well into memory."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import label_type
from backdoor.networks.graph import calls_of, tensors_in

LARGEST_OUTPUT = 2**28  # bytes that one layer gives: VGG16's first, 20 pictures of 224 x 224

Run = Callable[[NDArray[np.float32]], NDArray[Any]]


def in_batches(model: keras.Model, most: int, labels: bool = False) -> Run:
    """Return the network as a function of arrays: rows (n, ...) to its output, or labels (n,).

    Args:
        most: Rows at once, where that many fit.
        labels: Give the class of the highest score in place of the scores.
    """
    run, size = _compiled(model, labels), rows_at_once(model, most)

    def in_batches(values: NDArray[np.float32]) -> NDArray[Any]:
        starts = range(0, len(values), size) or (0,)
        return np.concatenate([run(values[s : s + size]) for s in starts])

    return in_batches


def rows_at_once(model: keras.Model, most: int) -> int:
    """Return how many rows, at most `most`, a network computes with in `LARGEST_OUTPUT` a layer."""
    calls, _ = calls_of(model, keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype))
    # A size that is known with the picture alone counts once.
    shapes = [tensor.shape[1:] for call in calls for tensor in tensors_in(call.output)]
    largest = max((math.prod(size or 1 for size in shape) for shape in shapes), default=1)
    return max(1, min(most, LARGEST_OUTPUT // (4 * largest)))


def _compiled(model: keras.Model, labels: bool) -> Run:
    smallest = label_type(model.output_shape[-1])

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    )
    def run(batch: tf.Tensor) -> tf.Tensor:
        output = model(batch, training=False)
        return tf.cast(tf.argmax(output, axis=-1), smallest) if labels else output

    return lambda batch: run(batch).numpy()
