import csv
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
from conftest import (
    LAB3,
    needs_lab3,
    ranked,
)

from backdoor.errors import UserError
from backdoor.networks.filters import Filters
from backdoor.pruning.effects import PlainTail, margins, push_of_each
from backdoor.pruning.evidence import Evidence, PoisonedEvidence
from backdoor.pruning.needs import NOTHING, PICTURES, POISONED
from backdoor.pruning.oracles import ORACLES
from backdoor.pruning.orders import (
    check_rank_at,
    is_oracle,
    needed,
    orders,
    rank_channels,
    version_of_order,
)
from backdoor.pruning.scores import SCORES, _scaled, mean_activation


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


BY_ACTIVATIONS = [order for order in orders() if set(needed(order)) <= {PICTURES, NOTHING}]


@pytest.mark.parametrize("order", BY_ACTIVATIONS)
def test_an_order_is_a_permutation_and_leaves_the_activations_alone(order):
    activations = np.random.default_rng(0).random((9, 3, 2, 12), np.float32)
    before = activations.copy()
    assert sorted(ranked(order, activations).tolist()) == list(range(12))
    np.testing.assert_array_equal(activations, before)


@pytest.mark.parametrize("order", BY_ACTIVATIONS)
def test_activations_without_height_and_width_can_be_ranked(order):
    assert len(ranked(order, np.random.default_rng(0).random((9, 12), np.float32))) == 12


# Two pictures of two places and three channels.
BY_HAND = np.float32([[[[1, 0, 4]], [[3, 0, 0]]], [[[0, 2, 0]], [[0, 2, 0]]]])


@pytest.mark.parametrize(
    ("order", "channels"),
    [
        ("max", [1, 0, 2]),  # 3, 2, 4
        ("std", [1, 0, 2]),  # variances 1.5, 1, 3
        ("apoz", [2, 0, 1]),  # zeros 2, 2, 3 of 4
    ],
)
def test_orders_by_activations_by_hand(order, channels):
    assert ranked(order, BY_HAND).tolist() == channels


def test_a_drawn_order_depends_on_the_seed_alone():
    drawn = [
        rank_channels("random", Evidence.of_activations(BY_HAND.repeat(9, axis=-1), seed), None)
        for seed in (0, 0, 1)
    ]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()


def evidence_of(activations, weights, labels=(0, 1), **network) -> Evidence:
    """Logits are the sum over places of the activations times weights (C, N)."""
    plain = PlainTail(lambda some: some.reshape(len(some), -1, len(weights)).sum(axis=1) @ weights)
    suspicion = SimpleNamespace(
        suspect=lambda: 1, triggered=lambda rows: network["triggered"][rows], seconds=0.0
    )
    rng = np.random.default_rng(0)
    fake = SimpleNamespace(**network)
    return Evidence(fake, np.float32(activations), np.array(labels), rng, plain, suspicion)


def scored(order, evidence, poisoned=None):
    return rank_channels(order, evidence, lambda: poisoned).tolist()


def test_the_norm_of_filters_by_hand():
    kernel = np.float32([[[1, 0.5, 4]], [[-2, 0.5, 0]]])  # sums 3, 1, 4
    evidence = evidence_of(BY_HAND, np.eye(3), filters=Filters(kernel, np.ones(3)))
    assert scored("l1", evidence) == [1, 0, 2]


def test_the_lipschitz_bound_by_hand():
    diagonal, of_rank_one = [[3, 0], [0, 4]], [[1, 2], [2, 4]]  # largest singular values 4 and 5
    kernel = np.float32([diagonal, of_rank_one]).transpose(1, 2, 0)
    without = evidence_of(BY_HAND, np.eye(3), filters=Filters(kernel, np.ones(2)))
    assert scored("clp", without) == [1, 0]
    normalised = evidence_of(BY_HAND, np.eye(3), filters=Filters(kernel, np.array([2, 1])))
    assert scored("clp", normalised) == [0, 1]


def test_taylor_by_hand():
    """Activation times gradient, summed over places first: opposite places cancel."""
    gradient = np.ones_like(BY_HAND) * [1, -2, 1]
    gradient[0, :, 0, 0] = [3, -1]  # 3 - 3 = 0 for the first channel
    evidence = evidence_of(BY_HAND, np.eye(3), gradient=lambda activations, labels: gradient)
    assert SCORES["taylor"](evidence).tolist() == [0, 4, 2]


WEIGHTS = np.array([[1, 0], [0, 1], [0, 0.5]])


def loss(activations, labels=(0, 1), weights=WEIGHTS):
    logits = np.asarray(activations, float).sum(axis=(1, 2)) @ weights
    return -scipy.special.log_softmax(logits, axis=1)[np.arange(len(labels)), list(labels)].mean()


def test_leave_one_out_is_the_loss_without_the_channel():
    losses = SCORES["leave_one_out"](evidence_of(BY_HAND, WEIGHTS))
    for channel in range(3):
        without = BY_HAND.copy()
        without[..., channel] = 0
        assert losses[channel] == pytest.approx(loss(without))
    assert scored("leave_one_out", evidence_of(BY_HAND, WEIGHTS)) == [2, 1, 0]


def test_a_greedy_order_sees_that_one_of_two_twins_is_needed():
    """The first two channels both carry the first picture; the third helps the second a little."""
    activations = np.float32([[[[1, 1, 0]]], [[[0, 0, 1]]]])
    weights = np.array([[10, 0], [10, 0], [0, 0.5]])
    evidence = evidence_of(activations, weights)
    assert scored("leave_one_out", evidence) == [0, 1, 2]
    assert scored("greedy_leave_one_out", evidence) == [0, 2, 1]


def test_stimulation_is_how_far_a_raised_channel_pushes_towards_the_suspect():
    """Only the first picture is of another class than the suspect, class 1."""
    push = -SCORES["stimulation"](evidence_of(BY_HAND, WEIGHTS))
    most = np.quantile(BY_HAND, 0.999)
    first = BY_HAND[0].astype(float)
    for channel in range(3):
        raised = first.copy()
        raised[..., channel] = most
        before, after = (picture.sum(axis=(0, 1)) @ WEIGHTS for picture in (first, raised))
        margin = (after[1] - after[0]) - (before[1] - before[0])
        assert push[channel] == pytest.approx(margin, rel=1e-5)
    assert scored("stimulation", evidence_of(BY_HAND, WEIGHTS)) == [1, 2, 0]


def test_mean_over_stimulation_by_hand():
    """Means 1, 2, 3 scale to 0, 0.5, 1; pushes scale to 0, 1, 0.5: 0, 0.5, 2."""
    activations = np.float32([[[[1, 2, 3]]]])
    most = float(np.quantile(activations, 0.999))
    pushes = np.array([0, 1, 0.5])
    weights = np.stack([np.zeros(3), pushes / (most - activations[0, 0, 0])], axis=1)
    scores = SCORES["mean_over_stimulation"](evidence_of(activations, weights, labels=[0]))
    assert scores == pytest.approx([0, 0.5, 2], rel=1e-3)


def test_the_estimated_trigger_adds_the_loss_with_it():
    """The trigger activates the third channel, which turns class 0 to class 1."""
    triggered = BY_HAND + np.float32([0, 0, 20])
    evidence = evidence_of(BY_HAND, WEIGHTS, triggered=triggered)
    scores = SCORES["estimated_trigger"](evidence)
    for channel in range(3):
        both = np.concatenate([BY_HAND, triggered])
        both[..., channel] = 0
        assert scores[channel] == pytest.approx(loss(both, (0, 1, 0, 1)), rel=1e-5)
    assert scored("estimated_trigger", evidence)[0] == 2


def test_tac_is_the_norm_of_the_change_over_places():
    poisoned = BY_HAND + np.float32([[[0, 1, 0]], [[0, 1, 2]]])  # changes 0, sqrt 2, 2
    change = ORACLES["oracle_tac"](
        evidence_of(BY_HAND, WEIGHTS), PoisonedEvidence(poisoned, np.ones(len(poisoned), int))
    )
    assert -change == pytest.approx([0, 2**0.5, 2])
    others = PoisonedEvidence(
        np.repeat(poisoned, 2, axis=0), np.ones(2 * len(poisoned), int), twins=False
    )  # no twins: means are compared
    assert -ORACLES["oracle_tac"](evidence_of(BY_HAND, WEIGHTS), others) == pytest.approx(
        [0, 2**0.5, 2]
    )


def test_the_oracle_removes_what_answers_the_target():
    poisoned = PoisonedEvidence(BY_HAND + np.float32([0, 0, 20]), np.ones(len(BY_HAND), np.int64))
    assert scored("oracle_leave_one_out", evidence_of(BY_HAND, WEIGHTS), poisoned)[0] == 2


def test_every_order_says_what_it_needs():
    assert all(needed(order) for order in orders())
    assert [order for order in orders() if is_oracle(order)] == list(ORACLES)
    assert all((POISONED in needed(order)) == is_oracle(order) for order in orders())


def test_the_version_of_an_order_names_the_search_where_it_searches():
    assert version_of_order("asc") == "asc:ascending-1"
    assert version_of_order("stimulation") == "stimulation:stimulation-1:search-2"
    assert version_of_order("oracle_tac") == "oracle_tac:trigger_activated_change-2"
    assert version_of_order("no such order") == "no such order"


@pytest.mark.parametrize("order", [*SCORES, *ORACLES])
def test_what_may_be_ranked_before_the_pooling(order):
    """What looks at activations alone, clean or poisoned ones, or draws."""
    check_rank_at(order, "pool")
    if order in ("asc", "desc", "random", "max", "std", "apoz", "oracle_tac"):
        check_rank_at(order, "conv")
    else:
        with pytest.raises(UserError, match=f"rank_at: expected pool for the order '{order}'"):
            check_rank_at(order, "conv")


def test_what_each_order_needs():
    pictures, classes, weights = "clean pictures", "their classes", "weights"
    suspect, poisoned = "a suspected class", "poisoned pictures"
    with_weights = (pictures, classes, weights)
    assert {order: needed(order) for order in orders()} == {
        **dict.fromkeys(("asc", "desc", "max", "std", "apoz"), (pictures,)),
        "random": ("nothing",),
        **dict.fromkeys(("l1", "clp"), (weights,)),
        **dict.fromkeys(("taylor", "leave_one_out", "greedy_leave_one_out"), with_weights),
        **dict.fromkeys(
            ("stimulation", "mean_over_stimulation", "estimated_trigger"), (*with_weights, suspect)
        ),
        "oracle_tac": (pictures, poisoned),
        "oracle_leave_one_out": (*with_weights, poisoned),
    }


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


@pytest.mark.parametrize("order", ["std", "apoz", "oracle_tac"])
def test_scores_of_sets_larger_than_memory_are_the_same(order, monkeypatch):
    rng = np.random.default_rng(1)
    clean = np.maximum(rng.normal(size=(7, 2, 3, 4)), 0).astype(np.float32)
    poisoned = PoisonedEvidence(clean[::-1] ** 2, np.zeros(7, np.int64))

    def scores():
        evidence = Evidence.of_activations(clean)
        if order in ORACLES:
            return ORACLES[order](evidence, poisoned)
        return SCORES[order](evidence)

    by_hand = {
        "std": clean.reshape(-1, 4).std(axis=0, dtype=np.float64),
        "apoz": -(clean == 0).mean(axis=(0, 1, 2)),
        "oracle_tac": -np.linalg.norm((clean[::-1] ** 2 - clean).reshape(7, 6, 4), axis=1).mean(
            axis=0
        ),
    }
    for part in (2**27, 2 * clean[0].nbytes, 1):
        monkeypatch.setattr("backdoor.pruning.walk.PART", part)
        np.testing.assert_allclose(scores(), by_hand[order], rtol=1e-6)


def test_a_push_is_the_mean_over_the_pictures_of_other_classes():
    """Two of them, at whose one place a channel that is off is raised to 2 and to 3."""
    activations = np.float32([[[[1, 0]]], [[[1, 0]]], [[[1, 4]]]])
    found = push_of_each(
        PlainTail(lambda some: some[:, 0, 0] @ np.eye(2, dtype=np.float32)),
        activations,
        np.array([0, 0, 1]),
    )
    most = float(np.quantile(activations, 0.999))
    assert found[1] == pytest.approx([4 - most, most])  # away from class 0, towards class 1
    assert found[0] == pytest.approx([most - 1, 1 - most])


def test_margins_are_to_the_largest_of_the_others():
    logits = np.random.default_rng(0).permuted(np.tile(np.arange(200.0), (3, 1)), axis=1)
    found = margins(np.float32(logits))
    for row, picture in enumerate(logits):
        for label in (0, 77, int(picture.argmax())):
            assert found[row, label] == picture[label] - np.delete(picture, label).max()


def test_the_oracle_by_hand():
    """Clean pictures lose their class without the channel; poisoned ones may keep the target."""
    attacked = BY_HAND[:1] + np.float32([0, 1, 1])
    targets = np.array([1])
    found = ORACLES["oracle_leave_one_out"](
        evidence_of(BY_HAND, WEIGHTS), PoisonedEvidence(attacked, targets)
    )
    for channel in range(3):
        clean, poisoned = BY_HAND.copy(), attacked.copy()
        clean[..., channel] = poisoned[..., channel] = 0
        logits = poisoned.astype(float).sum(axis=(1, 2)) @ WEIGHTS
        kept = -np.log(1 - scipy.special.softmax(logits, axis=1)[0, 1])
        assert found[channel] == pytest.approx(loss(clean) + kept, rel=1e-5)


def test_the_lipschitz_bound_is_the_largest_singular_value():
    diagonal, of_rank_one = [[3, 0], [0, 4]], [[1, 2], [2, 4]]  # 4 and 5; columns' sums 4 and 6
    kernel = np.float32([diagonal, of_rank_one]).transpose(1, 2, 0)
    filters = Filters(kernel, np.array([1.3, 1]))
    assert SCORES["clp"](evidence_of(BY_HAND, np.eye(3), filters=filters)) == pytest.approx(
        [-5.2, -5]
    )


def test_scores_that_are_all_the_same_scale_to_zero():
    assert _scaled(np.array([3.0, 3.0])).tolist() == [0, 0]
    assert _scaled(np.array([1.0, 2.0, 5.0])).tolist() == [0, 0.25, 1]
