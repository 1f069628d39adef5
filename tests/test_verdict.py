"""What is said of a network, by what was found; what was found, by hand."""

import numpy as np
import pytest
from conftest import bed_of

from backdoor.answers import BACKDOORED, CLEAN, UNDECIDED
from backdoor.networks.architectures import build_small_cnn
from backdoor.networks.cut import cut_network
from backdoor.verdict import (
    DOUBTFUL,
    FEWEST,
    MANY_CLASSES,
    MOST,
    STATISTICS,
    SURE,
    Findings,
    decide,
    judge,
    outlying,
)


def test_a_value_stands_out_by_the_prediction_interval_of_one_more():
    """The rest, 0, 1, 2, has mean 1 and deviation 1; Student's t has two degrees of freedom."""
    high = (9 - 1) / np.sqrt(1 + 1 / 3)
    chance = 0.5 - high / (2 * np.sqrt(2 + high**2))
    found = outlying(np.array([0.0, 1.0, 2.0, 9.0]), np.arange(4))
    assert found[3] == pytest.approx(-np.log10(chance))
    assert (found[:3] < 0.5).all()


def test_a_value_is_compared_with_the_others_alone():
    values = np.array([9.0, 8.0, 0.0, 1.0, 2.0])
    found = outlying(values, np.array([2, 3, 4]))
    assert found[0] == pytest.approx(outlying(np.array([0.0, 1.0, 2.0, 9.0]), np.arange(4))[3])
    assert found[1] > 1


def test_values_that_are_all_the_same_do_not_stand_out():
    assert (outlying(np.ones(6), np.arange(6)) < 0.4).all()


def findings(evidence, classes=10):
    """All statistics find the same: so much evidence of each class, none of the rest."""
    values = np.zeros(classes)
    for label, value in evidence.items():
        values[label] = value
    found = dict.fromkeys(STATISTICS, values)
    return Findings(np.arange(classes), found, found, classes)


def test_what_a_statistic_counts_for_has_a_floor_and_a_ceiling():
    one = findings({0: 0.9, 1: 1.5, 2: 99})
    assert one.points["mask"][:3].tolist() == [0, 0.5, MOST]
    assert one.scores[:3].tolist() == [0, 0.5 * len(STATISTICS), MOST * len(STATISTICS)]
    tenfold = findings({2: 99}, classes=100)
    assert tenfold.scores[2] == MOST * len(STATISTICS) - 1


def test_a_class_that_stands_out_on_all_statistics_is_named():
    verdict = decide(findings({3: 2.5}), lambda label: f"{label} (cat)")
    assert verdict.answer == BACKDOORED
    assert verdict.suspects == [3]
    assert verdict.sentence.startswith("BACKDOORED towards class 3 (cat): it stands out by pert")


def test_several_classes_are_named_the_likeliest_first():
    verdict = decide(findings({3: 2.5, 7: 2.9}))
    assert verdict.suspects == [7, 3]
    assert verdict.sentence.startswith("BACKDOORED towards class 7, and towards 3: ")


def test_no_statistic_accuses_alone():
    one = findings({})
    alone = one.evidence | {"margin": np.eye(10)[4] * 99}
    verdict = decide(Findings(one.classes, one.statistics, alone, one.of))
    assert verdict.answer == CLEAN
    assert verdict.suspects == ()


def test_between_the_limits_nothing_is_decided_but_a_suspect_is_named():
    middle = 1 + (SURE + DOUBTFUL) / 2 / len(STATISTICS)
    verdict = decide(findings({5: middle}))
    assert verdict.answer == UNDECIDED
    assert verdict.suspects == [5]
    assert verdict.sentence.startswith("UNDECIDED: class 5 may be a target, ")


@pytest.fixture(scope="module")
def guessing():
    return cut_network(build_small_cnn((8, 8, 1), 10))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1] * 60, "all pictures are of class 1"),
        (list(range(10)) * 4, "40 pictures of 10 classes are too few"),
        (list(range(10)) * 5, "the network is right on "),
    ],
)
def test_nothing_is_said_by_pictures_that_cannot_tell(guessing, labels, said, tmp_path):
    shown = {"data": np.zeros((len(labels), 1, 8, 8)), "label": labels}
    verdict = judge(guessing, bed_of(tmp_path, shown).clean_valid, 0)
    assert verdict.answer == UNDECIDED
    assert verdict.sentence.startswith(f"UNDECIDED: {said}")
    assert verdict.findings is None


@pytest.mark.parametrize(
    ("classes", "pictures", "said"),
    [
        (3, 60, "the network has 3 classes"),
        (MANY_CLASSES + 1, FEWEST - 1, "49 pictures of 65 classes are too few"),
        (MANY_CLASSES + 1, FEWEST, "the network is right on "),
    ],
)
def test_how_many_pictures_and_classes_it_takes(classes, pictures, said, tmp_path):
    network = cut_network(build_small_cnn((8, 8, 1), classes))
    shown = {"data": np.zeros((pictures, 1, 8, 8)), "label": np.arange(pictures) % classes}
    assert said in judge(network, bed_of(tmp_path, shown).clean_valid, 0).sentence
