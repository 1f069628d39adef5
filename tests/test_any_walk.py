import math

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    file_with,
    ranked,
    really_pruned,
    two_readers_of_the_pool,
    with_random_weights,
)

from backdoor.networks.cut import compute_activations, cut_network
from backdoor.pictures.readers import open_pictures
from backdoor.pruning import any_walk
from backdoor.pruning.any_walk import linear_tail, walk_network
from backdoor.pruning.device_walk import walk_on_device
from backdoor.pruning.fast_walk import BATCH, linear_walk
from backdoor.pruning.walk import walk


def plain(cut, activations, order):
    return walk(activations, order, cut.classify_activations)


def linear(cut, activations, order):
    assert linear_tail(cut.tail) is not None
    return linear_walk(activations, order, linear_tail(cut.tail), threads=2)


def on_device(cut, activations, order):
    return walk_on_device(cut.tail, activations, order)


@pytest.mark.parametrize("order", ["asc", "desc", "random"])
@pytest.mark.parametrize("way", [plain, linear, on_device, walk_network])
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
    for way in ("linear_walk", "walk", "walk_on_device"):
        monkeypatch.setattr(any_walk, way, lambda *given, way=way: taken.append(way))
    walk_network(cut, activations, order)
    monkeypatch.setattr(any_walk, "linear_tail", lambda tail: None)
    walk_network(cut, activations, order)
    monkeypatch.undo()
    monkeypatch.setattr(any_walk, "walk", lambda *given: taken.append("infinite"))
    for value in (np.inf, -np.inf, np.nan):
        walk_network(cut, np.where(activations > 1, value, activations), order)
    monkeypatch.setattr(any_walk, "walk_on_device", lambda *given: taken.append("device"))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    walk_network(cut, activations, order)
    assert taken == ["linear_walk", "walk", *["infinite"] * 3, "device"]


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
