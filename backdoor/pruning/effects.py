"""What the network says with one channel changed, through the cheap layers behind the cut."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy  # whose parts are loaded at their first use
from numpy.typing import NDArray

from backdoor.progress import progress
from backdoor.pruning.walk import Activations

Values = NDArray[np.float64]
Measure = Callable[[Activations, NDArray[np.int64]], Values]
"""Logits (m, N) of the pictures of these rows (m,) to one number a picture, (m,)."""

ALMOST_ALL = 0.999  # of the activations are below what counts as the layer's maximum
TRIALS = 4096  # of a greedy order, about: of many channels several go at once
ROUNDS = 8, 64  # the fewest and the most


class Tail(Protocol):
    """The layers behind the cut, in the form in which a channel is changed most cheaply."""

    def units(self, activations: Activations) -> Activations:
        """Return the first units behind the cut, which sum what channels add."""

    def with_channel(
        self, units: Activations, activations: Activations, channel: int, value: float
    ) -> Activations:
        """Return the units with a channel set to a value at all places."""

    @property
    def score(self) -> Callable[[Activations], Activations]:
        """Units (m, ...) to logits (m, N)."""


@dataclass(frozen=True, eq=False)
class PlainTail:
    """A tail of any kind, whose units are the activations themselves."""

    score: Callable[[Activations], Activations]

    def units(self, activations: Activations) -> Activations:
        """Return the activations."""
        return activations

    def with_channel(
        self, units: Activations, activations: Activations, channel: int, value: float
    ) -> Activations:
        """Return the activations with a channel set to a value at all places."""
        changed = units.copy()
        changed[..., channel] = value
        return changed


def effect_of_each(
    tail: Tail, activations: Activations, value: float, measure: Measure, what: str
) -> Values:
    """Return the mean of a measure with each channel in turn set to a value, shape (C,)."""
    effects = _Effects(tail, activations, measure)
    channels = activations.shape[-1]
    return np.array(
        [
            effects.with_channel(channel, value)[0].mean()
            for channel in progress(range(channels), what, channels)
        ]
    )


def push_of_each(tail: Tail, activations: Activations, labels: NDArray[np.int64]) -> Values:
    """Return how far each channel, raised, moves other classes' pictures towards a class, (C, N).

    A channel is raised to the layer's maximum (see `raised`) at all places. The distance is that of
    the class's logit from the largest of the others, mean over the pictures of other classes.
    """
    units, most = tail.units(activations), raised(activations)
    before = margins(tail.score(units))
    others = (labels[:, None] != np.arange(before.shape[1])).astype(np.float64)
    counts = np.maximum(others.sum(axis=0), 1)
    pushes = []
    channels = activations.shape[-1]
    for channel in progress(range(channels), "Stimulation", channels):
        after = margins(tail.score(tail.with_channel(units, activations, channel, most)))
        pushes.append(((after - before) * others).sum(axis=0) / counts)
    return np.array(pushes)


def raised(activations: Activations) -> float:
    """Return the layer's clean maximum, which almost all activations are below."""
    return float(np.quantile(activations, ALMOST_ALL))


def margins(logits: Activations) -> Activations:
    """Return how far each class's logit is above the largest of the others, (m, N)."""
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    rival = np.where(logits == first[:, None], second[:, None], first[:, None])
    return np.asarray(logits - rival)


def greedy_removal(tail: Tail, activations: Activations, measure: Measure, what: str) -> Values:
    """Return the round in which each channel goes when those that cost the least go first.

    After each round the cost of the channels that are left is measured anew. What costs the same
    goes by its number.
    """
    effects = _Effects(tail, activations, measure)
    left = list(range(activations.shape[-1]))
    rank = np.empty(len(left))
    rounds = min(max(TRIALS // len(left), ROUNDS[0]), ROUNDS[1])
    at_once = math.ceil(len(left) / rounds)
    for start in progress(range(0, len(left), at_once), what, math.ceil(len(left) / at_once)):
        costs = [effects.with_channel(channel, 0)[0].mean() for channel in left]
        go = [left[i] for i in np.argsort(costs, kind="stable")[:at_once]]
        for place, channel in enumerate(go):
            rank[channel] = start + place
            effects.remove(channel)
        left = [channel for channel in left if channel not in go]
    return rank


class _Effects:
    """The measure of every picture, measured again where a channel's change changes anything."""

    def __init__(self, tail: Tail, activations: Activations, measure: Measure) -> None:
        self.tail, self.activations, self.measure = tail, activations, measure
        self.units = tail.units(activations)
        self.now = measure(tail.score(self.units), np.arange(len(activations)))

    def with_channel(
        self, channel: int, value: float
    ) -> tuple[Values, NDArray[np.int64], Activations]:
        """Return the measure of all pictures, and which units changed to what."""
        places = self.activations[..., channel].reshape(len(self.activations), -1)
        rows = np.flatnonzero((places != value).any(axis=1))
        values, units = self.now.copy(), self.units[rows]
        if len(rows):
            units = self.tail.with_channel(units, self.activations[rows], channel, value)
            values[rows] = self.measure(self.tail.score(units), rows)
        return values, rows, units

    def remove(self, channel: int) -> None:
        self.now, rows, units = self.with_channel(channel, 0)
        if len(rows):
            if self.units is self.activations:
                self.units = self.units.copy()
            self.units[rows] = units


def cross_entropy(labels: NDArray[np.int64]) -> Measure:
    """Measure the loss of each picture's own class."""

    def measure(logits: Activations, rows: NDArray[np.int64]) -> Values:
        total = scipy.special.logsumexp(logits.astype(np.float64), axis=1)
        return np.asarray(total - logits[np.arange(len(rows)), labels[rows]])

    return measure


def not_answered(labels: NDArray[np.int64]) -> Measure:
    """Measure the loss of not being a picture's class: -log(1 - its probability), labels (n,)."""

    def measure(logits: Activations, rows: NDArray[np.int64]) -> Values:
        wide = logits.astype(np.float64)
        without = wide.copy()
        np.put_along_axis(without, labels[rows, None], -np.inf, axis=1)
        others = scipy.special.logsumexp(without, axis=1)
        return np.asarray(scipy.special.logsumexp(wide, axis=1) - others)

    return measure
