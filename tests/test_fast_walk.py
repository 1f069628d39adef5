"""The fast walk in NumPy alone: the same labels as the plain one, whatever is active."""

import math

import numpy as np
import pytest

from backdoor.pruning import fast_walk
from backdoor.pruning.fast_walk import LinearTail, linear_walk
from backdoor.pruning.walk import walk

CHANNELS, UNITS, CLASSES = 7, 11, 4


def tail(rng, places):
    into = rng.normal(0, 1, (UNITS, CLASSES)).astype(np.float32)
    return LinearTail(
        rng.normal(0, 1, UNITS).astype(np.float32),
        rng.normal(0, 1, (CHANNELS, places, UNITS)).astype(np.float32),
        lambda units: np.maximum(units, 0) @ into,
        None,
    )


def activations(rng, pictures, sides):
    """Of both signs; channels that are active always, mostly, rarely, never, and once negative."""
    some = rng.normal(0, 1, (pictures, *sides, CHANNELS)).astype(np.float32)
    for channel, share in {1: 0.9, 2: 0.5, 3: 0.05, 4: 0.0}.items():
        some[rng.random(pictures) >= share, ..., channel] = 0
    some[..., 5] = -np.abs(some[..., 5])
    some[1:, ..., 6] = 0
    some[0, ..., 6] = -3
    return some


@pytest.mark.parametrize("pictures", [1, 2, 60, 61])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sides", [(2, 3), (1, 1)])
def test_it_gives_the_labels_of_the_plain_walk(pictures, threads, sides, monkeypatch):
    monkeypatch.setattr(fast_walk, "BATCH", 10)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        linear, some = tail(rng, math.prod(sides)), activations(rng, pictures, sides)
        order = rng.permutation(CHANNELS)
        found = linear_walk(some, order, linear, threads)
        np.testing.assert_array_equal(found, walk(some, order, linear.classify))
        assert pictures < 60 or len(np.unique(found)) > 1


def test_units_by_hand():
    """Of a picture of two places: the bias, and what each activation adds."""
    spread = np.float32([[[1, 0], [2, 0]], [[0, 10], [0, 20]]])  # two channels, places, units
    linear = LinearTail(np.float32([0.5, 0]), spread, lambda units: units, None)
    some = np.float32([[[1, 3], [-1, 4]]]).reshape(1, 2, 1, 2)
    assert linear.units(some).tolist() == [[0.5 + 1 - 2, 30 + 80]]
    assert linear.classify(some).tolist() == [1]
    raised = linear.with_channel(linear.units(some), some, 0, 2)
    assert raised.tolist() == [[0.5 + 2 + 4, 30 + 80]]
