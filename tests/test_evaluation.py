import numpy as np
import pytest

from backdoor.evaluation import (
    accuracy,
    evaluate_clean,
    evaluate_poisoned,
    goodnet_labels,
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
    assert evaluated() == {
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
    assert evaluated(true_classes=np.zeros(4, int)) == evaluated()


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
