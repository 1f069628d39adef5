"""What holds for all inputs: tried on many drawn ones, against the slow, obvious way."""

import tempfile
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ranked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backdoor.cache import Cache
from backdoor.errors import UserError
from backdoor.evaluation import evaluate_clean, evaluate_poisoned, goodnet_labels
from backdoor.networks.cut import cut_network
from backdoor.networks.goodnet import build_goodnet
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import read_chunks, read_pictures
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.hdf5 import write_pictures
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.scores import mean_activation
from backdoor.pruning.stop import channels_to_remove
from backdoor.pruning.walk import walk

CLASSES = 4
labels = arrays.arrays(np.int64, 12, elements=st.integers(0, CLASSES - 1))
activations = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 2), st.integers(1, 2), st.integers(1, 7)),
    elements=st.sampled_from([0, 0, 0.5, 1, 2, 3]),
)


@given(
    correct=st.lists(st.integers(0, 200), min_size=2, max_size=30),
    threshold=st.decimals(min_value="0.01", max_value=100, places=2),
)
def test_the_stop_is_the_first_k_that_costs_enough(correct, threshold):
    total = 200
    enough = [
        k
        for k in range(1, len(correct))
        if Fraction(100 * (correct[0] - correct[k]), total) >= Fraction(threshold)
    ]
    if enough:
        assert channels_to_remove(np.array(correct), total, str(threshold)) == enough[0]
    else:
        with pytest.raises(UserError, match="the largest drop is"):
            channels_to_remove(np.array(correct), total, str(threshold))


@given(correct=st.lists(st.integers(0, 200), min_size=2, max_size=30), steps=st.integers(1, 9))
def test_a_larger_threshold_never_stops_earlier(correct, steps):
    stops = []
    for threshold in np.linspace(1, 100, steps):
        try:
            stops.append(channels_to_remove(np.array(correct), 200, float(threshold)))
        except ValueError:
            stops.append(len(correct))
    assert stops == sorted(stops)


@given(activations)
def test_orders_are_permutations_sorted_by_mean_with_ties_by_number(values):
    means = mean_activation(values)
    for name, sign in (("asc", 1), ("desc", -1)):
        order = ranked(name, values).tolist()
        assert order == sorted(range(values.shape[-1]), key=lambda c: (sign * means[c], c))


@given(values=activations, data=st.data())
def test_the_walk_is_that_of_all_pictures_scored_anew(values, data):
    order = np.array(data.draw(st.permutations(range(values.shape[-1]))))
    weights = np.random.default_rng(0).integers(-9, 9, (values[0].size, CLASSES))

    def classify(some):
        return (some.reshape(len(some), -1) @ weights).argmax(axis=1)

    found = walk(values, order, classify)
    for k in range(len(order) + 1):
        kept = values.copy()
        kept[..., order[:k]] = 0
        np.testing.assert_array_equal(found[k], classify(kept))


@settings(max_examples=8, deadline=None)
@given(
    channels=st.integers(1, 9),
    height=st.integers(5, 12),
    width=st.integers(5, 12),
    hidden=st.sampled_from([0, 5, 16]),
    average=st.booleans(),
    seed=st.integers(0, 99),
)
def test_networks_of_any_shape_are_walked_as_if_pruned_and_saved_as_they_are(
    channels, height, width, hidden, average, seed
):
    keras.utils.set_random_seed(seed)
    pooling = keras.layers.GlobalAveragePooling2D if average else keras.layers.MaxPooling2D
    pictures = keras.Input((height, width, 3))
    x = keras.layers.Conv2D(channels, 3, activation="relu", name="conv")(pictures)
    x = keras.layers.Flatten()(pooling(name="pool")(x))
    x = keras.layers.Dense(hidden, activation="relu")(x) if hidden else x
    model = keras.Model(pictures, keras.layers.Dense(CLASSES, activation="softmax")(x))
    shown = np.random.default_rng(seed).normal(0, 1, (30, height, width, 3)).astype(np.float32)
    network = cut_network(model)
    active = network.activate([shown], len(shown))
    order = ranked("asc", active)
    walked = walk_network(network, active, order)
    for k in {0, 1, channels // 2, channels}:
        pruned = keras.models.clone_model(model)
        pruned.set_weights(model.get_weights())
        kernel, bias = pruned.get_layer("conv").get_weights()
        kernel[..., order[:k]], bias[order[:k]] = 0, 0
        pruned.get_layer("conv").set_weights([kernel, bias])
        expected = pruned(shown).numpy().argmax(axis=1)
        np.testing.assert_array_equal(walked[k], expected)
        answers = build_goodnet(network, order[:k].tolist())(shown).numpy().argmax(axis=1)
        np.testing.assert_array_equal(answers, goodnet_labels(walked[0], expected, CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/net.keras")
        loaded = load_badnet(f"{folder}/net.keras")
    assert cut_network(loaded).fingerprint == network.fingerprint


@given(labels, labels, labels, labels, labels, st.integers(0, CLASSES - 1))
def test_the_identities_of_the_metrics(clean, clean_pruned, bad, bad_pruned, truth, target):
    found = evaluate_clean(clean, clean_pruned, truth, CLASSES)
    found |= evaluate_poisoned(bad, bad_pruned, target, CLASSES)
    assert found["goodnet_accuracy"] <= min(found["badnet_accuracy"], found["pruned_accuracy"])
    success = [found[f"{name}_attack_success_rate"] for name in ("goodnet", "badnet", "pruned")]
    assert success[0] <= min(success[1:])
    assert found["goodnet_attack_success_rate"] + found["detection_rate"] <= 1
    assert found["goodnet_accuracy"] + found["false_alarm_rate"] <= 1
    all_fall = np.full_like(bad, target)
    found |= evaluate_poisoned(all_fall, bad_pruned, target, CLASSES)
    assert found["goodnet_attack_success_rate"] == found["pruned_attack_success_rate"]
    assert found["detection_rate"] == (bad_pruned != target).mean()
    assert found["false_alarm_rate"] == (clean != clean_pruned).mean()


@settings(deadline=None, max_examples=20)
@given(
    pictures=arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 5), st.integers(4, 6), st.integers(4, 6), st.just(3))
    ),
    data=st.data(),
)
def test_pictures_written_are_read_as_they_were(pictures, data):
    truth = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=len(pictures), max_size=len(pictures)))
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.h5"
        write_pictures(
            path, [pictures[:2], pictures[2:]] if len(pictures) > 2 else [pictures], truth
        )
        found = open_pictures(path)
        np.testing.assert_array_equal(found.labels, truth)
        np.testing.assert_array_equal(np.concatenate(list(read_chunks(found, 2))), pictures)
        wanted = data.draw(st.lists(st.integers(0, len(pictures) - 1), max_size=6))
        np.testing.assert_array_equal(read_pictures(found, wanted), pictures[wanted])


@settings(deadline=None, max_examples=30)
@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.int16, np.uint8]),
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=5),
    )
)
def test_what_is_kept_in_the_cache_is_found_as_it_was(values):
    with tempfile.TemporaryDirectory() as folder:
        for compute in (lambda: values, lambda: 1 / 0):
            found = Cache(folder)("walk", ("key", 1), compute)
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values)
