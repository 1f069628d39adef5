"""How easily classes are reached, against what can be worked out for a linear network."""

import keras
import numpy as np
import pytest
from conftest import bed_of

from backdoor.attacks import reach, statistics
from backdoor.attacks.reach import (
    SHRINK,
    Sample,
    largest_margins,
    margins_behind_the_cut,
    quiet_places,
    sample_of,
    smallest_perturbations,
    towards,
)
from backdoor.networks.cut import cut_network

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def network():
    """A convolution that passes pictures on, pooling over single places, two classes."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(1, 1, name="conv"),
            keras.layers.MaxPooling2D(1, name="pool"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax", name="scores"),
        ]
    )
    model.get_layer("conv").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    weights = np.random.default_rng(0).normal(size=(16, 2))
    model.get_layer("scores").set_weights([weights, np.array([0.0, 0.3])])
    return cut_network(model)


@pytest.fixture(scope="module")
def sample(network):
    rng = np.random.default_rng(1)
    pictures = rng.uniform(-0.5, 0.5, (60, *SHAPE)).astype(np.float32)
    pictures[0, 0, 0], pictures[0, 1, 0] = -1, 1  # the range, which the others are far within
    return Sample(network, pictures, network.classify_pictures(pictures))


def differences(network):
    """The weights by which the logit of class 1 is above that of class 0, and its bias."""
    weights, bias = network.model.get_layer("scores").get_weights()
    return weights[:, 1] - weights[:, 0], bias[1] - bias[0]


def logit_margins(sample, label):
    slope, bias = differences(sample.network)
    above = sample.pictures.reshape(len(sample.labels), -1) @ slope + bias
    return above if label else -above


def test_the_largest_margin_is_that_of_the_corner_of_the_range(sample):
    slope, bias = differences(sample.network)
    expected = np.array([np.abs(slope).sum() - bias, np.abs(slope).sum() + bias])
    found = largest_margins(sample, np.array([0, 1]), seed=0) * sample.sureness
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("free", [[16, 16], [5, 9]])
def test_behind_the_cut_the_best_addition_lies_along_the_weights(sample, free):
    """Of the places at which it may be other than 0, the first 5 for one class, 9 for the other."""
    slope, _ = differences(sample.network)
    length = np.linalg.norm(sample.pictures.reshape(60, -1), axis=1).mean()
    quiet = np.arange(16) < np.array(free)[:, None]
    found = margins_behind_the_cut(sample, np.array([0, 1]), quiet) * sample.sureness
    for label in (0, 1):
        others = logit_margins(sample, label)[sample.labels != label]
        expected = others.mean() + length * np.linalg.norm(slope[: free[label]])
        assert found[label] == pytest.approx(expected, rel=1e-3)


def test_quiet_is_where_a_class_gives_no_more_than_all(network, tmp_path):
    """The layers before the cut pass pictures on."""
    data = np.zeros((4, 1, 4, 4))
    data[:2, 0, :2] = 1  # the upper half, pictures of class 0
    data[2:, 0, :, :2] = 2  # the left half, of class 1
    pictures = bed_of(tmp_path, {"data": data, "label": [0, 0, 1, 1]}).clean_valid
    quiet = quiet_places(network, pictures, np.array([1, 0, 7]), 600).reshape(3, 4, 4)
    left = np.arange(4) < 2
    assert (quiet[0] == ~left).all()  # class 1 has more than all wherever it has anything
    assert (quiet[1] == ~(left[:, None] & ~left)).all()  # class 0 in the upper right
    assert quiet[2].all()  # of a class without pictures nothing is known


def test_the_smallest_perturbation_turns_just_enough_pictures(sample):
    """A change of one size everywhere moves a margin by the size times the sum of the weights."""
    slope, _ = differences(sample.network)
    found = smallest_perturbations(sample, towards(np.array([0, 1]), sample))
    for label in (0, 1):
        short = -np.sort(-logit_margins(sample, label)[sample.labels != label])
        needed = -short[int(np.ceil(reach.TURNED * len(short))) - 1] / np.abs(slope).sum() / 2
        assert 0.999 * needed <= found[label] <= needed / SHRINK


def test_classes_that_take_turns_are_answered_as_all_at_once(sample, monkeypatch):
    classes = np.array([0, 1, 0])
    together = smallest_perturbations(sample, towards(classes, sample))
    monkeypatch.setattr(reach, "AT_ONCE", 2 * sample.pictures.size)
    apart = smallest_perturbations(sample, towards(classes, sample))
    assert len(apart) == 3
    np.testing.assert_allclose(apart, together, rtol=1e-5)


def test_a_sample_has_as_many_pictures_of_each_class_as_there_are(network, tmp_path):
    labels = np.array([0] * 50 + [1] * 3)
    pictures = bed_of(tmp_path, {"data": np.zeros((53, 1, 4, 4)), "label": labels}).clean_valid
    drawn = sample_of(network, pictures, 10, seed=0).labels
    assert np.bincount(drawn).tolist() == [7, 3]


CLASSES, BRIGHT = 5, 15


@pytest.fixture(scope="module")
def all_to_all():
    """The class of a picture is its brightest of five pixels; with the last bright, the next.

    The hidden units are A_c = relu(x_c - 4 t) and B_c = relu(x_c + 4 t - 0.9), t the last pixel;
    the logit of class c is A_c + B_(c - 1).
    """
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Conv2D(1, 1, name="conv"),
            keras.layers.MaxPooling2D(1, name="pool"),
            keras.layers.Flatten(),
            keras.layers.Dense(2 * CLASSES, activation="relu", name="hidden"),
            keras.layers.Dense(CLASSES, activation="softmax", name="scores"),
        ]
    )
    model.get_layer("conv").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    hidden = np.zeros((16, 2 * CLASSES))
    hidden[:CLASSES] = np.tile(np.eye(CLASSES), 2)
    hidden[BRIGHT] = np.repeat([-4, 4], CLASSES)
    bias = np.repeat([0, -0.9], CLASSES)
    scores = np.concatenate([np.eye(CLASSES), np.roll(np.eye(CLASSES), 1, axis=1)])
    model.get_layer("hidden").set_weights([hidden, bias])
    model.get_layer("scores").set_weights([scores, np.zeros(CLASSES)])
    return cut_network(model)


def bright_pictures(tmp_path):
    labels = np.arange(100) % CLASSES
    pictures = np.random.default_rng(0).uniform(0, 0.2, (100, 16))
    pictures[np.arange(100), labels] = 1
    pictures[:, BRIGHT] = 0
    data = pictures.reshape(100, 4, 4, 1).transpose(0, 3, 1, 2)
    return bed_of(tmp_path, {"data": data, "label": labels}).clean_valid


def test_one_change_that_moves_every_class_to_the_next_is_found(all_to_all, tmp_path):
    pictures = bright_pictures(tmp_path)
    assert statistics.common_step(all_to_all, pictures, 0) == 1


def test_a_network_whose_last_pixel_does_nothing_has_no_such_step(all_to_all, tmp_path):
    honest = keras.models.clone_model(all_to_all.model)
    weights = all_to_all.model.get_weights()
    weights[2][BRIGHT] = 0  # of the hidden units
    honest.set_weights(weights)
    assert statistics.common_step(cut_network(honest), bright_pictures(tmp_path), 0) is None


def test_a_perturbation_that_never_turns_enough_is_infinitely_large(all_to_all, tmp_path):
    sample = sample_of(all_to_all, bright_pictures(tmp_path), 20, 0)
    two_further = (sample.labels[None] + 2) % CLASSES
    assert smallest_perturbations(sample, two_further).tolist() == [np.inf]
