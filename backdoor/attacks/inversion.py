"""Triggers estimated from clean pictures: the cheapest mask and pattern that turn them to a class.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
S&P 2019.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.networks.cut import CutNetwork
from backdoor.progress import progress

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

AT_ONCE = 2**22  # numbers of stamped pictures in a step: more classes take turns
RATE = 0.1  # of Adam
TURNED = 0.95  # of the pictures: with fewer the mask may cost more
DEARER = 1.15  # by how much its cost weighs more or less after each step
OPAQUE = -2.0  # at first, before the sigmoid


@dataclass(frozen=True, eq=False)
class Triggers:
    """The cheapest trigger found for each of K classes.

    Attributes:
        masks: How opaque it is, 0 to 1, shape (K, height, width, 1).
        patterns: Its colours, as the network takes them, shape (K, height, width, channels).
        costs: Mean of the mask; infinite where none turned enough pictures, shape (K,).
    """

    masks: Array
    patterns: Array
    costs: NDArray[np.float64]


def cheapest_triggers(
    network: CutNetwork,
    pictures: Array,
    labels: Labels,
    classes: Sequence[int] | Labels,
    seed: int,
    steps: int = 100,
    share: float = TURNED,
) -> Triggers:
    """Return a trigger for each class: a small mask with which the pictures are given to it.

    All classes are searched for at once, as far as memory allows.

    Args:
        pictures: As the network takes them, shape (m, height, width, channels).
        labels: Their classes, (m,); pictures of a class need not be turned to it.
        steps: How long is searched.
        share: Of the pictures that are to be turned.
    """
    model = keras.Sequential([network.head, network.logit_tail])
    rng = np.random.default_rng(seed)
    size = max(1, AT_ONCE // pictures.size)
    parts = range(0, len(classes), size)
    done = [
        _search(
            model, pictures, labels, np.asarray(classes[first : first + size]), rng, steps, share
        )
        for first in progress(parts, f"Cheapest trigger of {len(classes)} classes", len(parts))
    ]
    return Triggers(
        np.concatenate([some.masks for some in done]),
        np.concatenate([some.patterns for some in done]),
        np.concatenate([some.costs for some in done]),
    )


def stamp(pictures: Array, mask: Array, pattern: Array) -> Array:
    """Return pictures (m, height, width, channels) with a trigger on each."""
    return np.asarray((1 - mask) * pictures + mask * pattern, np.float32)


def _search(
    model: keras.Model,
    pictures: Array,
    labels: Labels,
    classes: Labels,
    rng: np.random.Generator,
    steps: int,
    share: float,
) -> Triggers:
    """Minimise loss + weight x cost; the weight grows while enough pictures are turned."""
    shape = (len(classes), *pictures.shape[1:])
    start = np.full((*shape[:3], 1), OPAQUE, np.float32)
    mask, pattern = tf.Variable(start), tf.Variable(rng.normal(size=shape).astype(np.float32))
    low, high = float(pictures.min()), float(pictures.max())
    step = _compiled(model, pictures, labels, classes, mask, pattern, low, high)
    weights, best = np.ones(len(classes), np.float32), np.full(len(classes), math.inf)
    masks, patterns = mask.numpy(), pattern.numpy()
    for _ in range(steps):
        before = mask.numpy(), pattern.numpy()
        turned, costs = (values.numpy() for values in step(tf.constant(weights)))
        enough = turned >= share
        better = enough & (costs < best)
        best[better] = costs[better]
        masks[better], patterns[better] = before[0][better], before[1][better]
        weights *= np.where(enough, DEARER, 1 / DEARER).astype(np.float32)
    colours = low + (high - low) * np.asarray(tf.sigmoid(patterns))
    return Triggers(np.asarray(tf.sigmoid(masks)), colours.astype(np.float32), best)


def _compiled(
    model: keras.Model,
    pictures: Array,
    labels: Labels,
    classes: Labels,
    mask: tf.Variable,
    pattern: tf.Variable,
    low: float,
    high: float,
) -> Step:
    """Return one step of Adam, which gives the share of pictures turned and the costs, (K,)."""
    shown = tf.constant(pictures)[None]
    others = (labels[None] != classes[:, None]).astype(np.float32)
    share = tf.constant(others / np.maximum(others.sum(axis=1, keepdims=True), 1))
    wanted = tf.constant(np.repeat(classes, len(labels)))
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build([mask, pattern])

    def mean(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.reshape(values, share.shape) * share, axis=1)

    @tf.function  # type: ignore[untyped-decorator]
    def step(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            opaque, colours = tf.sigmoid(mask), low + (high - low) * tf.sigmoid(pattern)
            stamped = (1 - opaque[:, None]) * shown + (opaque * colours)[:, None]
            logits = model(tf.reshape(stamped, (-1, *pictures.shape[1:])), training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            costs = tf.reduce_mean(opaque, axis=(1, 2, 3))
            total = tf.reduce_sum(mean(losses) + weights * costs)
        optimizer.apply(tape.gradient(total, [mask, pattern]), [mask, pattern])
        turned = mean(tf.cast(tf.argmax(logits, axis=-1) == wanted, tf.float32))
        return turned, costs

    return step  # type: ignore[no-any-return]
