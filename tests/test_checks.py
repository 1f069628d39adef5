import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import (
    bed_of,
    conv_pool_dense,
    file_with,
)
from keras import layers

from backdoor.errors import UserError
from backdoor.networks.checks import (
    _check_sides,
    check_bed,
    check_pictures,
    check_scale,
    check_suspect,
)
from backdoor.networks.cut import cut_network
from backdoor.networks.goodnet import build_goodnet
from backdoor.pictures.readers import open_pictures


def test_pictures_and_labels_that_do_not_fit_the_network_are_refused(tmp_path):
    cut = cut_network(conv_pool_dense())
    fitting = np.zeros((4, 3, 10, 8))
    too_many = open_pictures(file_with(tmp_path / "a.h5", data=fitting, label=[0, 1, 2, 5]))
    with pytest.raises(UserError, match="network's 5 classes, 0 to 4, got 5"):
        check_pictures(cut, too_many)
    smaller = open_pictures(
        file_with(tmp_path / "b.h5", data=fitting[:, :, 1:], label=[0, 1, 2, 3])
    )
    with pytest.raises(UserError, match=r"expected pictures of \(10, 8, 3\).*got \(9, 8, 3\)"):
        check_pictures(cut, smaller)


def brightness_classes():
    """A network that tells dark from bright pictures, in numbers 0..255."""
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    model.set_weights([np.float32([[0, 1]]), np.float32([0, -128])])
    return cut_network(model)


def test_the_wrong_scale_is_refused_with_the_right_one(tmp_path):
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 4, 4, 1))
    path = file_with(tmp_path / "a.h5", data=data, label=labels)
    check_scale(brightness_classes(), open_pictures(path, 1))
    with pytest.raises(
        UserError, match=r"expected dataset\.divide_by=1, which gives an accuracy of 100\.0%"
    ):
        check_scale(brightness_classes(), open_pictures(path, 255))


def test_accuracy_near_chance_is_refused(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1))
    path = file_with(tmp_path / "a.h5", data=data, label=(np.arange(50) + 1) % 2)
    with pytest.raises(UserError, match="near chance"):
        check_scale(brightness_classes(), open_pictures(path))


def test_sets_in_different_ranges_are_refused(tmp_path):
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 4, 4, 1))
    bed = bed_of(tmp_path, {"data": data, "label": labels}, {"data": data / 255, "label": [0] * 20})
    with pytest.raises(UserError, match=r"poisoned_valid.h5: expected numbers in the range of .*"):
        check_bed(brightness_classes(), bed)


def test_a_goodnet_is_measured_on_the_classes_that_it_was_made_from(tmp_path):
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 4, 4, 1))
    path = file_with(tmp_path / "a.h5", data=data, label=np.array([b"dark", b"bright"])[labels])
    pictures = open_pictures(path)
    network = brightness_classes()
    goodnet = cut_network(build_goodnet(network, [0]), "head/" + network.layer)
    check_pictures(goodnet, pictures)
    renamed = keras.Model(goodnet.model.inputs[0], goodnet.model.outputs[0], name="another")
    another = dataclasses.replace(goodnet, model=renamed)
    with pytest.raises(UserError, match="expected the network's 3 classes, found 2"):
        check_pictures(another, pictures)


@pytest.mark.parametrize("name", ["clean_valid", "clean_test", "poisoned_valid", "poisoned_test"])
def test_every_set_is_looked_at(name, tmp_path):
    """One set of another size, one with a class too many."""
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 4, 4, 1))
    clean = {"data": data.transpose(0, 3, 1, 2), "label": labels}
    bed = bed_of(tmp_path, clean, clean | {"label": [0] * 20})
    check_bed(brightness_classes(), bed)
    larger = clean | {"data": np.repeat(clean["data"], 2, axis=2)}
    for datasets, said in (
        (larger, r"got \(8, 4, 1\)"),
        (clean | {"label": [0] * 19 + [2]}, "got 2"),
    ):
        other = open_pictures(file_with(tmp_path / "other.h5", **datasets))
        side, part = name.split("_")
        changed = (
            dataclasses.replace(bed, **{name: other})
            if side == "clean"
            else dataclasses.replace(
                bed, poisoned=dataclasses.replace(bed.poisoned, **{part: other})
            )
        )
        with pytest.raises(UserError, match=f"other.h5: expected .*{said}"):
            check_bed(brightness_classes(), changed)


@pytest.mark.parametrize(("target", "said"), [(2, "0 to 1, got 2"), (-1, "0 to 1, got -1")])
def test_a_target_that_is_no_class_is_refused(target, said, tmp_path):
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 1, 4, 4))
    clean, attacked = {"data": data, "label": labels}, {"data": data, "label": [0] * 20}
    with pytest.raises(UserError, match=f"dataset.target: expected a class .*{said}"):
        check_bed(brightness_classes(), bed_of(tmp_path, clean, attacked, target=target))
    with pytest.raises(UserError, match=r"expected dataset.target=1 as label .* got 0"):
        check_bed(brightness_classes(), bed_of(tmp_path, clean, attacked, target=1))
    several = bed_of(tmp_path, clean, {"data": data, "label": labels}, target=None)
    check_bed(brightness_classes(), several)


def test_clean_and_poisoned_files_in_each_others_place_are_noticed(tmp_path):
    labels = np.arange(20) % 2
    data = np.broadcast_to(np.where(labels, 200, 20)[:, None, None, None], (20, 1, 4, 4))
    several, one = {"data": data, "label": labels}, {"data": data, "label": [0] * 20}
    with pytest.raises(UserError, match="are clean and poisoned files swapped"):
        check_bed(brightness_classes(), bed_of(tmp_path, one, several, target=0))
    with pytest.raises(UserError, match=r"expected dataset\.target=0 as label"):
        check_bed(brightness_classes(), bed_of(tmp_path, several, several, target=0))


@pytest.mark.parametrize("suspect", [-1, 2])
def test_a_suspect_that_is_no_class_is_refused(suspect):
    with pytest.raises(UserError, match=f"suspect: expected auto or .* 0 to 1, got {suspect}"):
        check_suspect(brightness_classes(), suspect)
    for fine in (None, 0, 1):
        check_suspect(brightness_classes(), fine)


@pytest.mark.parametrize(
    ("clean", "poisoned", "refused"),
    [([1, 1], [1, 0], True), ([1, 1], [1, 1], False), ([1, 0], [1, 0], False)],
)
def test_swapped_sets_are_those_whose_clean_one_has_the_target_alone(clean, poisoned, refused):
    def of(labels):
        return SimpleNamespace(labels=np.array(labels), path="a.h5")

    swapped = SimpleNamespace(target=1, valid=of(poisoned))
    if refused:
        with pytest.raises(UserError, match="got the target 1 alone"):
            _check_sides(SimpleNamespace(clean_valid=of(clean)), swapped)
    else:
        _check_sides(SimpleNamespace(clean_valid=of(clean)), swapped)
