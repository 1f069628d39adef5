import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    conv_pool_dense,
    file_with,
    ranked,
    really_pruned,
    two_readers_of_the_pool,
    with_random_weights,
)

from backdoor.evaluation import goodnet_labels
from backdoor.networks.cut import compute_activations, cut_network
from backdoor.pictures.readers import open_pictures
from backdoor.pruning import any_walk, device_walk
from backdoor.pruning.any_walk import linear_tail, walk_network
from backdoor.pruning.device_walk import linear_walk_on_device, walk_on_device
from backdoor.pruning.fast_walk import BATCH, linear_walk
from backdoor.pruning.walk import walk


def plain(cut, activations, order):
    return walk(activations, order, cut.classify_activations)


def linear(cut, activations, order):
    assert linear_tail(cut.tail) is not None
    return linear_walk(activations, order, linear_tail(cut.tail), threads=2)


def on_device(cut, activations, order):
    return walk_on_device(cut.tail, activations, order)


def linear_on_device(cut, activations, order):
    return linear_walk_on_device(linear_tail(cut.tail), activations, order)


@pytest.mark.parametrize("order", ["asc", "desc", "random"])
@pytest.mark.parametrize("way", [plain, linear, on_device, linear_on_device, walk_network])
def test_the_walk_is_that_of_networks_with_zeroed_convolutions(
    network, pictures, order, way, tmp_path
):
    path = file_with(tmp_path / "a.h5", data=pictures, label=np.zeros(len(pictures)))
    cut = cut_network(network)
    activations = compute_activations(cut, open_pictures(path))
    removed = ranked(order, activations)
    labels = way(cut, activations, removed)
    for k in range(len(removed) + 1):
        pruned = really_pruned(network, removed[:k].tolist())
        np.testing.assert_array_equal(labels[k], pruned.predict(pictures, verbose=0).argmax(axis=1))


def test_the_fastest_way_is_taken(network, pictures, monkeypatch):
    cut, taken = cut_network(network), []
    activations, order = np.array(cut.head(pictures)), np.arange(6)
    for way in ("linear_walk", "_plain_walk", "walk_on_device", "linear_walk_on_device"):
        monkeypatch.setattr(any_walk, way, lambda *given, way=way: taken.append(way))
    walk_network(cut, activations, order)
    monkeypatch.setattr(any_walk, "linear_tail", lambda tail: None)
    walk_network(cut, activations, order)
    monkeypatch.undo()
    monkeypatch.setattr(any_walk, "_plain_walk", lambda *given: taken.append("infinite"))
    for value in (np.inf, -np.inf, np.nan):
        walk_network(cut, np.where(activations > 1, value, activations), order)
    for way in ("walk_on_device", "linear_walk_on_device"):
        monkeypatch.setattr(any_walk, way, lambda *given, way=way: taken.append(way))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    walk_network(cut, activations, order)
    walk_network(cut, np.where(activations > 1, np.inf, activations), order)
    monkeypatch.setattr(any_walk, "linear_tail", lambda tail: None)
    walk_network(cut, activations, order)
    on_device = ["linear_walk_on_device", "walk_on_device", "walk_on_device"]
    assert taken == ["linear_walk", "_plain_walk", *["infinite"] * 3, *on_device]


def test_infinite_activations_are_walked_plainly(network, pictures):
    cut = cut_network(network)
    activations, order = np.array(cut.head(pictures)), np.arange(6)
    activations[::7, ..., 3] = np.inf
    np.testing.assert_array_equal(
        walk_network(cut, activations, order), plain(cut, activations, order)
    )


def test_a_batch_of_one_picture_and_several_batches_a_thread(pictures):
    cut = cut_network(with_random_weights(two_readers_of_the_pool()))
    several = math.ceil(2 * BATCH / len(pictures)) + 1
    activations = np.asarray(cut.head(np.tile(pictures, (several, 1, 1, 1))))[:-1]
    order = ranked("asc", activations)
    expected = plain(cut, activations, order)
    np.testing.assert_array_equal(linear(cut, activations, order), expected)
    np.testing.assert_array_equal(linear(cut, activations[:1], order), expected[:, :1])


def test_many_pictures_are_walked_part_by_part(pictures, monkeypatch, caplog):
    cut = cut_network(conv_pool_dense())
    activations = cut.activate([pictures], len(pictures))
    order = np.arange(cut.channels)[::-1]
    whole = plain(cut, activations, order)
    monkeypatch.setattr("backdoor.pruning.any_walk.linear_tail", lambda tail: None)
    monkeypatch.setattr("backdoor.pruning.walk.PART", 3 * activations[0].nbytes + 1)
    with caplog.at_level("INFO"):
        np.testing.assert_array_equal(walk_network(cut, activations, order, "Walk"), whole)
    count = -(-len(pictures) // 3)
    assert caplog.messages[0] == f"Walk, part 1 of {count} ..."
    assert len(caplog.messages) == 2 * count


def test_labels_are_of_the_smallest_type_that_holds_every_class_and_backdoored(pictures):
    for classes, kind in ((3, np.uint8), (255, np.uint8), (256, np.uint16), (1283, np.uint16)):
        cut = cut_network(conv_pool_dense(classes=classes))
        activations = cut.activate([pictures], len(pictures))
        order = np.arange(cut.channels)
        for way in (plain, linear, on_device, linear_on_device):
            assert way(cut, activations, order).dtype == kind
        assert cut.classify_pictures(pictures).dtype == kind
        badnet, pruned = np.array([0, 1], kind), np.array([0, 2], kind)
        assert goodnet_labels(badnet, pruned, classes).tolist() == [0, classes]


def test_on_a_gpu_many_pictures_are_walked_part_by_part(pictures, monkeypatch):
    cut = cut_network(conv_pool_dense())
    activations = cut.activate([pictures], len(pictures))
    order = np.arange(cut.channels)[::-1]
    whole = plain(cut, activations, order)
    for rows in (3, len(pictures), 4 * len(pictures), 2**20):  # the last: all steps together
        monkeypatch.setattr(device_walk, "ROWS", rows)
        for way in (on_device, linear_on_device):
            np.testing.assert_array_equal(way(cut, activations, order), whole)


def test_on_a_gpu_a_network_is_walked_set_by_set(pictures):
    """Its layers have the names that Keras gives new ones."""
    keras.utils.clear_session()
    shape = pictures.shape[1:]
    given = keras.Input(shape)
    pool = keras.layers.MaxPooling2D(name="pool")(keras.layers.Conv2D(6, 3, name="conv")(given))
    sides = [keras.layers.Conv2D(4, 2, activation="relu")(pool) for _ in range(2)]
    both = keras.layers.Add()([keras.layers.Flatten()(side) for side in sides])
    for name in ("activation", "activation_1", "activation_3"):
        both = keras.layers.Activation("tanh", name=name)(keras.layers.Dense(8)(both))
    cut = cut_network(with_random_weights(keras.Model(given, keras.layers.Dense(3)(both))), "pool")
    activations = cut.activate([pictures], len(pictures))
    order = np.arange(cut.channels)
    for _ in range(2):
        np.testing.assert_array_equal(
            linear_on_device(cut, activations, order), plain(cut, activations, order)
        )


def test_on_a_gpu_nested_networks_may_have_layers_of_one_name_and_drop_nothing(pictures):
    def block(units, **kind):
        layers = [keras.Input((units,)), keras.layers.Dense(8, name="fc", **kind)]
        return keras.Sequential(layers)

    given = keras.Input(pictures.shape[1:])
    pool = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(6, 3, name="conv")(given))
    values = keras.layers.Flatten()(pool)
    for kind in ({"activation": "relu"}, {"activation": "relu"}, {"activation": "softmax"}):
        values = block(values.shape[-1], **kind)(keras.layers.Dropout(0.9)(values))
    cut = cut_network(with_random_weights(keras.Model(given, values)))
    activations = cut.activate([pictures], len(pictures))
    order = np.arange(cut.channels)
    np.testing.assert_array_equal(
        linear_on_device(cut, activations, order), plain(cut, activations, order)
    )
