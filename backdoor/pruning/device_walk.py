"""The walk on a GPU, in chunks of pictures that are copied there once."""

import functools
import math
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

ROWS = 2**16  # that are scored at once: fewer leave a GPU waiting


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
    several steps are scored together, of few pictures more.
    """
    labels = np.empty((len(order) + 1, len(activations)), tail.label_type)
    labels[-1] = tail.score(tail.bias[None]).argmax()
    step, backwards = _compiled(tail), tf.constant(order[::-1].copy())
    by_place = activations.reshape(len(activations), -1, len(order))
    parts = parts_of(activations, _most(tail))
    for rows in progress(parts, what, len(parts)):
        chunk = tf.constant(by_place[rows])
        chunk = tf.reduce_mean(chunk, axis=1, keepdims=True) if tail.averaged else chunk
        by_channel = tf.transpose(chunk, (2, 0, 1))
        units = tf.tile(tail.bias[None], (len(chunk), 1))
        at_once, said = _steps_at_once(tail, len(chunk)), []
        for start in range(0, len(order), at_once):
            some, units = step(by_channel, units, backwards[start : start + at_once])
            said.append(some)
        labels[:-1, rows] = tf.concat(said, axis=0).numpy()[::-1]
    return labels


@functools.lru_cache(maxsize=1)  # traced once for all sets and orders
def _compiled(tail: LinearTail) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Return what adds some channels (s,), one after the other, to first units (n, U).

    It takes activations (C, n, places), too, and returns the labels after each channel, (s, n), and
    the units after the last. The sums after each are one matrix product, with zero for what is to
    come later: on an H200 that takes half as long as to sum up what each channel adds.
    """
    spread, width = tf.constant(tail.spread), len(tail.bias)
    activations = tf.TensorSpec((len(tail.spread), None, tail.spread.shape[1]))
    units = tf.TensorSpec((None, width))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[activations, units, tf.TensorSpec((None,), tf.int64)]
    )
    def step(
        by_channel: tf.Tensor, units: tf.Tensor, some: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        steps, count = tf.shape(some)[0], tf.shape(units)[0]
        until_now = tf.linalg.band_part(tf.ones((steps, steps)), -1, 0)
        values = tf.transpose(tf.gather(by_channel, some), (1, 0, 2))
        back = until_now[:, None, :, None] * values  # (s, n, s, places)
        kernel = tf.reshape(tf.gather(spread, some), (-1, width))
        added = tf.reshape(back, (steps * count, -1)) @ kernel
        several = units + tf.reshape(added, (steps, count, width))
        best = tf.argmax(tail.rest(tf.reshape(several, (-1, width))), axis=-1)
        return tf.reshape(tf.cast(best, tail.label_type), (steps, count)), several[-1]

    return cast(Callable[..., tuple[tf.Tensor, tf.Tensor]], step)


def _most(tail: LinearTail) -> int:
    """Return how many rows of first units, or of scores, are computed with at once."""
    widest = max(len(tail.bias), int(tail.score(tail.bias[None]).shape[1]))
    return min(ROWS, max(1, LARGEST_OUTPUT // (4 * widest)))


def _steps_at_once(tail: LinearTail, pictures: int) -> int:
    """Return after how many channels so many pictures are scored at once."""
    of_one = 4 * pictures * tail.spread.shape[1]  # bytes of the activations; s x s of them
    return max(1, min(_most(tail) // pictures, math.isqrt(LARGEST_OUTPUT // of_one)))
