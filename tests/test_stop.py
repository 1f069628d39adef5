import csv

import numpy as np
import pytest
from conftest import (
    LAB3,
    needs_lab3,
)

from backdoor.errors import UserError
from backdoor.pruning.stop import STOPS, channels_to_remove, check_stop, check_threshold


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
    with pytest.raises(UserError, match=r"got 50 points; the largest drop is 12\.50 points"):
        channels_to_remove(np.array([8, 8, 7]), 8, 50)
    with pytest.raises(UserError, match=r"the largest drop is 0\.00 points"):
        channels_to_remove(np.array([6, 7, 8]), 8, 50)


def test_all_accuracy_may_be_given_up():
    assert check_threshold(100) == 100
    assert channels_to_remove(np.array([8, 4, 0]), 8, 100) == 2


@pytest.mark.parametrize("threshold", [0, -2, 100.01, 200, "abc", "nan", "inf", "1/0", None])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(UserError, match="expected percentage points above 0 and at most 100"):
        check_threshold(threshold)


@needs_lab3
def test_the_published_curve_stops_at_45_48_52():
    with (LAB3 / "published_curve_ascending.csv").open() as file:
        accuracy = [float(row["badnet_pruned_valid_accuracy_pct"]) for row in csv.DictReader(file)]
    correct = np.round(np.array(accuracy) / 100 * 11547).astype(int)
    assert [channels_to_remove(correct, 11547, t) for t in (2, 4, 10)] == [45, 48, 52]


def walk_of(correct, changed, total=100):
    """Labels of two classes, (k, total): so many right, so many other than at first."""
    truth = np.zeros(total, int)
    labels = np.zeros((len(correct), total), int)
    for k, (right, other) in enumerate(zip(correct, changed, strict=True)):
        wrong = total - right
        labels[k, :wrong] = 1
        assert other == wrong - (total - correct[0])
    return labels, truth


def test_before_is_the_last_k_that_keeps_within_the_threshold():
    labels, truth = walk_of([100, 99, 98, 97, 99], [0, 1, 2, 3, 1])
    assert STOPS["first"](labels, truth, 2) == 2
    assert STOPS["before"](labels, truth, 2) == 2  # two points are within two points
    assert STOPS["before"](labels, truth, 2.5) == 2  # what comes after has crossed it
    assert STOPS["before"](labels, truth, 0.5) == 0
    assert STOPS["before"](labels, truth, 3) == 4  # never crossed


def test_false_alarms_count_pictures_that_were_wrong_before_too():
    truth = np.zeros(4, int)
    labels = np.array([[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 1, 2], [0, 0, 0, 1]])
    assert STOPS["false_alarms"](labels, truth, 25) == 1
    assert STOPS["false_alarms"](labels, truth, 24.9) == 0
    assert STOPS["false_alarms"](labels, truth, 50) == 3
    assert STOPS["before"](labels, truth, 24) == 1


def test_a_rule_that_there_is_not_is_refused_with_the_choices():
    with pytest.raises(UserError, match="expected one of first, before, false_alarms, got 'last'"):
        check_stop("last")


def test_a_part_of_a_picture_counts_as_a_whole_one():
    """2 % of 120 pictures are 2.4, so three have to be lost; half of 1,000 are 500."""
    assert channels_to_remove(np.array([120, 118, 117]), 120, 2) == 2
    assert channels_to_remove(np.array([1000, 501, 500]), 1000, 50) == 2
    assert channels_to_remove(np.array([10000, 9994, 9993]), 10000, "0.07") == 2
    assert channels_to_remove(np.array([10000, 9994, 9993]), 10000, 0.07) == 2
