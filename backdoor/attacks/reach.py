"""How easily clean pictures of other classes are turned to each class: a number a class.

A backdoor is a short way to its class. Each function looks for a short way of another kind, to all
classes at once, by gradients; none needs a picture with the trigger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet, evenly, read_pictures
from backdoor.progress import progress

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Values = NDArray[np.float64]
Search = Callable[[Labels], Values]
"""Takes the classes that are wanted of each picture, (K, m), and returns K numbers."""

AT_ONCE = 2**21  # numbers of changed pictures in a step: more classes take turns
TURNED = 0.8  # of the pictures of other classes: what counts as turned
SIZES, FIRST_SIZE, PACE = 32, 0.05, 0.25  # steps; share of the range; of the size in one step
SHRINK, GROW = 1 / 1.2, 1.1  # of the size, where enough are turned and where not
LARGEST = FIRST_SIZE * GROW ** (SIZES - 1)
LATENT_STEPS, LARGE, SMALL = 20, 0.25, 0.06  # steps behind the cut, and how far they go
HUGE = 1e9
STARTS, CLIMBS = 2, 60  # pictures a class, and steps
CLIMB, LAST_CLIMB = 0.1, 0.005  # shares of the range in the first and the last step


@dataclass(frozen=True, eq=False)
class Sample:
    """A few clean pictures of as many classes as they can be of.

    Attributes:
        pictures: As the network takes them, shape (m, height, width, channels).
        labels: Their classes, (m,).
    """

    network: CutNetwork
    pictures: Array
    labels: Labels

    @cached_property
    def logits(self) -> keras.Model:
        """The network without its softmax."""
        return keras.Sequential([self.network.head, self.network.logit_tail])

    @cached_property
    def activations(self) -> Array:
        """What comes out at the cut, (m, ..., C)."""
        return np.asarray(self.network.head.predict(self.pictures, verbose=0))

    @cached_property
    def sureness(self) -> float:
        """The median over pictures of how far the first logit is above the second: a unit."""
        logits = self.logits.predict(self.pictures, verbose=0)
        second, first = np.partition(logits, -2, axis=1)[:, -2:].T
        return float(np.median(first - second))

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest number in the pictures."""
        return float(self.pictures.min()), float(self.pictures.max())


def sample_of(network: CutNetwork, pictures: PictureSet, count: int, seed: int) -> Sample:
    """Draw so many pictures, of each class as many as of any other where there are so many."""
    rng = np.random.default_rng(seed)
    turn = np.empty(len(pictures))  # when its class is drawn for the first, the second time ...
    for label in np.unique(pictures.labels):
        rows = rng.permutation(np.flatnonzero(pictures.labels == label))
        turn[rows] = np.arange(len(rows)) + rng.random(len(rows)) / 2
    drawn = np.sort(np.argsort(turn, kind="stable")[:count])
    return Sample(network, read_pictures(pictures, drawn), pictures.labels[drawn])


def smallest_perturbations(sample: Sample, wanted: Labels, share: float = TURNED) -> Values:
    """Return how large one perturbation has to be that turns most pictures as wanted, (K,).

    Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, "Universal adversarial perturbations", CVPR 2017, with
    a target; by signed gradients. The size is the largest change of any number, as a share of the
    pictures' range; it shrinks while the perturbation turns enough pictures and grows while not, up
    to LARGEST. Infinite where it never turned enough.

    Args:
        wanted: K times a class for each picture, (K, m); `towards` gives all the same.
        share: Of the pictures that are to be turned.
    """
    (low, high), unit = sample.limits, sample.sureness
    shown, model = tf.constant(sample.pictures), sample.logits

    @tf.function  # type: ignore[untyped-decorator]
    def step(change: tf.Tensor, size: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(change)
            changed = tf.clip_by_value(shown[None] + change[:, None], low, high)
            margins = _margins(model, changed, wanted)
            pull = tf.reduce_sum(_of_others(tf.minimum(margins, unit), sample.labels, wanted))
        turned = _of_others(tf.cast(margins > 0, tf.float32), sample.labels, wanted)
        limit = size[:, None, None, None]
        moved = change + PACE * limit * tf.sign(tape.gradient(pull, change))
        return tf.clip_by_value(moved, -limit, limit), turned

    def search(wanted: Labels) -> Values:
        change = tf.zeros((len(wanted), *sample.pictures.shape[1:]))
        size = np.full(len(wanted), FIRST_SIZE * (high - low), np.float32)
        used, smallest = np.zeros_like(size), np.full(len(wanted), np.inf)
        for _ in range(SIZES):
            change, turned = step(change, tf.constant(size), tf.constant(wanted))
            enough = (turned.numpy() >= share) & (used > 0)  # by the change of the size before
            smallest[enough] = np.minimum(smallest, used)[enough]
            used = size.copy()
            size *= np.where(enough, SHRINK, GROW).astype(np.float32)
        return np.asarray(smallest / (high - low), np.float64)

    return _in_parts(search, wanted, sample.pictures.size, "Smallest perturbation")


def towards(classes: Labels, sample: Sample) -> Labels:
    """Return each class as what is wanted of all pictures, (K, m)."""
    return np.repeat(classes[:, None], len(sample.labels), axis=1)


def margins_behind_the_cut(sample: Sample, classes: Labels, quiet: NDArray[np.bool_]) -> Values:
    """Return how far one addition behind the cut moves pictures beyond the border of a class, (K,).

    The addition is as long (Euclidean, over places and channels) as the pictures' activations are
    on average; the margin is the class's logit less the largest other one, the mean over pictures
    of other classes, in units of the network's sureness. Only the layers behind the cut are run.

    Args:
        quiet: Where something may be added for each class, (K, places x channels).
    """
    flat = sample.activations.reshape(len(sample.labels), -1)
    length, rectified = float(np.linalg.norm(flat, axis=1).mean()), flat.min() >= 0
    activations, tail = tf.constant(flat / length), sample.network.logit_tail

    @tf.function  # type: ignore[untyped-decorator]
    def step(
        change: tf.Tensor, pace: tf.Tensor, wanted: tf.Tensor, allowed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(change)
            changed = length * (activations[None] + change[:, None])
            changed = tf.nn.relu(changed) if rectified else changed
            changed = tf.reshape(changed, (*changed.shape[:2], *sample.activations.shape[1:]))
            margins = _margins(tail, changed, wanted)
            margin = _of_others(margins, sample.labels, wanted)
        uphill = tape.gradient(margin, change) * allowed
        moved = change + pace * tf.math.l2_normalize(uphill, axis=1)
        return tf.clip_by_norm(moved, 1, axes=1), margin

    rows = {int(label): row for row, label in enumerate(classes)}

    def search(wanted: Labels) -> Values:
        change = tf.zeros((len(wanted), flat.shape[1]))
        allowed = tf.constant(quiet[[rows[int(label)] for label in wanted[:, 0]]], tf.float32)
        for number in range(LATENT_STEPS):
            pace = LARGE if number < 3 / 4 * LATENT_STEPS else SMALL
            change, margin = step(change, tf.constant(pace), tf.constant(wanted), allowed)
        return np.asarray(margin, np.float64) / sample.sureness

    return _in_parts(search, towards(classes, sample), flat.size, "Addition behind the cut")


def quiet_places(
    network: CutNetwork, pictures: PictureSet, classes: Labels, count: int
) -> NDArray[np.bool_]:
    """Return where a class's own pictures give no more than all do, (K, places x channels).

    On average, behind the cut; of a class without pictures that is everywhere. What is added there
    is no more of what the class looks like, but something else that leads to it.
    """
    rows = evenly(pictures, count)
    shown, labels = read_pictures(pictures, rows), pictures.labels[rows]
    flat = np.asarray(network.head.predict(shown, verbose=0)).reshape(len(rows), -1)
    own = [flat[labels == label] for label in classes]
    means = np.array([(some if len(some) else flat).mean(axis=0) for some in own])
    return np.asarray(means <= flat.mean(axis=0))


def largest_margins(
    sample: Sample, classes: Labels, seed: int, starts: int = STARTS, climbs: int = CLIMBS
) -> Values:
    """Return the largest margin of a class that any picture at all is given, (K,).

    MM-BD: Wang, Xiang, Miller, Kesidis, "MM-BD: Post-Training Detection of Backdoor Attacks with
    Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", S&P 2024, arXiv 2205.06900.
    In units of the network's sureness; the larger of a few starts from noise.
    """
    (low, high), model = sample.limits, sample.logits
    shape = (starts, *sample.pictures.shape[1:])
    noise = np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)

    @tf.function  # type: ignore[untyped-decorator]
    def step(
        pictures: tf.Tensor, pace: tf.Tensor, wanted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(pictures)
            margins = _margins(model, pictures, wanted)
        moved = pictures + pace * tf.sign(tape.gradient(margins, pictures))
        return tf.clip_by_value(moved, low, high), tf.reduce_max(margins, axis=1)

    def search(wanted: Labels) -> Values:
        pictures = tf.repeat(noise[None], len(wanted), axis=0)
        for pace in np.linspace(CLIMB + LAST_CLIMB, LAST_CLIMB, climbs, endpoint=False):
            pace = tf.constant(pace * (high - low), tf.float32)
            pictures, margin = step(pictures, pace, tf.constant(wanted))
        return np.asarray(margin, np.float64) / sample.sureness

    return _in_parts(search, np.repeat(classes[:, None], starts, 1), noise.size, "Largest margin")


def _margins(model: keras.Model, inputs: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Return how far the wanted class's logit is above the largest other, (K, m) of (K, m, ...)."""
    several, each = inputs.shape[:2]
    logits = model(tf.reshape(inputs, (several * each, *inputs.shape[2:])), training=False)
    logits = tf.reshape(logits, (several, each, logits.shape[-1]))
    wanted = tf.one_hot(wanted, logits.shape[-1])
    return tf.reduce_sum(logits * wanted, -1) - tf.reduce_max(logits - HUGE * wanted, -1)


def _of_others(values: tf.Tensor, labels: Labels, wanted: tf.Tensor) -> tf.Tensor:
    """Return the mean of (K, m) values over the pictures that are not of the wanted class, (K,)."""
    others = tf.cast(labels[None] != wanted, tf.float32)
    return tf.reduce_sum(values * others, 1) / tf.maximum(tf.reduce_sum(others, 1), 1)


def _in_parts(search: Search, wanted: Labels, numbers: int, what: str) -> Values:
    """Search for a few of K at a time, always as many, so that a step is compiled once.

    Args:
        numbers: That the pictures or activations of one of them have in a step.
    """
    each = min(max(1, AT_ONCE // numbers), len(wanted))
    starts = range(0, len(wanted), each)
    filled = np.resize(wanted, (each * len(starts), wanted.shape[1]))
    told = f"{what}, {len(wanted)} classes"
    parts = [search(filled[start : start + each]) for start in progress(starts, told, len(starts))]
    return np.concatenate(parts)[: len(wanted)]
