import csv

import numpy as np
import pytest
from conftest import (
    LAB3,
    needs_lab3,
    ranked,
)

from backdoor.pruning.orders import orders
from backdoor.pruning.scores import mean_activation


def channels(*values: float, pictures: int = 2) -> np.ndarray:
    """Activations (pictures, 2, 1, C) with these means."""
    found = np.zeros((pictures, 2, 1, len(values)), np.float32)
    found[:, 0] = 2 * np.float32(values)
    return found


def test_the_mean_is_over_pictures_height_and_width():
    activations = np.arange(12, dtype=np.float32).reshape(2, 3, 1, 2)
    np.testing.assert_array_equal(mean_activation(activations), [5, 6])


def test_ascending_removes_the_least_active_channel_first():
    assert ranked("asc", channels(3, 1, 2)).tolist() == [1, 2, 0]


def test_descending_removes_the_most_active_channel_first():
    assert ranked("desc", channels(3, 1, 2)).tolist() == [0, 2, 1]


def test_dead_channels_tie_and_go_by_their_number():
    dead_but_two = np.zeros(60)
    dead_but_two[[7, 30]] = 1, 2
    rest = [c for c in range(60) if c not in (7, 30)]
    assert ranked("asc", channels(*dead_but_two)).tolist() == [*rest, 7, 30]
    assert ranked("desc", channels(*dead_but_two)).tolist() == [30, 7, *rest]


@pytest.mark.parametrize("order", orders())
def test_an_order_is_a_permutation_and_leaves_the_activations_alone(order):
    activations = np.random.default_rng(0).random((9, 3, 2, 12), np.float32)
    before = activations.copy()
    assert sorted(ranked(order, activations).tolist()) == list(range(12))
    np.testing.assert_array_equal(activations, before)


@pytest.mark.parametrize("order", orders())
def test_activations_without_height_and_width_can_be_ranked(order):
    assert len(ranked(order, np.random.default_rng(0).random((9, 12), np.float32))) == 12


@needs_lab3
def test_the_published_mean_activations_give_the_published_order():
    with (LAB3 / "published_mean_activation_pool3.csv").open() as file:
        means = [float(row["mean_activation"]) for row in csv.DictReader(file)]
    with (LAB3 / "published_curve_ascending.csv").open() as file:
        published = [int(row["channel"]) for row in csv.DictReader(file) if row["channel"]]
    order = ranked("asc", channels(*means)).tolist()
    dead = means.count(0)
    assert dead == 31
    assert set(order[:dead]) == set(published[:dead])  # published in an unstable sort's order
    assert order[dead:] == published[dead:]
