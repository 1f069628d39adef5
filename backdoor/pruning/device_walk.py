"""The walk on a GPU, in chunks of pictures that are copied there once."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels, label_type
from backdoor.progress import progress
from backdoor.pruning.fast_walk import LinearTail

LARGE_CHUNK = 4096  # pictures a step


def walk_on_device(
    tail: keras.Model,
    activations: NDArray[np.float32],
    order: NDArray[np.int64],
    what: str = "Walk",
) -> Labels:
    """Walk where TensorFlow computes, with all layers behind the cut at every step."""
    kept = np.ones((len(order) + 1, len(order)), np.float32)
    for k, channel in enumerate(order, start=1):
        kept[k:, channel] = 0

    smallest = label_type(tail.output_shape[-1])
    shapes = [tf.TensorSpec((None, *tail.input_shape[1:])), tf.TensorSpec((len(order),))]

    @tf.function(input_signature=shapes)  # type: ignore[untyped-decorator]
    def label(chunk: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(tail(chunk * keep, training=False), axis=-1), smallest)

    starts = range(0, len(activations), LARGE_CHUNK)
    labels = []
    for start in progress(starts, what, len(starts)):
        chunk = tf.constant(activations[start : start + LARGE_CHUNK])
        labels.append(tf.stack([label(chunk, keep) for keep in tf.constant(kept)]).numpy())
    return np.concatenate(labels, axis=1)


def linear_walk_on_device(
    tail: LinearTail,
    activations: NDArray[np.float32],
    order: NDArray[np.int64],
    what: str = "Walk",
) -> Labels:
    """Walk where TensorFlow computes, backwards as `linear_walk` does.

    Every picture is scored at every step, which a GPU does faster than it finds out which to leave.
    """
    rest, smallest, steps = tail.rest(), tail.label_type, len(order)
    spread, bias = tf.constant(tail.spread), tf.constant(tail.bias)
    channels = tf.constant(order)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((steps, None, tail.spread.shape[1]))]
    )
    def label(by_channel: tf.Tensor) -> tf.Tensor:
        def labels_of(units: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.argmax(rest(units, training=False), axis=-1), smallest)

        units = tf.tile(bias[None], [tf.shape(by_channel)[1], 1])
        labels = tf.TensorArray(smallest, steps + 1).write(steps, labels_of(units))
        for k in tf.range(steps - 1, -1, -1):
            channel = channels[k]
            units += by_channel[channel] @ spread[channel]
            labels = labels.write(k, labels_of(units))
        return labels.stack()

    starts = range(0, len(activations), LARGE_CHUNK)
    chunks = (activations[start : start + LARGE_CHUNK] for start in starts)
    labels = [
        label(tf.constant(tail.by_place(chunk).transpose(2, 0, 1))).numpy()
        for chunk in progress(chunks, what, len(starts))
    ]
    return np.concatenate(labels, axis=1)
