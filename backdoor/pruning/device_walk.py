"""The walk on a GPU, in chunks of pictures that are copied there once."""

import functools
from collections.abc import Callable
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.evaluation import Labels, label_type
from backdoor.networks.batches import LARGEST_OUTPUT, rows_at_once
from backdoor.progress import progress
from backdoor.pruning.fast_walk import LinearTail
from backdoor.pruning.walk import parts_of

ROWS = 8192  # that are scored at once: fewer leave a GPU waiting


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
    label, parts = _labeller(tail), parts_of(activations, _most(tail))
    backwards = tf.constant(order[::-1].copy())
    by_place = activations.reshape(len(activations), -1, len(order))
    labels = [
        label(tf.constant(by_place[rows]), backwards).numpy()
        for rows in progress(parts, what, len(parts))
    ]
    return np.concatenate(labels, axis=1)


@functools.lru_cache(maxsize=1)  # traced once for all sets and orders
def _labeller(tail: LinearTail) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return what labels activations (n, places, C) at every k, 0..C, as channels come back."""
    smallest, width, most = tail.label_type, len(tail.bias), _most(tail)
    spread, bias = tf.constant(tail.spread), tf.constant(tail.bias)
    shape = (None, None, len(tail.spread))

    def labels_of(units: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(tail.rest(units), axis=-1), smallest)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec(shape), tf.TensorSpec(shape[-1:], tf.int64)]
    )
    def label(by_place: tf.Tensor, backwards: tf.Tensor) -> tf.Tensor:
        if tail.averaged:
            by_place = tf.reduce_mean(by_place, axis=1, keepdims=True)
        count, by_channel = tf.shape(by_place)[0], tf.transpose(by_place, (2, 0, 1))
        at_once = tf.maximum(1, most // count)
        units = tf.tile(bias[None], [count, 1])
        # Neither size is known to the graph: the number of blocks, the steps of the last.
        blocks = tf.TensorArray(smallest, 0, dynamic_size=True, infer_shape=False)
        blocks = blocks.write(0, labels_of(units)[None])
        for start in tf.range(0, len(tail.spread), at_once):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)  # which hold memory
            some = backwards[start : start + at_once]
            added = tf.gather(by_channel, some) @ tf.gather(spread, some)
            several = units + _summed_up(added)
            labels = labels_of(tf.reshape(several, (-1, width)))
            blocks = blocks.write(blocks.size(), tf.reshape(labels, (-1, count)))
            units = several[-1]
        return tf.reverse(blocks.concat(), [0])

    return cast(Callable[[tf.Tensor, tf.Tensor], tf.Tensor], label)


def _most(tail: LinearTail) -> int:
    """Return how many rows of first units are computed with at once."""
    return min(ROWS, max(1, LARGEST_OUTPUT // tail.bias.nbytes))


def _summed_up(added: tf.Tensor) -> tf.Tensor:
    """Return the sums along the first axis.

    TensorFlow's cumsum sets a block of a GPU's threads to each number of the other axes: on an H200
    it took 0.64 ms for four steps where the product took 0.27, and more the fewer the steps.
    """
    steps = tf.shape(added)[0]
    until_now = tf.linalg.band_part(tf.ones((steps, steps)), -1, 0)
    return tf.reshape(until_now @ tf.reshape(added, (steps, -1)), tf.shape(added))
