"""Repaired networks: the labels of B', fewer numbers, files that plain Keras and others open."""

import keras
import numpy as np
import pytest
from conftest import bed_of, really_pruned
from keras import layers
from test_detection import CLEAN, POISONED, TRUTH, colour_network, pixels

from backdoor.detection import detect
from backdoor.errors import UserError
from backdoor.networks.cut import cut_network
from backdoor.networks.exports import EXPORTS, export
from backdoor.networks.repair import LABELS_OF_PRUNED, REPAIRS, Clean
from backdoor.repaired import repair

NOTHING = Clean(lambda: np.zeros(0), np.zeros(0, int), 0)


def saved(model, folder):
    model.save(folder / "repaired.keras")
    return keras.models.load_model(folder / "repaired.keras")


@pytest.mark.parametrize("how", LABELS_OF_PRUNED)
@pytest.mark.parametrize("removed", [[], [1], [0, 2, 5]])
def test_pruned_networks_are_those_with_zeroed_convolutions(
    network, pictures, how, removed, tmp_path
):
    cut = cut_network(network)
    before = [np.array(weight) for weight in network.get_weights()]
    repaired = saved(REPAIRS[how](cut, removed, NOTHING), tmp_path)
    expected = really_pruned(network, removed)(pictures)
    np.testing.assert_allclose(repaired(pictures), expected, atol=1e-4)
    for weight, old in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    if how == "slim":
        assert (repaired.count_params() < network.count_params()) == bool(removed)


def around(front, behind):
    """A network cut at its pooling layer, between these layers."""
    pictures = keras.Input((10, 10, 3))
    x = pictures
    for layer in (*front, layers.MaxPooling2D(2, name="pool"), *behind):
        x = layer(x)
    model = keras.Model(pictures, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    model.set_weights([np.abs(rng.normal(0.5, 0.3, w.shape)) for w in model.get_weights()])
    return model


KNOWN = {
    "normalised before": (
        [layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()],
        [],
    ),
    "separable before": ([layers.SeparableConv2D(6, 3, activation="relu")], []),
    "sigmoid before": ([layers.Conv2D(6, 3, activation="sigmoid")], []),
    "convolution behind": (
        [layers.Conv2D(6, 3)],
        [layers.Dropout(0.5), layers.Conv2D(5, 2, padding="same", activation="relu")],
    ),
    "dense at each place": ([layers.Conv2D(6, 3)], [layers.LeakyReLU(), layers.Dense(3)]),
    "pooled again": ([layers.Conv2D(6, 3)], [layers.GlobalMaxPooling2D()]),
    "nested": ([layers.Conv2D(6, 3)], [keras.Sequential([layers.ReLU(), layers.Conv2D(2, 2)])]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_layers_of_known_kinds_are_made_smaller(name, pictures, tmp_path):
    model = around(*KNOWN[name])
    model.save(tmp_path / "a.keras")
    cut = cut_network(keras.models.load_model(tmp_path / "a.keras"), "pool")
    shown = np.random.default_rng(0).normal(0, 1, (40, 10, 10, 3)).astype(np.float32)
    masked = REPAIRS["prune"](cut, [0, 3, 4], NOTHING)
    slim = saved(REPAIRS["slim"](cut, [0, 3, 4], NOTHING), tmp_path)
    np.testing.assert_allclose(slim(shown), masked(shown), atol=1e-3)
    assert slim.count_params() < masked.count_params()


UNKNOWN = {
    "batch_normalization": ([layers.Conv2D(6, 3)], [layers.BatchNormalization()]),
    "activation": ([layers.Conv2D(6, 3)], [layers.Activation("sigmoid")]),
    "grouped": ([layers.Conv2D(6, 3, groups=3, name="grouped")], []),
    "depthwise": ([layers.Conv2D(6, 3), layers.DepthwiseConv2D(2)], []),
    "reshape": ([layers.Conv2D(6, 3)], [layers.Reshape((-1, 12))]),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_cannot_be_made_smaller_is_named(kind):
    cut = cut_network(around(*UNKNOWN[kind]), "pool")
    with pytest.raises(UserError, match=rf"repair: expected layers around .*got '{kind}"):
        REPAIRS["slim"](cut, [1], NOTHING)


def test_a_network_of_no_channels_is_refused():
    cut = cut_network(around([layers.Conv2D(2, 3)], []))
    with pytest.raises(UserError, match="expected a channel that is left"):
        REPAIRS["slim"](cut, [0, 1], NOTHING)


@pytest.fixture
def outcome(tmp_path):
    clean = {"data": pixels(np.tile(CLEAN, (8, 1))), "label": np.tile(TRUTH, 8)}
    attacked = {"data": pixels(POISONED), "label": np.zeros(3), "true_label": [1, 0, 2]}
    return detect(colour_network(), bed_of(tmp_path, clean, attacked), "asc", [40])


@pytest.mark.parametrize("how", REPAIRS)
def test_a_repair_leaves_the_badnet_alone_and_answers_as_it_says(how, outcome, tmp_path):
    weights = [np.array(w) for w in outcome.network.model.get_weights()]
    if how == "slim":
        with pytest.raises(UserError, match="expected a convolution before the cut"):
            repair(outcome, 40, how, seed=0)
        return
    repaired = repair(outcome, 40, how, seed=0)
    model = saved(repaired.model, tmp_path)
    for name, colours in (("clean_test", np.tile(CLEAN, (8, 1))), ("poisoned_test", POISONED)):
        answers = np.asarray(model(colours.reshape(-1, 1, 1, 3))).argmax(axis=1)
        np.testing.assert_array_equal(answers, repaired.answers[name])
    for weight, old in zip(outcome.network.model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    metrics = repaired.metrics()
    assert repaired.own == ("repaired_accuracy" in metrics) == how.startswith("finetune")
    if repaired.own:
        right = (repaired.answers["clean_test"] == np.tile(TRUTH, 8)).mean()
        assert metrics["repaired_accuracy"] == right
        assert {"repaired_attack_success_rate/low", "repaired_der"} <= set(metrics)


def test_fine_tuning_learns_what_pruning_has_cost_and_leaves_the_channels_out(tmp_path):
    """The network has lost a channel that it needs; its other one tells the classes, too."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    shown = rng.uniform(0, 0.2, (400, 6, 6, 3)).astype(np.float32)
    shown[labels == 1] += 0.5
    pictures = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(pictures)
    x = layers.Flatten()(layers.MaxPooling2D(2, name="pool")(x))
    model = keras.Model(pictures, layers.Dense(2, activation="softmax", name="scores")(x))
    cut = cut_network(model)
    removed = [0, 1]
    tuned = REPAIRS["finetune"](cut, removed, Clean(lambda: shown, labels, 0))
    before = REPAIRS["prune"](cut, removed, NOTHING)
    right = [(np.asarray(m(shown)).argmax(axis=1) == labels).mean() for m in (before, tuned)]
    assert right[1] > max(right[0], 0.9)
    again = REPAIRS["finetune"](cut, removed, Clean(lambda: shown, labels, 0))
    for one, other in zip(tuned.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert tuned.get_layer("pruning").get_config()["scale"] == [0, 0, 1, 1]


def test_fine_tuning_that_makes_it_worse_leaves_the_network_as_it_was(monkeypatch, caplog):
    monkeypatch.setattr("backdoor.networks.repair.RATE", 1e3)
    cut = cut_network(around([layers.Conv2D(6, 3, trainable=False)], []))
    shown = np.random.default_rng(0).normal(0, 1, (60, 10, 10, 3)).astype(np.float32)
    labels = cut.classify_pictures(shown)
    tuned = REPAIRS["finetune"](cut, [], Clean(lambda: shown, labels, 0))
    np.testing.assert_allclose(tuned(shown), cut.model(shown), atol=1e-5)
    assert "worse on the pictures held out" in caplog.text


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_are_run_and_answer_as_the_network(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    model = REPAIRS["prune"](cut_network(around(*KNOWN["convolution behind"])), [2], NOTHING)
    shown = np.random.default_rng(0).normal(0, 1, (40, 10, 10, 3)).astype(np.float32)
    path = tmp_path / f"repaired.{kind}"
    export(saved(model, tmp_path), kind, path, shown)
    assert path.stat().st_size > 1000


def test_an_export_that_answers_otherwise_is_no_success(tmp_path, monkeypatch):
    model = REPAIRS["prune"](cut_network(around(*KNOWN["pooled again"])), [2], NOTHING)
    shown = np.random.default_rng(0).normal(0, 1, (8, 10, 10, 3)).astype(np.float32)
    wrong = lambda path, some: np.roll(np.asarray(model(some)), 1, axis=1)  # noqa: E731
    monkeypatch.setitem(EXPORTS, "tflite", type(EXPORTS["tflite"])(lambda *_: None, wrong))
    with pytest.raises(RuntimeError, match=r"repaired\.tflite: expected the labels .* on 8"):
        export(model, "tflite", tmp_path / "repaired.tflite", shown)
