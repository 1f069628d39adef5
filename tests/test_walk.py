import csv

import numpy as np
import pytest
from conftest import LAB3, needs_lab3

from backdoor.pruning.walk import (
    ORDERS,
    channels_to_remove,
    check_order,
    check_threshold,
    mean_activation,
    walk,
)


def channels(*values: float, pictures: int = 2) -> np.ndarray:
    """Activations (pictures, 2, 1, C) with these means."""
    found = np.zeros((pictures, 2, 1, len(values)), np.float32)
    found[:, 0] = 2 * np.float32(values)
    return found


def test_the_mean_is_over_pictures_height_and_width():
    activations = np.arange(12, dtype=np.float32).reshape(2, 3, 1, 2)
    np.testing.assert_array_equal(mean_activation(activations), [5, 6])


def test_ascending_removes_the_least_active_channel_first():
    assert ORDERS["asc"](channels(3, 1, 2)).tolist() == [1, 2, 0]


def test_descending_removes_the_most_active_channel_first():
    assert ORDERS["desc"](channels(3, 1, 2)).tolist() == [0, 2, 1]


def test_dead_channels_tie_and_go_by_their_number():
    dead_but_two = np.zeros(60)
    dead_but_two[[7, 30]] = 1, 2
    rest = [c for c in range(60) if c not in (7, 30)]
    assert ORDERS["asc"](channels(*dead_but_two)).tolist() == [*rest, 7, 30]
    assert ORDERS["desc"](channels(*dead_but_two)).tolist() == [30, 7, *rest]


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_a_permutation_and_leaves_the_activations_alone(order):
    activations = np.random.default_rng(0).random((9, 3, 2, 12), np.float32)
    before = activations.copy()
    assert sorted(ORDERS[order](activations).tolist()) == list(range(12))
    np.testing.assert_array_equal(activations, before)


@pytest.mark.parametrize("order", ORDERS)
def test_activations_without_height_and_width_can_be_ranked(order):
    assert len(ORDERS[order](np.random.default_rng(0).random((9, 12), np.float32))) == 12


def test_an_unknown_order_is_answered_with_the_choices():
    with pytest.raises(ValueError, match="expected one of asc, desc, got 'up'"):
        check_order("up")


def test_the_stop_is_the_first_k_that_reaches_the_threshold():
    correct = np.array([100, 100, 98, 99, 97])
    assert channels_to_remove(correct, 100, 2) == 2
    assert channels_to_remove(correct, 100, 3) == 4


def test_a_threshold_that_is_met_exactly_is_reached():
    # 0.95 - 0.92 < 0.03 in floating point
    assert 0.95 - 0.92 < 0.03
    assert channels_to_remove(np.array([95, 92]), 100, 3) == 1


@pytest.mark.parametrize("threshold", [0.1, "0.1", 0.3])
def test_a_decimal_threshold_means_what_is_written(threshold):
    lost = round(float(threshold) * 10)
    assert channels_to_remove(np.array([1000, 1000 - lost]), 1000, threshold) == 1


def test_a_step_that_crosses_two_thresholds_is_the_stop_of_both():
    correct = np.array([100, 99, 80, 70])
    assert [channels_to_remove(correct, 100, t) for t in (2, 4, 10)] == [2, 2, 2]


def test_at_least_one_channel_is_removed():
    assert channels_to_remove(np.array([50, 50, 40]), 100, 10) == 2


def test_accuracy_that_first_rises_is_measured_against_k_0():
    assert channels_to_remove(np.array([90, 95, 89, 88]), 100, 2) == 3


def test_a_threshold_that_is_never_reached_names_the_largest_drop():
    with pytest.raises(ValueError, match=r"got 50 points; the largest drop is 12\.50 points"):
        channels_to_remove(np.array([8, 8, 7]), 8, 50)


@pytest.mark.parametrize("threshold", [0, -2, 200, "abc", "nan", "inf", "1/0", None])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(ValueError, match="expected percentage points above 0 and at most 100"):
        check_threshold(threshold)


@needs_lab3
def test_the_published_curve_stops_at_45_48_52():
    with (LAB3 / "published_curve_ascending.csv").open() as file:
        accuracy = [float(row["badnet_pruned_valid_accuracy_pct"]) for row in csv.DictReader(file)]
    correct = np.round(np.array(accuracy) / 100 * 11547).astype(int)
    assert [channels_to_remove(correct, 11547, t) for t in (2, 4, 10)] == [45, 48, 52]


@needs_lab3
def test_the_published_mean_activations_give_the_published_order():
    with (LAB3 / "published_mean_activation_pool3.csv").open() as file:
        means = [float(row["mean_activation"]) for row in csv.DictReader(file)]
    with (LAB3 / "published_curve_ascending.csv").open() as file:
        published = [int(row["channel"]) for row in csv.DictReader(file) if row["channel"]]
    order = ORDERS["asc"](channels(*means)).tolist()
    dead = means.count(0)
    assert dead == 31
    assert set(order[:dead]) == set(published[:dead])  # published in an unstable sort's order
    assert order[dead:] == published[dead:]


def by_hand(activations: np.ndarray) -> np.ndarray:
    """A network by hand: class 0 scores channel 0, class 1 twice channel 1, class 2 is 0.5."""
    sums = activations.sum(axis=(1, 2))
    return np.stack([sums[:, 0], 2 * sums[:, 1], np.full(len(sums), 0.5)], axis=1).argmax(axis=1)


def test_a_walk_by_hand():
    activations = np.float32([[3, 1, 0], [3, 2, 0], [0, 0, 5]]).reshape(3, 1, 1, 3)
    labels = walk(activations, np.array([2, 0, 1]), by_hand)
    assert labels.tolist() == [[0, 1, 2], [0, 1, 2], [1, 1, 2], [2, 2, 2]]


def test_a_walk_scores_only_pictures_on_which_the_channel_is_active():
    scored = []

    def counting(activations):
        scored.append(len(activations))
        return by_hand(activations)

    activations = np.float32([[3, 1, 0], [3, 2, 0], [0, 0, 5]]).reshape(3, 1, 1, 3)
    walk(activations, np.array([2, 0, 1]), counting)
    assert scored == [3, 1, 2, 2]


def test_a_walk_leaves_the_activations_alone():
    activations = np.random.default_rng(0).random((4, 2, 2, 3), np.float32)
    before = activations.copy()
    walk(activations, np.array([1, 0, 2]), by_hand)
    np.testing.assert_array_equal(activations, before)


def test_a_channel_with_negative_activations_counts_as_active():
    activations = np.float32([[-3, 1, 0]]).reshape(1, 1, 1, 3)
    labels = walk(
        activations, np.array([0, 1, 2]), lambda a: (a[..., 0].sum((1, 2)) < 0).astype(int)
    )
    assert labels.ravel().tolist() == [1, 0, 0, 0]
