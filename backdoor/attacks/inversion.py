"""Triggers estimated from clean pictures: the cheapest change that turns them to a class."""

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

AT_ONCE = 2**22  # numbers of changed pictures in a step: more classes take turns
STEPS, RATE = 100, 0.1  # of Adam
TURNED = 0.95  # of the pictures: fewer, and the change has to become stronger
DEARER = 1.15  # by which a change's cost weighs more or less after each step
FIRST_WEIGHT = 1.0  # of a change of everything by its whole range


@dataclass(frozen=True, eq=False)
class Changes:
    """The cheapest change found for each of K classes.

    Attributes:
        parts: What changes: arrays (K, ...).
        costs: Infinite where no change turned enough pictures, shape (K,).
    """

    parts: Sequence[Array]
    costs: NDArray[np.float64]


def cheapest_masks(
    network: CutNetwork, pictures: Array, labels: Labels, classes: Sequence[int], seed: int
) -> Changes:
    """Return the mask (K, height, width, 1) and pattern (K, height, width, channels) a class.

    Wang et al., "Neural Cleanse", IEEE S&P 2019: a picture x becomes (1 - mask) x + mask pattern,
    and the mask's sum is to be small. Costs are shares of the picture.

    Args:
        pictures: As the network takes them, (m, height, width, channels).
        labels: Their classes, (m,); pictures of a class have not to be turned to it.
    """
    low, high = float(pictures.min()), float(pictures.max())
    shape = pictures.shape[1:]
    rng = np.random.default_rng(seed)
    mask = np.full((len(classes), *shape[:2], 1), -2, np.float32)
    pattern = rng.normal(size=(len(classes), *shape)).astype(np.float32)

    def stamped(some: tf.Tensor, mask: tf.Tensor, pattern: tf.Tensor) -> tf.Tensor:
        opaque = tf.sigmoid(mask)[:, None]
        return (1 - opaque) * some[None] + opaque * _between(pattern, low, high)[:, None]

    def cost(mask: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.sigmoid(mask), axis=(1, 2, 3))

    model = keras.Sequential([network.head, network.logit_tail])
    found = _search(model, pictures, labels, classes, stamped, cost, (mask, pattern), "trigger")
    masks, patterns = (np.asarray(part) for part in found.parts)
    return Changes(
        (
            np.asarray(tf.sigmoid(masks)),
            np.asarray(_between(tf.constant(patterns), low, high)),
        ),
        found.costs,
    )


def cheapest_additions(
    network: CutNetwork, activations: Array, labels: Labels, classes: Sequence[int]
) -> Changes:
    """Return the cheapest addition to the activations behind the cut, (K, ..., C), a class.

    Costs are means, in units of the activations' largest value.
    """
    most = float(np.abs(activations).max()) or 1.0
    start = np.full((len(classes), *activations.shape[1:]), 0.05, np.float32)

    def added(some: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
        return some[None] + most * tf.nn.relu(addition)[:, None]

    def cost(addition: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.nn.relu(addition), axis=range(1, len(addition.shape)))

    return _search(
        network.logit_tail, activations, labels, classes, added, cost, (start,), "addition"
    )


def stamp(pictures: Array, mask: Array, pattern: Array) -> Array:
    """Return pictures (m, height, width, channels) with a trigger."""
    return np.asarray((1 - mask) * pictures + mask * pattern, np.float32)


def _between(values: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * tf.sigmoid(values)


def _search(
    model: keras.Model,
    inputs: Array,
    labels: Labels,
    classes: Sequence[int],
    change: Callable[..., tf.Tensor],
    cost: Callable[..., tf.Tensor],
    start: Sequence[Array],
    what: str,
) -> Changes:
    """Minimise loss towards each class plus weight x cost, all classes at once, in parts."""
    size = max(1, AT_ONCE // inputs.size)
    parts = range(0, len(classes), size)
    done = [
        _of_some(
            model,
            tf.constant(inputs),
            labels,
            np.asarray(classes[first : first + size]),
            change,
            cost,
            [part[first : first + size] for part in start],
        )
        for first in progress(parts, f"Cheapest {what} of {len(classes)} classes", len(parts))
    ]
    together = zip(*(changes.parts for changes in done), strict=True)
    costs = np.concatenate([changes.costs for changes in done])
    return Changes([np.concatenate(part) for part in together], costs)


def _of_some(
    model: keras.Model,
    inputs: tf.Tensor,
    labels: Labels,
    classes: Labels,
    change: Callable[..., tf.Tensor],
    cost: Callable[..., tf.Tensor],
    start: Sequence[Array],
) -> Changes:
    variables = [tf.Variable(part) for part in start]
    optimizer = keras.optimizers.Adam(RATE)
    others = (labels[None] != classes[:, None]).astype(np.float32)
    counted = tf.constant(others / np.maximum(others.sum(axis=1, keepdims=True), 1))
    wanted = tf.constant(np.repeat(classes, len(labels)))

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            changed = change(inputs, *variables)
            logits = model(tf.reshape(changed, (-1, *changed.shape[2:])), training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            losses = tf.reduce_sum(tf.reshape(losses, counted.shape) * counted, axis=1)
            costs = cost(*variables)
            total = tf.reduce_sum(losses + weights * costs)
        turned = tf.cast(tf.argmax(logits, axis=-1) == wanted, tf.float32)
        turned = tf.reduce_sum(tf.reshape(turned, counted.shape) * counted, axis=1)
        optimizer.apply(tape.gradient(total, variables), variables)
        return turned, costs

    optimizer.build(variables)
    weights = np.full(len(classes), FIRST_WEIGHT, np.float32)
    best, kept = np.full(len(classes), math.inf), [np.array(part) for part in start]
    for _ in range(STEPS):
        before = [variable.numpy() for variable in variables]
        turned, costs = (values.numpy() for values in step(tf.constant(weights)))
        enough = turned >= TURNED
        better = enough & (costs < best)
        best[better] = costs[better]
        for part, now in zip(kept, before, strict=True):
            part[better] = now[better]
        weights *= np.where(enough, DEARER, 1 / DEARER).astype(np.float32)
    return Changes(kept, best)
