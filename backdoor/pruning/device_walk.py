"""The walk on a GPU, in chunks of pictures that are copied there once."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels, label_type
from backdoor.networks.batches import rows_at_once
from backdoor.progress import progress
from backdoor.pruning.fast_walk import LinearTail
from backdoor.pruning.walk import parts_of

ROWS = 4096  # that are scored at once: fewer leave a GPU waiting


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
        return _highest(tail(chunk * keep, training=False), smallest)

    labels = []
    parts = parts_of(activations, rows_at_once(tail, ROWS))
    for rows in progress(parts, what, len(parts)):
        chunk = tf.constant(activations[rows])
        labels.append(tf.stack([label(chunk, keep) for keep in tf.constant(kept)]).numpy())
    return np.concatenate(labels, axis=1)


def linear_walk_on_device(
    tail: LinearTail,
    activations: NDArray[np.float32],
    order: NDArray[np.int64],
    what: str = "Walk",
) -> Labels:
    """Walk where TensorFlow computes, backwards as `linear_walk` does.

    Every picture is scored at every step, which a GPU does faster than it finds out which to leave;
    of few pictures several steps are scored together.
    """
    rest, smallest, width = tail.rest(), tail.label_type, len(tail.bias)
    spread, bias = tf.constant(tail.spread), tf.constant(tail.bias)
    backwards = tf.constant(order[::-1].copy())

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((None, *activations.shape[1:]))]
    )
    def label(chunk: tf.Tensor) -> tf.Tensor:
        count = tf.shape(chunk)[0]
        by_place = tf.reshape(chunk, (count, -1, len(order)))
        if tail.averaged:
            by_place = tf.reduce_mean(by_place, axis=1, keepdims=True)
        by_channel = tf.transpose(by_place, (2, 0, 1))
        at_once = tf.maximum(1, ROWS // count)
        units = tf.tile(bias[None], [count, 1])
        # Neither size is known to the graph: the number of blocks, the steps of the last.
        blocks = tf.TensorArray(smallest, 0, dynamic_size=True, infer_shape=False)
        blocks = blocks.write(0, _highest(rest(units), smallest)[None])
        for start in tf.range(0, len(order), at_once):
            some = backwards[start : start + at_once]
            several = units + tf.cumsum(tf.gather(by_channel, some) @ tf.gather(spread, some))
            labels = _highest(rest(tf.reshape(several, (-1, width))), smallest)
            blocks = blocks.write(blocks.size(), tf.reshape(labels, (-1, count)))
            units = several[-1]
        return tf.reverse(blocks.concat(), [0])

    parts = parts_of(activations, ROWS)
    labels = [
        label(tf.constant(activations[rows])).numpy() for rows in progress(parts, what, len(parts))
    ]
    return np.concatenate(labels, axis=1)


def _highest(scores: tf.Tensor, label_type: np.dtype[Any]) -> tf.Tensor:
    """Return the first class of the highest score, as argmax does, which keeps a GPU far longer."""
    classes = scores.shape[-1]
    highest = tf.reduce_max(scores, axis=-1, keepdims=True)
    first = tf.reduce_min(tf.where(scores == highest, tf.range(classes), classes - 1), axis=-1)
    return tf.cast(first, label_type)
