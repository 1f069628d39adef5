from dataclasses import astuple

import numpy as np
import pytest
import scipy.stats

from backdoor.evaluation import (
    HIGH,
    LOW,
    Auroc,
    accuracy,
    auroc,
    evaluate_clean,
    evaluate_parts,
    evaluate_poisoned,
    flip_depth,
    goodnet_labels,
    interval,
    mcnemar,
    ratings,
    share_answered,
)

N = 3
TRUTH = np.array([0, 1, 2, 1])
BADNET = (np.array([0, 1, 2, 0]), np.array([0, 0, 0, 2]))
PRUNED = (np.array([0, 1, 1, 0]), np.array([0, 2, 1, 2]))


def test_the_goodnet_answers_n_where_badnet_and_pruned_differ():
    assert goodnet_labels(BADNET[0], PRUNED[0], N).tolist() == [0, 1, N, 0]


def test_rates_of_a_whole_walk_at_once():
    walk = np.array([[0, 1, 2, 1], [0, 0, 0, 0]])
    assert accuracy(walk, TRUTH).tolist() == [1, 0.25]
    assert share_answered(walk, 0).tolist() == [0.25, 1]


def evaluated(**extra):
    clean = evaluate_clean(BADNET[0], PRUNED[0], TRUTH, N)
    return clean | evaluate_poisoned(BADNET[1], PRUNED[1], target=0, classes=N, **extra)


def test_all_metrics_by_hand():
    assert plain(evaluated()) == {
        "badnet_accuracy": 0.75,
        "badnet_attack_success_rate": 0.75,
        "pruned_accuracy": 0.5,
        "pruned_attack_success_rate": 0.25,
        "goodnet_accuracy": 0.5,
        "goodnet_attack_success_rate": 0.25,
        "detection_rate": 0.5,
        "false_alarm_rate": 0.25,
    }


def test_the_rate_without_the_target_leaves_its_pictures_out():
    metrics = evaluated(true_classes=np.array([0, 1, 2, 1]))
    assert metrics["badnet_attack_success_rate_without_target"] == pytest.approx(2 / 3)
    assert metrics["pruned_attack_success_rate_without_target"] == 0
    assert metrics["badnet_attack_success_rate"] == 0.75


def test_a_set_of_target_pictures_alone_has_no_rate_without_them():
    metrics = evaluated(true_classes=np.zeros(4, int))
    assert not any("without_target" in name for name in metrics)


@pytest.mark.parametrize("seed", range(20))
def test_the_identities_of_the_field(seed):
    rng = np.random.default_rng(seed)
    truth, badnet, pruned = rng.integers(0, 4, (3, 50))
    all_hit = np.zeros(50, int)
    metrics = evaluate_clean(badnet, pruned, truth, 4) | evaluate_poisoned(all_hit, pruned, 0, 4)
    assert metrics["goodnet_attack_success_rate"] == metrics["pruned_attack_success_rate"]
    assert metrics["goodnet_accuracy"] <= min(
        metrics["badnet_accuracy"], metrics["pruned_accuracy"]
    )
    assert metrics["false_alarm_rate"] == (badnet != pruned).mean()


def plain(metrics):
    return {name: value for name, value in metrics.items() if not name.endswith((LOW, HIGH))}


def test_wilsons_interval_is_the_textbooks():
    """Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263, and 15 of 148."""
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert interval(0, 20)[0] == 0
    assert interval(20, 20)[1] == 1


def test_intervals_and_mcnemars_test_are_scipys():
    for total in (1, 2, 7, 60, 48754):
        for hits in {0, 1, total // 3, total // 2, total - 1, total}:
            test = scipy.stats.binomtest(hits, total)
            wilson = test.proportion_ci(method="wilson")
            assert interval(hits, total) == (wilson.low, wilson.high)  # as in runs of before
            first, second = np.arange(total) < hits, np.arange(total) >= hits
            assert mcnemar(first, second) == pytest.approx(test.pvalue, rel=1e-12)


def test_an_auroc_is_mann_and_whitneys_statistic():
    rng = np.random.default_rng(3)
    for clean, poisoned in ((rng.integers(0, 9, 40), rng.integers(0, 7, 30)), rng.random((2, 9))):
        statistic = scipy.stats.mannwhitneyu(clean, poisoned).statistic
        assert auroc(clean, poisoned).value == pytest.approx(statistic / len(clean) / len(poisoned))


def test_every_rate_has_an_interval_around_it():
    metrics = evaluated(true_classes=np.array([0, 1, 2, 1]))
    for name, value in plain(metrics).items():
        assert metrics[name + LOW] <= value <= metrics[name + HIGH]


def test_robust_accuracy_is_the_share_given_its_true_class():
    metrics = evaluated(true_classes=np.array([0, 2, 2, 2]))
    assert metrics["badnet_robust_accuracy"] == 0.5
    assert metrics["pruned_robust_accuracy"] == 0.75
    assert metrics["goodnet_robust_accuracy"] == 0.5


def test_the_rating_by_hand():
    """ASR 0.75 to 0.25, accuracy 0.75 to 0.5: (0.5 - 0.25 + 1) / 2; what improves counts as 0."""
    assert ratings(evaluated())["pruned_der"] == 0.625
    better = evaluated() | {"pruned_accuracy": 0.9, "pruned_attack_success_rate": 0.8}
    assert ratings(better)["pruned_der"] == 0.5
    assert ratings(evaluate_clean(BADNET[0], PRUNED[0], TRUTH, N)) == {}


def test_flip_depth_is_the_first_k_at_which_the_label_is_another():
    walk = np.array([[0, 0, 0], [0, 1, 0], [2, 0, 0]])
    assert flip_depth(walk).tolist() == [2, 1, 3]


def test_auroc_by_hand():
    """Of 2 x 3 pairs the poisoned picture is the earlier in 4, and equal in one."""
    area = auroc(np.array([2, 5]), np.array([1, 2, 3]))
    assert area.value == pytest.approx(4.5 / 6)
    assert auroc(np.array([9, 9]), np.array([1, 2])).value == 1
    late = auroc(np.array([1, 2]), np.array([9, 9]))
    assert (late.value, late.two_sided.value) == (0, 1)


def test_an_auroc_below_one_half_is_that_of_the_kinds_exchanged_when_taken_two_sided():
    clean, poisoned = np.array([1, 4, 2, 2, 6] * 4), np.array([3, 5, 7, 2] * 4)
    area, exchanged = auroc(clean, poisoned), auroc(poisoned, clean)
    # Of 20 pairs the poisoned picture is the earlier in 5, and equal in 2.
    assert area.value == pytest.approx(6 / 20)
    assert astuple(area.two_sided) == pytest.approx(astuple(exchanged))
    assert exchanged.two_sided == exchanged
    assert 0 < area.low < area.high < 0.5


def test_an_auroc_of_one_picture_has_an_interval_within_zero_and_one():
    area = auroc(np.array([5]), np.array([1, 2, 9, 9, 9, 9]))
    share, spread = 2 / 6, np.sqrt(np.var([1, 1, 0, 0, 0, 0], ddof=1) / 6)
    assert area.value == pytest.approx(share)
    assert area.low == max(0, share - 1.959964 * spread) == 0
    assert area.high == pytest.approx(share + 1.959964 * spread)
    assert auroc(np.array([1]), np.array([2])).high == 0
    assert auroc(np.array([2, 2, 9]), np.array([1, 1, 8])).high == 1
    two, many = np.array([1, 9]), np.array([2, 3, 4])  # variances 1/2 of two, 0 of three
    assert auroc(two, many).low == max(0, 0.5 - 1.959964 * np.sqrt(0.5 / 2))
    assert auroc(many, two).high == min(1, 0.5 + 1.959964 * np.sqrt(0.5 / 2))


def test_the_interval_of_an_auroc_is_that_of_resampled_pictures():
    rng = np.random.default_rng(0)
    clean, poisoned = rng.integers(3, 12, 150), rng.integers(0, 10, 120)
    area = auroc(clean, poisoned)
    drawn = [
        auroc(rng.choice(clean, len(clean)), rng.choice(poisoned, len(poisoned))).value
        for _ in range(1500)
    ]
    assert area.value - area.low == pytest.approx(1.96 * np.std(drawn), rel=0.1)
    assert area.high - area.value == pytest.approx(area.value - area.low)


def test_the_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    for share, total in ((0.5, 60), (0.9, 60), (0.98, 300)):
        ends = np.array([interval(int(k), total) for k in rng.binomial(total, share, 2000)])
        covered = ((ends[:, 0] <= share) & (share <= ends[:, 1])).mean()
        assert 0.92 < covered < 0.985


def test_mcnemar_is_the_permutation_test_of_pairs():
    """Each way to swap the answers of the 8 pictures on which they differ: 2 (1 + 8) / 256."""
    first, second = np.ones(20, bool), np.ones(20, bool)
    second[:7], first[7] = False, False
    assert mcnemar(first, second) == pytest.approx(2 * 9 / 2**8)
    rng = np.random.default_rng(2)
    differ = second.astype(int) - first
    swapped = (rng.choice([-1, 1], (20000, 20)) * differ).sum(axis=1)
    assert mcnemar(first, second) == pytest.approx((np.abs(swapped) >= 6).mean(), abs=0.01)
    assert mcnemar(first, first) == 1


def test_attack_success_is_told_by_target_and_trigger_where_there_are_several():
    wanted, answered = np.array([1, 1, 2, 2]), np.array([1, 0, 2, 2])
    one = np.zeros(4, int)
    found = evaluate_parts({"badnet": answered}, wanted, {"target": wanted, "trigger": one})
    rate = "badnet_attack_success_rate"
    assert found == {f"{rate}/target 1": 0.5, f"{rate}/target 2": 1.0}
    found = evaluate_parts({"badnet": answered}, wanted, {"target": one, "trigger": None})
    assert found == {}
    few = np.arange(20)
    assert len(evaluate_parts({"badnet": few}, few, {"target": few})) == 20
    many = np.arange(21)
    assert evaluate_parts({"badnet": many}, many, {"target": many}) == {}


def test_each_poisoned_picture_may_have_its_own_target():
    wanted = np.array([1, 2, 0])
    found = evaluate_poisoned(wanted, np.array([1, 0, 0]), wanted, 3, np.array([0, 1, 0]))
    assert found["pruned_attack_success_rate"] == pytest.approx(2 / 3)
    assert found["pruned_attack_success_rate_without_target"] == 0.5


def test_an_auroc_and_its_interval_stay_between_none_and_all():
    """Of two clean and two poisoned pictures, three pairs of four stand right.

    A clean one is above both or one of the poisoned ones, 1 and 1/2; likewise a poisoned one:
    each part has a variance of 1/8.
    """
    found = auroc(np.array([4, 2]), np.array([1, 3]))
    half = scipy.stats.norm.ppf(0.975) * np.sqrt(1 / 8 / 2 + 1 / 8 / 2)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - half)
    assert found.high == 1
    one = auroc(np.array([4]), np.array([1, 3]))
    assert (one.low, one.value, one.high) == (1, 1, 1)
    turned = auroc(np.array([1, 3]), np.array([4, 2]))
    assert (turned.value, turned.low) == (0.25, 0)


def test_what_is_no_better_than_chance_is_not_turned_round():
    even = Auroc(0.5, 0.3, 0.6)
    assert even.two_sided is even
    assert Auroc(0.4, 0.3, 0.6).two_sided == Auroc(0.6, 0.4, 0.7)
