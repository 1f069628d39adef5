"""What is said of a network, by what was found; what was found, by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from conftest import bed_of

from backdoor import verdict
from backdoor.answers import BACKDOORED, CLEAN, UNDECIDED
from backdoor.attacks.statistics import standard
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
    beyond,
    decide,
    judge,
    outlying,
    outlying_beyond,
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


def findings_of(values):
    classes = np.arange(len(next(iter(values.values()))))
    evidence = {name: outlying(of_it, classes) for name, of_it in values.items()}
    return Findings(classes, values, evidence, len(classes))


def test_what_a_statistic_counts_for_has_a_floor_and_a_ceiling():
    one = findings({0: 0.9, 1: 1.5, 2: 99})
    assert one.points["mask"][:3].tolist() == [0, 0.5, MOST]
    assert one.scores[:3].tolist() == [0, 0.5 * len(STATISTICS), MOST * len(STATISTICS)]
    tenfold = findings({2: 99}, classes=100)
    assert tenfold.scores[2] == MOST * len(STATISTICS) - 1


def test_a_class_that_stands_out_on_all_statistics_is_named():
    told = decide(findings({3: 2.5}), lambda label: f"{label} (cat)")
    assert told.answer == BACKDOORED
    assert told.suspects == [3]
    assert told.sentence.startswith("BACKDOORED towards class 3 (cat): it stands out by pert")


def test_classes_beyond_those_that_have_names_are_told_by_number(guessing, monkeypatch):
    monkeypatch.setattr(verdict, "reason_to_doubt", lambda network, clean: None)
    monkeypatch.setattr(verdict, "look", lambda *given: findings({1: 2.5, 2: 2.9}))
    told = judge(guessing, SimpleNamespace(names=["cat", "dog"]), 0)
    assert told.sentence.startswith("BACKDOORED towards class 2, and towards 1 (dog): ")


def test_several_classes_are_named_the_likeliest_first():
    told = decide(findings({3: 2.5, 7: 2.9}))
    assert told.suspects == [7, 3]
    assert told.sentence.startswith("BACKDOORED towards class 7, and towards 3: ")


def test_no_statistic_accuses_alone():
    one = findings({})
    alone = one.evidence | {"margin": np.eye(10)[4] * 99}
    told = decide(Findings(one.classes, one.statistics, alone, one.of))
    assert told.answer == CLEAN
    assert told.suspects == ()


def test_between_the_limits_nothing_is_decided_but_a_suspect_is_named():
    middle = 1 + (SURE + DOUBTFUL) / 2 / len(STATISTICS)
    told = decide(findings({5: middle}))
    assert told.answer == UNDECIDED
    assert told.suspects == [5]
    assert told.sentence.startswith("UNDECIDED: class 5 may be a target, ")


def test_the_rule_is_the_one_that_was_measured():
    """docs/verdict.md gives the rates of these: who changes one measures them anew."""
    assert (verdict.SURE, verdict.DOUBTFUL, verdict.OPEN) == (4.1, 3.0, (1.5, 6.0))
    assert (verdict.LEAST, verdict.MOST, verdict.USUAL, verdict.TELLING) == (1.0, 2.0, 10, 0.5)
    assert (verdict.FEWEST_CLASSES, verdict.FEWEST_OF_A_CLASS, verdict.FEWEST) == (4, 5, 50)
    assert (verdict.CANDIDATES, verdict.OTHERS, verdict.POOREST) == (16, 32, 0.6)
    assert list(STATISTICS) == [
        "perturbation",
        "mask",
        "activations",
        "margin",
        "stimuli",
    ]


@pytest.mark.parametrize(
    ("score", "answer", "named"),
    [(2.99, CLEAN, []), (3.0, UNDECIDED, [5]), (4.09, UNDECIDED, [5]), (4.1, BACKDOORED, [5])],
)
def test_a_limit_that_is_reached_counts(score, answer, named):
    """Scores to the last digit: the points of one statistic are 1.1, those of the others less."""
    one = findings({5: 1})
    vars(one)["scores"] = np.eye(10)[5] * score
    told = decide(one)
    assert told.answer == answer
    assert list(told.suspects) == named
    assert told.score == score
    assert f"score {score:.1f}; " in told.sentence


def test_how_many_networks_of_the_study_score_as_high(monkeypatch):
    monkeypatch.setattr(verdict, "STUDY", {"clean": [1, 2, 3], "backdoored": [3, 4]})
    assert verdict.shares(3) == (
        "1 of 3 clean and 2 of 2 backdoored networks of the study score as high"
    )


def test_reasons_are_listed_in_words():
    seen = {"perturbation": 1.5, "mask": 1.49, "margin": 3}
    evidence = {name: np.eye(10)[5] * seen.get(name, 0) for name in STATISTICS}
    one = Findings(np.arange(10), evidence, evidence, 10)
    vars(one)["scores"] = np.eye(10)[5] * 9.0
    assert "it stands out by perturbation and margin (score" in decide(one).sentence
    evidence["mask"] = evidence["margin"]
    one = Findings(np.arange(10), evidence, evidence, 10)
    vars(one)["scores"] = np.eye(10)[5] * 9.0
    assert "it stands out by perturbation, mask and margin (score" in decide(one).sentence


@pytest.fixture(scope="module")
def guessing():
    return cut_network(build_small_cnn((8, 8, 1), 10))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1] * 60, "all pictures are of class 1"),
        (list(range(10)) * 4, "40 pictures of 10 classes are too few"),
        (list(range(10)) * 5, "the network is right on "),
        ([3, 7] * 30, "the network is right on "),
    ],
)
def test_nothing_is_said_by_pictures_that_cannot_tell(guessing, labels, said, tmp_path):
    shown = {"data": np.zeros((len(labels), 1, 8, 8)), "label": labels}
    said_of_it = judge(guessing, bed_of(tmp_path, shown).clean_valid, 0)
    assert said_of_it.answer == UNDECIDED
    assert said_of_it.sentence.startswith(f"UNDECIDED: {said}")
    assert said_of_it.findings is None


@pytest.mark.parametrize(
    ("classes", "pictures", "said"),
    [
        (3, 60, "the network has 3 classes"),
        (4, 19, "19 pictures of 4 classes are too few"),
        (4, 20, "the network is right on "),
        (MANY_CLASSES + 1, FEWEST - 1, "49 pictures of 65 classes are too few"),
        (MANY_CLASSES + 1, FEWEST, "the network is right on "),
    ],
)
def test_how_many_pictures_and_classes_it_takes(classes, pictures, said, tmp_path):
    network = cut_network(build_small_cnn((8, 8, 1), classes))
    shown = {"data": np.zeros((pictures, 1, 8, 8)), "label": np.arange(pictures) % classes}
    assert said in judge(network, bed_of(tmp_path, shown).clean_valid, 0).sentence


def test_among_many_classes_costly_statistics_look_at_candidates_and_others(monkeypatch):
    seen = []

    def cheap(network, clean, classes, seed):
        return np.random.default_rng(1).normal(size=len(classes)) + 20 * (classes == 77)

    def costly(network, clean, classes, seed):
        seen.append(classes)
        return np.random.default_rng(2).normal(size=len(classes)) + 20 * (classes == 77)

    monkeypatch.setattr(verdict, "CHEAP", {"cheap": cheap})
    monkeypatch.setattr(verdict, "STATISTICS", {"costly": costly, "cheap": cheap})
    monkeypatch.setattr(verdict, "best_square", lambda *given: None)
    network = SimpleNamespace(classes=1000)
    found = verdict.look(network, None, 0)
    (looked_at,) = seen
    assert len(looked_at) == len(set(looked_at)) == verdict.CANDIDATES + verdict.OTHERS
    assert 77 in looked_at
    assert found.classes.tolist() == looked_at.tolist()
    assert found.of == 1000
    assert found.classes[found.scores.argmax()] == 77
    assert found.scores.max() == 2 * MOST - 2  # of 1000 classes


def test_what_is_easy_without_a_backdoor_counts_for_less():
    rng, bump = np.random.default_rng(0), 12 * np.eye(10)[4]
    values = rng.normal(size=10) + bump
    alone = findings_of({"one": values})
    plain, like_it = rng.normal(size=10), values + rng.normal(size=10) / 3
    usuals = ({"one": standard(usual)} for usual in (plain, like_it))
    found = [beyond(alone, usual).evidence["one"][4] for usual in usuals]
    assert alone.evidence["one"][4] >= found[0] > found[1]
    assert found[1] < alone.evidence["one"][4] / 2


def test_a_value_beyond_a_line_through_the_others_by_hand():
    """The others lie 0.5 and -0.5 off the line y = x; Student's t has 4 - 2 degrees of freedom."""
    usual = np.array([0.0, 0.0, 2.0, 2.0, 1.0])
    values = np.array([0.5, -0.5, 2.5, 1.5, 9.0])
    high = (9 - 1) / np.sqrt((4 * 0.5**2 / 2) * (1 + 1 / 4))
    chance = 0.5 - high / (2 * np.sqrt(2 + high**2))
    assert outlying_beyond(values, usual)[4] == pytest.approx(-np.log10(chance))


@pytest.mark.parametrize("usual", [[3, 2, 1, 0, 9], [1, 3, 0, 2, 9]])
def test_what_is_usual_counts_for_nothing_where_it_explains_nothing(usual):
    """The first line would fall; the second rises less than chance would have it."""
    values = np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    alone = outlying(values, np.arange(5))
    assert outlying_beyond(values, np.array(usual, float))[4] == alone[4]


def test_values_beyond_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    usual = rng.normal(size=12)
    values = 2 * usual + rng.normal(size=12)
    slope, level = np.polyfit(usual[1:], values[1:], 1)
    rest = values[1:] - level - slope * usual[1:]
    far = (usual[0] - usual[1:].mean()) ** 2 / (11 * usual[1:].var())
    spread = np.sqrt(rest @ rest / 9 * (1 + 1 / 11 + far))
    chance = scipy.stats.t.sf((values[0] - level - slope * usual[0]) / spread, 9)
    assert outlying_beyond(values, usual)[0] == pytest.approx(-np.log10(chance))


@pytest.mark.parametrize(
    ("score", "always", "asked"),
    [
        (0.5, False, 0),
        (0.5, True, 1),
        (1.5, False, 1),
        (3, False, 1),
        (6, False, 0),
        (9, False, 0),
        (9, True, 1),
    ],
)
def test_controls_are_asked_where_the_network_leaves_it_open(
    score, always, asked, guessing, monkeypatch
):
    asks = []
    monkeypatch.setattr(verdict, "reason_to_doubt", lambda network, clean: None)
    first = findings({3: 1})
    vars(first)["scores"] = np.eye(10)[3] * score
    monkeypatch.setattr(verdict, "look", lambda network, clean, seed: first)

    def usual():
        asks.append(1)
        return {name: np.zeros(10) for name in STATISTICS}

    clean = SimpleNamespace(names=None)
    told = judge(guessing, clean, 0, usual, always)
    assert len(asks) == asked
    assert told.findings.calibrated == bool(asked)
    assert judge(guessing, clean, 0).findings is first
    if not always:
        assert judge(guessing, clean, 0, lambda: None).findings is first
        judge(guessing, clean, 0, usual)
        assert len(asks) == 2 * asked
    assert judge(guessing, clean, 0, lambda: None, always).findings is first


@pytest.mark.parametrize(("right", "doubted"), [(29, True), (30, False), (31, False)])
def test_what_is_right_on_three_fifths_is_looked_at(right, doubted, guessing, tmp_path):
    labels = np.arange(50) % 10
    answers = np.where(np.arange(50) < right, labels, (labels + 1) % 10)
    clean = bed_of(tmp_path, {"data": np.zeros((50, 1, 8, 8)), "label": labels}).clean_valid
    network = SimpleNamespace(classes=10, classify_pictures=lambda pictures: answers)
    assert (verdict.reason_to_doubt(network, clean) is not None) == doubted


def test_a_step_of_all_classes_is_a_backdoor_without_a_suspect():
    found = dataclasses.replace(findings({}), step=1)
    assert decide(found).answer == BACKDOORED
    assert decide(found).suspects == ()
    assert "from every class to the next (all-to-all)" in decide(found).sentence
    assert "to the one 3 further" in decide(dataclasses.replace(found, step=3)).sentence


@pytest.mark.parametrize("classes", [65, 79, 80, 1283])
def test_there_are_others_to_compare_candidates_with_however_many_classes(classes):
    evidence = {str(n): np.random.default_rng(n).normal(size=classes) for n in range(3)}
    chosen, others = verdict._candidates(evidence, 0)
    assert len(set(chosen)) == len(chosen) <= classes
    assert others.max() == len(chosen) - 1
    first = np.argsort(-evidence["0"])[: verdict.CANDIDATES]
    assert set(first) <= set(chosen[: others.min()])


def test_numbers_that_are_not_finite_decide_nothing():
    one = findings({})
    told = decide(Findings(one.classes, {}, {"mask": np.full(10, np.nan)}, 10))
    assert told.answer == UNDECIDED
    assert "not finite" in told.sentence


def test_a_line_that_explains_no_more_than_it_costs_is_not_used():
    """Three points: the line's rest has one degree of freedom, the values about their mean two."""
    usual = np.array([0.0, 1.0, 2.0, 1.0])
    for values in ([0.0, 1.0, 0.0, 9.0], [0.0, -3.0, 1.0, 9.0]):
        rest = np.array(values)
        line = scipy.stats.linregress(usual[:3], rest[:3])
        off = rest[:3] - line.intercept - line.slope * usual[:3]
        assert off @ off / 1 > rest[:3].var(ddof=1) or line.slope <= 0
        found = outlying_beyond(rest, usual)[3]
        assert found == pytest.approx(outlying(rest, np.arange(4))[3])


def test_the_class_that_stands_out_most_is_told_and_how_many_score_as_high(monkeypatch):
    monkeypatch.setattr(verdict, "STUDY", {"clean": [0.1, 0.9, 1], "backdoored": [0.05, 2]})
    one = findings({})
    vars(one)["scores"] = np.eye(10)[6] * 0.8 + np.eye(10)[2] * 0.07
    sentence = decide(one).sentence
    assert sentence.startswith("NO BACKDOOR FOUND: no class stands out, class 6 most (score 0.8; ")
    assert "2 of 3 clean and 1 of 2 backdoored" in sentence
