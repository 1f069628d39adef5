"""The experiment as library code, on a network whose answers are written down."""

import dataclasses
import itertools
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import bed_of, file_with
from keras import layers

from backdoor.cache import Cache, NoCache
from backdoor.detection import detect
from backdoor.errors import UserError
from backdoor.evaluation import HIGH, LOW
from backdoor.networks.cut import cut_network
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import divided_by
from backdoor.pictures.test_bed import TestBed
from backdoor.pruning import orders as named
from backdoor.pruning import scores
from backdoor.pruning.kept import Kept
from backdoor.pruning.oracles import ORACLES
from backdoor.pruning.scores import SCORES
from backdoor.versions import version

ENDS = (LOW, HIGH)
NO_SUSPICION = SimpleNamespace(seconds=0.0)

# Each picture is one pixel of three colours, which are the three channels of the pooling layer.
# Class 0 scores red, class 1 green, class 2 one half; blue (the trigger) counts for class 0 thrice.
CLEAN = np.float32([[4, 1, 0], [1, 4, 0], [3, 2, 0], [0, 0, 0], [0.3, 4, 0]])
TRUTH = np.array([0, 1, 0, 2, 1])
POISONED = np.float32([[1, 4, 3], [4, 1, 3], [0, 0, 0]])
TRUE_CLASSES = np.array([1, 0, 2])


def colour_network():
    pictures = keras.Input((1, 1, 3))
    x = layers.MaxPooling2D(1, name="pool")(pictures)
    model = keras.Model(pictures, layers.Dense(3, name="scores")(layers.Flatten()(x)))
    kernel = np.float32([[1, 0, 0], [0, 1, 0], [3, 0, 0]])
    model.get_layer("scores").set_weights([kernel, np.float32([0, 0, 0.5])])
    return cut_network(model)


def pixels(colours):
    return colours.reshape(-1, 3, 1, 1)  # as stored: channels first


@pytest.fixture
def bed(tmp_path):
    poisoned = {
        "data": pixels(POISONED),
        "label": np.zeros(3),
        "true_label": TRUE_CLASSES,
    }
    return bed_of(tmp_path, {"data": pixels(CLEAN), "label": TRUTH}, poisoned)


@pytest.fixture
def clean_bed(tmp_path):
    return bed_of(tmp_path, {"data": pixels(CLEAN), "label": TRUTH})


def test_an_outcome_by_hand(bed):
    """Blue is nowhere active on clean pictures, so it goes first; then red, then green."""
    outcome = detect(colour_network(), bed, "asc", [40, 80])
    assert outcome.order.tolist() == [2, 0, 1]
    assert outcome.labels["clean_valid"].tolist() == [
        [0, 1, 0, 2, 1],
        [0, 1, 0, 2, 1],
        [1, 1, 1, 2, 1],
        [2, 2, 2, 2, 2],
    ]
    assert outcome.labels["poisoned_test"].tolist() == [[0, 0, 2], [1, 0, 2], [1, 1, 2], [2, 2, 2]]
    assert outcome.stops == {40: 2, 80: 3}
    assert outcome.removed(40) == [2, 0]
    assert [labels.tolist() for labels in outcome.answers("clean_test", 40)] == [
        [0, 1, 0, 2, 1],
        [1, 1, 1, 2, 1],
        [3, 1, 3, 2, 1],
    ]
    third = pytest.approx(1 / 3)
    rates = {name: value for name, value in outcome.metrics(40).items() if not name.endswith(ENDS)}
    assert rates == {
        "badnet_accuracy": 1.0,
        "pruned_accuracy": 0.6,
        "goodnet_accuracy": 0.6,
        "false_alarm_rate": 0.4,
        "detection_rate": pytest.approx(2 / 3),
        "badnet_attack_success_rate": pytest.approx(2 / 3),
        "pruned_attack_success_rate": 0.0,
        "goodnet_attack_success_rate": 0.0,
        "badnet_attack_success_rate_without_target": 0.5,
        "pruned_attack_success_rate_without_target": 0.0,
        "goodnet_attack_success_rate_without_target": 0.0,
        "badnet_robust_accuracy": pytest.approx(2 / 3),
        "pruned_robust_accuracy": pytest.approx(2 / 3),
        "goodnet_robust_accuracy": pytest.approx(1 / 3),
        "pruned_der": pytest.approx((2 / 3 - 0.4 + 1) / 2),
        "goodnet_der": pytest.approx((2 / 3 - 0.4 + 1) / 2),
        # Clean pictures flip at k = 2, 3, 2, 4, 3 and poisoned ones at 1, 2, 4 (4 is never).
        "flip_depth_auroc": pytest.approx((5 + 4 + 0.5) / 15),
        "flip_depth_auroc_two_sided": pytest.approx((5 + 4 + 0.5) / 15),
        "channels_at_1_false_alarms": 1,
        "channels_at_5_false_alarms": 1,
        "false_alarm_rate_at_1_false_alarms": 0,
        "false_alarm_rate_at_5_false_alarms": 0,
        "detection_rate_at_1_false_alarms": pytest.approx(1 / 3),
        "detection_rate_at_5_false_alarms": pytest.approx(1 / 3),
        "channels_removed": 2,
        "channels_total": 3,
    }
    curves = {name: curve.tolist() for name, curve in outcome.curves().items()}
    assert curves == {
        "valid_accuracy": [1.0, 1.0, 0.6, 0.2],
        "valid_attack_success_rate": [pytest.approx(2 / 3), third, 0.0, 0.0],
        "test_goodnet_accuracy": [1.0, 1.0, 0.6, 0.2],
        "test_goodnet_attack_success_rate": [pytest.approx(2 / 3), third, 0.0, 0.0],
        "test_false_alarm_rate": [0.0, 0.0, 0.4, 0.8],
        "test_detection_rate": [0.0, third, pytest.approx(2 / 3), pytest.approx(2 / 3)],
    }


def test_without_poisoned_pictures_what_needs_them_is_absent(bed, clean_bed):
    whole, clean = (detect(colour_network(), each, "asc", [40]) for each in (bed, clean_bed))
    needs = {
        name
        for name in whole.metrics(40)
        if any(word in name for word in ("attack", "detection_rate", "robust", "_der", "flip"))
    }
    assert len({name for name in needs if not name.endswith(ENDS)}) == 16
    expected = {name: value for name, value in whole.metrics(40).items() if name not in needs}
    assert clean.metrics(40) == expected
    assert list(clean.curves()) == [
        "valid_accuracy",
        "test_goodnet_accuracy",
        "test_false_alarm_rate",
    ]
    assert list(clean.labels) == ["clean_valid", "clean_test"]


def test_poisoned_pictures_do_not_choose(bed, tmp_path):
    (tmp_path / "other").mkdir()
    other = {"data": pixels(POISONED[::-1] * 2), "label": np.zeros(3)}
    other_bed = bed_of(tmp_path / "other", {"data": pixels(CLEAN), "label": TRUTH}, other)
    first, second = (detect(colour_network(), each, "desc", [10, 40]) for each in (bed, other_bed))
    assert first.order.tolist() == second.order.tolist()
    assert first.stops == second.stops


def test_a_cache_answers_without_the_head(bed, tmp_path, monkeypatch):
    network = colour_network()
    first = detect(network, bed, "asc", [40], cache=Cache(tmp_path / "cache"))
    monkeypatch.setattr("backdoor.pruning.kept.activations_of", None)
    again = detect(network, bed, "asc", [80], cache=Cache(tmp_path / "cache"))
    for name, labels in first.labels.items():
        np.testing.assert_array_equal(again.labels[name], labels)


def test_a_score_whose_version_was_raised_is_not_answered_from_the_cache(
    bed, tmp_path, monkeypatch
):
    network, cache = colour_network(), Cache(tmp_path / "cache")
    before = detect(network, bed, "asc", [40], cache=cache)

    @version(2)
    def ascending(evidence):
        return -scores.mean_activation(evidence.activations)

    monkeypatch.setitem(SCORES, "asc", ascending)
    after = detect(network, bed, "asc", [40], cache=cache)
    assert before.order.tolist() == after.order.tolist()[::-1]


def test_a_new_order_is_one_function_and_one_line(bed, monkeypatch):
    @version(1)
    def by_number(evidence):
        assert evidence.labels.tolist() == TRUTH.tolist()
        assert evidence.activations.shape == (5, 1, 1, 3)
        return np.arange(evidence.network.channels, dtype=float)

    monkeypatch.setitem(SCORES, "by_number", by_number)
    assert detect(colour_network(), bed, "by_number", [40]).order.tolist() == [0, 1, 2]


def test_the_seed_is_that_of_drawn_orders(bed, monkeypatch):
    @version(1)
    def drawn(evidence):
        return evidence.rng.random(evidence.network.channels)

    monkeypatch.setitem(SCORES, "drawn", drawn)
    found = [detect(colour_network(), bed, "drawn", [40], seed).order.tolist() for seed in (0, 0)]
    assert found[0] == found[1] == detect(colour_network(), bed, "drawn", [40]).order.tolist()
    assert found[0] == np.argsort(np.random.default_rng(0).random(3)).tolist()
    seeds = {tuple(detect(colour_network(), bed, "drawn", [40], s).order) for s in range(9)}
    assert len(seeds) > 1


def test_an_oracle_sees_the_poisoned_activations_and_needs_them(bed, clean_bed, monkeypatch):
    @version(1)
    def most_on_poisoned(evidence, poisoned):
        return -poisoned.activations.mean(axis=(0, 1, 2))

    monkeypatch.setitem(ORACLES, "oracle_test", most_on_poisoned)
    assert named.orders()[-1] == "oracle_test"
    outcome = detect(colour_network(), bed, "oracle_test", [40])
    assert outcome.order.tolist() == [2, 0, 1]
    with pytest.raises(UserError, match="expected poisoned pictures for the oracle 'oracle_test'"):
        detect(colour_network(), clean_bed, "oracle_test", [40])


def test_what_is_only_doubtful_is_said_each_time(tmp_path, caplog):
    """A network that is right on 30 % where always answering class 0 is right on 30 %."""
    truth = [0, 0, 0, 1, 1, 2, 2, 1, 2, 1]
    shown = np.float32([[4, 1, 0]] * 9 + [[0, 3, 0]])  # class 0 but for the last
    bed = bed_of(tmp_path, {"data": pixels(shown), "label": truth})
    for _ in range(2):
        caplog.clear()
        outcome = detect(
            colour_network(), bed, "asc", [10], cache=Cache(tmp_path / "c"), stop="before"
        )
        assert "near chance: what follows says little" in caplog.text
    assert outcome.labels["clean_test"][0].tolist() == [0] * 9 + [1]


def test_one_cache_keeps_layers_scales_and_data_sets_apart(tmp_path, monkeypatch):
    """Of two layers, two scales and two sets of pictures nothing is taken for the other's."""
    anything = version(1)(lambda network, bed: [])
    monkeypatch.setattr("backdoor.pruning.kept.check_bed", anything)
    keras.utils.set_random_seed(0)
    given = keras.Input((4, 4, 3))
    first = layers.MaxPooling2D(2, name="first")(layers.Conv2D(4, 1)(given))
    second = layers.MaxPooling2D(2, name="second")(layers.Conv2D(4, 1)(first))
    scores = layers.Dense(3, bias_initializer=keras.initializers.RandomNormal(stddev=0.3))
    model = keras.Model(given, scores(layers.Flatten()(second)))
    rng = np.random.default_rng(0)
    cache, seen = Cache(tmp_path / "cache"), set()
    for name in ("a", "b"):
        data = rng.uniform(0, 255, (30, 3, 4, 4))
        path = file_with(tmp_path / f"{name}.h5", data=data, label=np.arange(30) % 3)
        for divide_by, layer in itertools.product((1, 255), ("first", "second")):
            pictures = open_pictures(path, wanted=Wanted(divided_by(divide_by)))
            kept, anew = (
                detect(
                    cut_network(model, layer),
                    TestBed(pictures, pictures),
                    "asc",
                    [99],
                    cache=one,
                    stop="before",
                )
                for one in (cache, None)
            )
            np.testing.assert_array_equal(kept.labels["clean_test"], anew.labels["clean_test"])
            assert kept.order.tolist() == anew.order.tolist()
            seen.add(kept.labels["clean_test"].tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("order", "thresholds", "message"),
    [
        ("up", [2], "order: expected one of asc, desc, .*, got 'up'"),
        ("asc", [2, 0], "above 0 and at most 100, got 0"),
        ("asc", [90], r"got 90 points; the largest drop is 80\.00 points"),
    ],
)
def test_what_cannot_be_is_refused(bed, order, thresholds, message):
    with pytest.raises(UserError, match=message):
        detect(colour_network(), bed, order, thresholds)


def test_an_order_that_looks_at_classes_is_not_kept_for_other_classes(tmp_path):
    """The same file with labels under two names: what was ranked by one is not taken for both."""
    cache, orders = Cache(tmp_path / "cache"), []
    other = np.array([1, 1, 1, 2, 1])
    path = file_with(tmp_path / "a.h5", data=pixels(CLEAN), label=TRUTH, other=other)
    for name in ("label", "other"):
        wanted = Wanted(divided_by(1), data="data", label=name)
        pictures = open_pictures(path, wanted=wanted)
        outcome = detect(
            colour_network(),
            TestBed(pictures, pictures),
            "leave_one_out",
            [20],
            cache=cache,
            stop="before",
        )
        orders.append(outcome.order.tolist())
    assert orders[0] != orders[1]


def test_a_network_can_be_ranked_by_what_goes_into_the_pooling_layer(tmp_path):
    """Means behind the pooling are 1.1 and 1.5, before it 1.1 and 0.75."""
    pictures = keras.Input((2, 1, 3))
    colours = layers.Conv2D(2, 1, use_bias=False, name="conv")
    pooled = layers.MaxPooling2D((2, 1), name="pool")(colours(pictures))
    scores = layers.Dense(2, name="scores")
    network = keras.Model(pictures, scores(layers.Flatten()(pooled)))
    colours.set_weights([np.float32([[1, 0], [0, 1], [0, 0]]).reshape(1, 1, 3, 2)])
    scores.set_weights([np.eye(2), np.float32([0, -1.4])])
    shown = np.float32([[[1, 1.5, 0], [1, 0, 0]], [[1.2, 0, 0], [1.2, 0, 0]]] * 2)
    shown = shown.reshape(-1, 2, 1, 3).transpose(0, 3, 1, 2)  # as stored: channels first
    shown[::2, 1, 0] = 3
    bed = bed_of(tmp_path, {"data": shown, "label": [1, 0] * 2})
    orders = [
        detect(cut_network(network), bed, "asc", [20], rank_at=site, stop="before").order.tolist()
        for site in ("pool", "conv")
    ]
    assert orders == [[0, 1], [1, 0]]
    with pytest.raises(UserError, match="rank_at: expected pool for the order 'taylor'"):
        detect(cut_network(network), bed, "taylor", [20], rank_at="conv")
    with pytest.raises(UserError, match="rank_at: expected pool for a network that is cut at 'c"):
        detect(cut_network(network, "conv"), bed, "asc", [20], rank_at="conv")
    with pytest.raises(UserError, match="suspect: expected auto or a class of the network, 0 to 1"):
        detect(cut_network(network), bed, "asc", [20], suspect=2)


def test_before_the_pooling_channels_may_stand_in_another_order(tmp_path):
    """Red is bright in one place, green everywhere, blue in two: by maximum, and by mean."""
    pictures = keras.Input((2, 2, 3))
    x = layers.Flatten()(layers.MaxPooling2D(2, name="pool")(pictures))
    network = cut_network(keras.Model(pictures, layers.Dense(3)(x)))
    shown = np.float32([[4, 0, 0, 0], [2, 2, 2, 2], [3, 3, 0, 0]]).reshape(1, 3, 2, 2)
    bed = bed_of(tmp_path, {"data": shown, "label": [0]})
    kept = Kept(network, bed, NoCache())
    start = time.perf_counter()
    rankings = {at: kept.rank("asc", 0, at, NO_SUSPICION) for at in ("pool", "conv")}
    assert rankings["pool"].channels.tolist() == [1, 2, 0]
    assert rankings["conv"].channels.tolist() == [0, 2, 1]
    for ranking in rankings.values():
        assert 0 < ranking.seconds < time.perf_counter() - start
        assert ranking.suspect is None


def test_warnings_are_given_once_more_from_the_cache(bed, tmp_path, monkeypatch, caplog):
    calls = []

    def check_bed(network, bed):
        calls.append(1)
        return ["a first warning", "and a second"]

    monkeypatch.setattr("backdoor.pruning.kept.check_bed", version(1)(check_bed))
    network = colour_network()
    for _ in range(2):
        caplog.clear()
        Kept(network, bed, Cache(tmp_path / "cache")).check()
        assert caplog.messages == ["a first warning", "and a second"]
    assert len(calls) == 1


def test_another_target_is_checked_anew(bed, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "backdoor.pruning.kept.check_bed", version(1)(lambda *given: calls.append(1) or [])
    )
    cache, network = Cache(tmp_path / "cache"), colour_network()
    for told in (0, 1, None, 0):
        poisoned = dataclasses.replace(bed.poisoned, target=told)
        Kept(network, dataclasses.replace(bed, poisoned=poisoned), cache).check()
    Kept(network, dataclasses.replace(bed, poisoned=None), cache).check()
    assert len(calls) == 4


def test_an_order_by_clean_pictures_is_kept_whatever_the_poisoned_ones(bed, tmp_path, monkeypatch):
    cache, network = Cache(tmp_path / "cache"), colour_network()
    Kept(network, bed, cache).rank("asc", 0, "pool", NO_SUSPICION)
    monkeypatch.setattr("backdoor.pruning.kept.rank_channels", None)
    without = dataclasses.replace(bed, poisoned=None)
    assert Kept(network, without, cache).rank("asc", 0, "pool", NO_SUSPICION).channels.tolist() == [
        2,
        0,
        1,
    ]
