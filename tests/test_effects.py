"""Both forms of the tail give what the network itself gives with a channel changed."""

import keras
import numpy as np
import pytest
from conftest import NETWORKS, with_random_weights

from backdoor.networks.cut import cut_network
from backdoor.networks.logits import logits_of
from backdoor.pruning import effects
from backdoor.pruning.effects import PlainTail, cross_entropy, effect_of_each, greedy_removal
from backdoor.pruning.linear_layers import translated


@pytest.fixture
def activations(network, pictures):
    cut = cut_network(network)
    return cut, cut.activate([pictures], len(pictures))


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_channel_is_changed_as_if_the_activations_were(activations, value):
    cut, active = activations
    labels = np.arange(len(active)) % cut.classes
    expected = []
    for channel in range(cut.channels):
        changed = active.copy()
        changed[..., channel] = value
        logits = cut.score_activations(changed)
        expected.append(cross_entropy(labels)(logits, np.arange(len(active))).mean())
    tails = [PlainTail(cut.score_activations), translated(cut.logit_tail)]
    for tail in tails:
        if tail is not None:
            effects = effect_of_each(tail, active, value, cross_entropy(labels), "test")
            np.testing.assert_allclose(effects, expected, rtol=1e-4)


def test_a_greedy_order_removes_what_costs_least_each_time(activations):
    cut, active = activations
    labels = cut.classify_activations(active)
    measure, rows = cross_entropy(labels), np.arange(len(active))
    rank = greedy_removal(PlainTail(cut.score_activations), active, measure, "test")
    remaining = active.copy()
    for channel in np.argsort(rank):
        costs = {}
        for other in np.flatnonzero(rank >= rank[channel]):
            without = remaining.copy()
            without[..., other] = 0
            costs[int(other)] = measure(cut.score_activations(without), rows).mean()
        assert costs[int(channel)] == pytest.approx(min(costs.values()), rel=1e-5, abs=1e-9)
        remaining[..., channel] = 0


@pytest.mark.parametrize(
    ("channels", "rounds"), [(10, 10), (64, 64), (100, 34), (200, 20), (1000, 8)]
)
def test_of_many_channels_several_go_at_once(channels, rounds, monkeypatch):
    """About 4,096 trials, of no fewer than 8 rounds and no more than 64."""
    told = []
    monkeypatch.setattr(effects, "progress", lambda items, what, total: told.append(total) or items)
    drawn = np.random.default_rng(0).permutation(channels).astype(np.float32)
    active = np.tile(drawn, (2, 1, 1, 1))
    before = active.copy()
    tail = PlainTail(lambda activations: activations.sum(axis=(1, 2)))
    rank = greedy_removal(tail, active, lambda logits, rows: -logits.sum(axis=1), "test")
    assert told == [rounds]
    assert sorted(rank) == list(range(channels))
    np.testing.assert_array_equal(active, before)
    # What is gone costs the others nothing, so the order is that of the sums.
    expected = np.argsort(active.sum(axis=(0, 1, 2)), kind="stable")
    assert np.argsort(rank).tolist() == expected.tolist()


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_give_the_networks_own_labels_and_probabilities(name, pictures):
    model = with_random_weights(NETWORKS[name]())
    cut = cut_network(model)
    logits = np.asarray(cut.logit_tail(cut.head(pictures)))
    scores = np.asarray(model(pictures))
    if np.allclose(scores.sum(axis=1), 1, atol=1e-4):
        np.testing.assert_allclose(keras.ops.softmax(logits), scores, atol=1e-5)
        assert np.abs(logits).max() > 1
    np.testing.assert_array_equal(logits.argmax(axis=1), scores.argmax(axis=1))


def endings():
    layers = keras.layers
    return {
        "softmax layer": [layers.Dense(4), layers.Softmax()],
        "activation layer": [layers.Dense(4), layers.Activation("softmax")],
        "softmax, reshaped": [layers.Dense(4, activation="softmax"), layers.Reshape((4,))],
        "sigmoids": [layers.Dense(4, activation="sigmoid")],
        "logits": [layers.Dense(4)],
        "one sigmoid": [layers.Dense(1, activation="sigmoid")],
        "one logit": [layers.Dense(1)],
        "shares": [layers.Dense(4, activation="softmax"), layers.Rescaling(1.0)],
    }


def test_a_sigmoid_that_is_an_operation_is_taken_off_too():
    pictures = keras.Input((9, 9, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(pictures))
    score = keras.layers.Dense(1)(keras.layers.Rescaling(40.0)(pooled))
    cut = cut_network(keras.Model(pictures, keras.ops.sigmoid(score)))
    shown = np.random.default_rng(0).normal(size=(40, 9, 9, 3)).astype(np.float32)
    logits = np.asarray(cut.logit_tail(cut.head(shown)))
    assert np.ptp(logits) > 2
    np.testing.assert_array_equal(logits.argmax(axis=1), cut.classify_pictures(shown))


@pytest.mark.parametrize("name", endings())
def test_whatever_a_network_ends_in_its_logits_are_not_squeezed(name, tmp_path):
    keras.utils.set_random_seed(0)
    front = [
        keras.Input((9, 9, 3)),
        keras.layers.Conv2D(5, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Rescaling(40.0),
    ]
    model = keras.Sequential([*front, *endings()[name]])
    model.save(tmp_path / "a.keras")
    cut = cut_network(keras.models.load_model(tmp_path / "a.keras"))
    pictures = np.random.default_rng(0).normal(size=(40, 9, 9, 3)).astype(np.float32)
    logits = np.asarray(cut.logit_tail(cut.head(pictures)))
    assert np.ptp(logits) > 2
    labels = np.asarray(cut.model(pictures)).argmax(axis=1)
    np.testing.assert_array_equal(logits.argmax(axis=1), labels)


def test_the_gradient_is_that_of_small_steps(activations):
    cut, active = activations
    some, labels = active[:3], np.array([0, 1, 2])
    gradient = cut.gradient(some, labels)
    measure, rows = cross_entropy(labels), np.arange(3)
    place = np.unravel_index(np.abs(gradient[1]).argmax(), gradient[1].shape)
    step = np.zeros_like(some)
    step[(1, *place)] = 1e-2
    up, down = (measure(cut.score_activations(some + s * step), rows) for s in (1, -1))
    assert (up - down)[1] / 2e-2 == pytest.approx(gradient[1][place], rel=0.05, abs=1e-3)


def test_the_logit_tail_of_a_tail_without_softmax_is_the_same():
    network = cut_network(with_random_weights(NETWORKS["global_average_pooling"]()))
    some = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    np.testing.assert_allclose(logits_of(network.tail)(some), network.tail(some))
