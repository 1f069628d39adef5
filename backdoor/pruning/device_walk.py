"""The walk on a GPU."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels, label_type
from backdoor.progress import progress

LARGE_CHUNK = 4096  # pictures a step


def walk_on_device(
    tail: keras.Model,
    activations: NDArray[np.float32],
    order: NDArray[np.int64],
    what: str = "Walk",
) -> Labels:
    """Walk where TensorFlow computes: activations are copied there once a walk.

    Every picture is scored at every step, which a GPU does faster than it finds out which to leave.
    """
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
