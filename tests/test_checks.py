import keras
import numpy as np
import pytest
from conftest import (
    conv_pool_dense,
    file_with,
)
from keras import layers

from backdoor.errors import UserError
from backdoor.networks.checks import check_pictures, check_scale
from backdoor.networks.cut import cut_network
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
