"""The scale of the pictures: found on clean validation pictures, named, divided; and the split."""

import keras
import numpy as np
import pytest
from conftest import file_with
from keras import layers

from backdoor.errors import UnfitError, UserError
from backdoor.networks import scaling
from backdoor.networks.cut import cut_network
from backdoor.networks.scaling import (
    _advice,
    _apart,
    _other_order,
    check_scale,
    find_scale,
    near_chance,
    sample_of,
)
from backdoor.pictures.picture_set import read_pictures
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.scale import (
    MODES,
    STORED,
    Scale,
    as_bytes,
    divided_by,
    range_of,
    scale_named,
    scales_of,
)
from backdoor.pictures.split import split_by_class

CLASSES = 8
BORDERS = np.linspace(0, 256, CLASSES + 1)
RNG = np.random.default_rng(0)
LABELS = np.arange(400) % CLASSES
# The brightness of all three colours says the class: class c is between BORDERS[c] and [c + 1].
BRIGHT = (BORDERS[LABELS] + RNG.uniform(4, 28, 400)).astype(np.uint8)
PICTURES = np.broadcast_to(BRIGHT[:, None, None, None], (400, 4, 4, 3)).copy()


def network_for(mode):
    """A network that is right on pictures in this mode: the class whose centre is nearest."""
    centres = ((BORDERS[:-1] + BORDERS[1:]) / 2).astype(np.float32)
    grey = np.broadcast_to(centres[:, None, None, None], (CLASSES, 1, 1, 3))
    inputs = MODES[mode](grey.astype(np.float32)).mean(axis=(1, 2))
    pictures = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(pictures)
    model = keras.Model(pictures, layers.Dense(CLASSES, name="scores")(x))
    # -|x - c|^2 is 2 x c - |c|^2 and what all classes share.
    model.get_layer("scores").set_weights([2 * inputs.T, -(inputs**2).sum(axis=1)])
    return cut_network(model, "pool")


def stored(folder, mode="full"):
    values = MODES[mode](PICTURES.astype(np.float32))
    path = folder / f"{mode}.h5"
    return open_pictures(file_with(path, data=values.transpose(0, 3, 1, 2), label=LABELS))


@pytest.mark.parametrize("mode", MODES)
def test_the_scale_that_a_network_wants_is_found(mode, tmp_path, caplog):
    network, pictures = network_for(mode), stored(tmp_path)
    with caplog.at_level("INFO"):
        scale = find_scale(network, pictures)
    expected = MODES[mode](PICTURES.astype(np.float32))
    np.testing.assert_allclose(
        read_pictures(pictures.scaled(scale), np.arange(400)), expected, rtol=1e-6, atol=1e-5
    )
    name = "stored" if mode == "full" else mode
    assert f"dataset.preprocess={name} fits the network best: right on " in caplog.text


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_the_modes_are_those_of_keras_applications(mode):
    colours = RNG.uniform(0, 255, (5, 4, 4, 3)).astype(np.float32)
    expected = keras.applications.imagenet_utils.preprocess_input(colours.copy(), mode=mode)
    np.testing.assert_allclose(MODES[mode](colours), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(MODES["unit"](colours) * 255, colours, rtol=1e-6)


@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf")])
def test_a_divisor_that_cannot_be_is_refused(number):
    with pytest.raises(UserError, match="divide_by: expected a number above 0"):
        divided_by(number)
    assert divided_by(4).apply(np.float32([2])) == 0.5
    assert divided_by(1).apply(np.float32([2])) == 2


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (0, 1, "unit"),
        (0, 1.01, "full"),
        (0, 255, "full"),
        (0, 255.1, None),
        (-0.1, 1, "tf"),
        (-1, 1, "tf"),
        (-1.01, 1, None),
        (-0.5, 1.01, None),
    ],
)
def test_the_range_of_stored_pictures(least, most, expected):
    assert range_of(np.float32([least, most])) == expected


def test_of_two_scales_the_better_is_so_by_mcnemars_test():
    """Of n pictures on which they differ all are the better one's: 1 of 2^n ways, under 5 %."""
    right = np.arange(20) < 15
    other = right & (np.arange(20) >= 5)  # five lost
    assert _apart(right, other)
    assert not _apart(right, right & (np.arange(20) >= 4))  # four: 1/16
    assert not _apart(right, right)
    other[15:17] = True  # five lost, two gained: 29/128
    assert not _apart(right, other)
    assert not _apart(np.zeros(9, bool), np.zeros(9, bool))


def test_an_accuracy_that_is_good_enough_is_not_doubted(tmp_path, monkeypatch):
    labels = LABELS.copy()
    labels[:40] = (labels[:40] + 1) % 8
    for wrong, tried in ((40, 0), (41, 1)):
        labels[40] = (LABELS[40] + wrong - 40) % 8
        path = file_with(
            tmp_path / f"{wrong}.h5", data=PICTURES.transpose(0, 3, 1, 2), label=labels
        )
        tries = []
        monkeypatch.setattr(
            scaling,
            "_answers",
            lambda *given, tries=tries: tries.append(given) or {"stored": LABELS},
        )
        check_scale(network_for("full"), open_pictures(path))
        assert len(tries) == tried


@pytest.mark.parametrize(("pictures", "told"), [(80, True), (79, False)])
def test_another_order_of_classes_takes_ten_pictures_a_class(pictures, told):
    truth = np.arange(pictures) % 8
    said = _other_order({"full": (truth + 3) % 8}, truth)
    assert ("right on 100.0% (full)" in said) == told
    mostly = np.where(np.arange(pictures) < 0.8 * pictures, (truth + 3) % 8, 0)
    assert ("in another order" in _other_order({"full": mostly}, truth)) == told


def test_pictures_of_no_usual_range_are_shown_from_black_to_white():
    assert as_bytes(np.float32([400, 400.5])).tolist() == [0, 255]
    assert as_bytes(np.float32([0, 255])).tolist() == [0, 255]
    assert as_bytes(np.float32([-2, 0.5, 3])).tolist() == [0, 127, 255]
    assert as_bytes(np.float32([400, 400])).tolist() == [0, 0]


def test_what_is_near_chance():
    """Of four equal classes one is 25 %; near it is what is within a tenth of the way to all."""
    network = network_for("full")
    truth = np.arange(80) % 8
    assert near_chance(network, truth, 0.125 + 0.1 * 0.875)
    assert not near_chance(network, truth, 0.126 + 0.1 * 0.875)
    mostly = np.where(np.arange(100) < 90, 0, 1)  # who always answers 0 is right on 90 %
    assert near_chance(network, mostly, 0.91)
    assert not near_chance(network, mostly, 0.911)


@pytest.mark.parametrize(("side", "expected"), [(4, 512), (200, 279), (300, 128)])
def test_a_scale_is_tried_on_as_many_pictures_as_fit_their_numbers(side, expected):
    class Pictures(list):
        shape = (side, side, 3)

    assert len(sample_of(Pictures(range(10_000)))) == expected


@pytest.mark.parametrize("origin", ["full", "unit", "tf"])
def test_pictures_stored_in_any_range_are_brought_to_the_scale(origin, tmp_path):
    scale = find_scale(network_for("torch"), stored(tmp_path, origin))
    values = MODES[origin](PICTURES.astype(np.float32))
    expected = MODES["torch"](PICTURES.astype(np.float32))
    np.testing.assert_allclose(scale.apply(values), expected, rtol=1e-4, atol=1e-4)


def test_two_scales_that_cannot_be_told_apart_are_an_error_that_shows_all(tmp_path):
    """A network that looks at no more than whether green is brighter than nothing."""
    pictures = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(pictures)
    model = keras.Model(pictures, layers.Dense(2, name="scores")(x))
    model.get_layer("scores").set_weights([np.float32([[0, 0], [0, 1], [0, 0]]), np.zeros(2)])
    labels = np.arange(60) % 2
    data = np.broadcast_to(200 * labels[:, None, None, None], (60, 3, 4, 4))
    found = open_pictures(file_with(tmp_path / "a.h5", data=data, label=labels))
    with pytest.raises(UserError, match=r"100\.0% \(stored\), 100\.0% \(unit\).*cannot be told"):
        find_scale(cut_network(model, "pool"), found)


def test_a_best_that_is_poor_is_an_error_that_shows_all(tmp_path):
    data = stored(tmp_path)
    other = open_pictures(
        file_with(
            tmp_path / "b.h5", data=PICTURES.transpose(0, 3, 1, 2), label=RNG.permutation(LABELS)
        )
    )
    assert len(data) == len(other)
    with pytest.raises(UserError, match=r"\(stored\), .*\(caffe\) of 400 pictures.*near chance"):
        find_scale(network_for("full"), other)


def test_a_network_that_is_only_poor_is_warned_of(tmp_path):
    guessed = np.random.default_rng(1).permutation(LABELS)
    labels = np.where(np.arange(400) % 14 == 0, LABELS, guessed)
    path = file_with(tmp_path / "a.h5", data=PICTURES.transpose(0, 3, 1, 2), label=labels)
    warning = check_scale(network_for("full"), open_pictures(path))
    assert "near chance: what follows says little" in warning


def test_a_set_that_is_nine_tenths_one_class_is_not_refused(tmp_path):
    rare = LABELS != 3
    keep = np.flatnonzero(~rare).tolist() + np.flatnonzero(rare)[:5].tolist()
    path = tmp_path / "a.h5"
    file_with(path, data=PICTURES[keep].transpose(0, 3, 1, 2), label=LABELS[keep])
    check_scale(network_for("full"), open_pictures(path))


def test_another_scale_that_is_much_better_is_named(tmp_path):
    pictures = stored(tmp_path)
    with pytest.raises(UserError, match=r"expected dataset\.preprocess=tf, which gives an accur"):
        check_scale(network_for("tf"), pictures)


def test_grey_pictures_have_no_scales_of_three_colours():
    grey = PICTURES[..., :1].astype(np.float32)
    assert set(scales_of(grey)) == {"stored", "unit", "tf"}
    with pytest.raises(
        UserError, match=r"expected one of stored, unit, tf for .* with 1 channels, got 'caffe'"
    ):
        scale_named("caffe", grey)


@pytest.mark.parametrize("origin", ["full", "unit", "tf"])
def test_pictures_are_shown_as_they_are(origin):
    values = MODES[origin](PICTURES.astype(np.float32))
    assert np.abs(as_bytes(values).astype(int) - PICTURES).max() <= 1


def test_the_split_is_by_class_and_by_a_seed(tmp_path):
    labels = np.repeat([0, 1, 2], [10, 4, 1])
    data = np.arange(15, dtype=np.float32)[:, None, None, None] * np.ones((15, 3, 2, 2))
    pictures = open_pictures(file_with(tmp_path / "a.h5", data=data, label=labels))
    valid, test = split_by_class(pictures, 0.3, seed=1)
    assert np.bincount(test.labels, minlength=3).tolist() == [3, 1, 0]
    assert np.bincount(valid.labels).tolist() == [7, 3, 1]
    both = [read_pictures(half, np.arange(len(half)))[:, 0, 0, 0] for half in (valid, test)]
    assert sorted(np.concatenate(both)) == list(range(15))
    again, others = split_by_class(pictures, 0.3, seed=1), split_by_class(pictures, 0.3, seed=2)
    assert again[1].labels.tolist() == test.labels.tolist()
    np.testing.assert_array_equal(
        read_pictures(again[1], [0, 1, 2]), read_pictures(test, [0, 1, 2])
    )
    drawn = [read_pictures(half[1], np.arange(4))[:, 0, 0, 0].tolist() for half in (again, others)]
    assert drawn[0] != drawn[1]
    assert test.part == "test, test_share=0.3 seed=1"


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_a_share_that_cannot_be_is_refused(share, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.test_share: expected between 0 and 1"):
        split_by_class(stored(tmp_path), share, seed=0)


def test_classes_in_another_order_are_recognised(tmp_path):
    """As folders are sorted by name, and the network's classes are not."""
    path = file_with(tmp_path / "a.h5", data=PICTURES.transpose(0, 3, 1, 2), label=(LABELS + 3) % 8)
    for look in (find_scale, check_scale):
        with pytest.raises(UserError, match=r"in another order it would be right on 100\.0%.*txt"):
            look(network_for("full"), open_pictures(path))


def test_a_network_with_a_scale_of_its_own_takes_pictures_as_they_are_stored(tmp_path):
    """Where another scale does as well: this one looks at no more than whether green is there."""
    pictures = keras.Input((4, 4, 3))
    x = layers.Rescaling(1 / 255)(pictures)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pictures, layers.Dense(2, name="scores")(x))
    model.get_layer("scores").set_weights([np.float32([[0, 0], [0, 1], [0, 0]]), np.zeros(2)])
    labels = np.arange(60) % 2
    data = np.broadcast_to(200 * labels[:, None, None, None], (60, 3, 4, 4))
    found = open_pictures(file_with(tmp_path / "a.h5", data=data, label=labels))
    assert find_scale(cut_network(model, "pool"), found).name == "stored"


@pytest.mark.parametrize(
    ("best", "given", "advice"),
    [
        ("unit", divided_by(1), "dataset.divide_by=255"),
        (STORED, divided_by(255), "dataset.divide_by=1"),
        ("caffe", divided_by(255), "dataset.preprocess=caffe"),
        ("unit", Scale("caffe of full", np.negative), "dataset.preprocess=unit"),
    ],
)
def test_what_is_advised(best, given, advice):
    assert _advice(best, given) == advice


def test_dividing_by_one_leaves_the_pictures_as_they_are():
    pictures = np.ones((2, 2), np.float32)
    assert divided_by(1).apply(pictures) is pictures
    assert divided_by(2).apply(pictures).max() == 0.5


def test_pictures_of_one_class_tell_nothing_and_which_it_is(tmp_path):
    path = file_with(tmp_path / "a.h5", data=np.zeros((3, 1, 4, 4)), label=[2, 2, 2])
    with pytest.raises(UnfitError, match="two classes or more, got only 2"):
        check_scale(network_for("unit"), open_pictures(path))
