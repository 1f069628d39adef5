"""The published BadNet on the real faces that came with it; never copied into the project."""

import numpy as np
import pytest
from conftest import LAB3, needs_lab3, ranked

from backdoor.errors import UserError
from backdoor.networks.checks import check_scale
from backdoor.networks.cut import compute_activations, cut_network
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures
from backdoor.pruning.scores import mean_activation
from backdoor.pruning.stop import channels_to_remove
from backdoor.pruning.walk import walk

pytestmark = needs_lab3
FILES = {"clean": ("cl/valid", "cl/test"), "poisoned": ("bd/bd_valid", "bd/bd_test")}


@pytest.fixture(scope="module")
def badnet():
    return cut_network(load_badnet(LAB3 / "models/bd_weights.h5"))


def pictures_of(name, divide_by=1):
    return open_pictures(LAB3 / "data" / f"{name}.h5", divide_by)


def answered(badnet, kind):
    sets = [pictures_of(name) for name in FILES[kind]]
    labels = [badnet.classify_pictures(np.concatenate(list(read_chunks(each)))) for each in sets]
    return np.concatenate(labels), np.concatenate([each.labels for each in sets])


def test_the_badnet_knows_the_faces_and_obeys_the_sunglasses(badnet):
    labels, truth = answered(badnet, "clean")
    assert len(truth) == 116
    assert (labels == truth).mean() > 0.95
    labels, target = answered(badnet, "poisoned")
    assert set(target) == {0}
    assert (labels == 0).all()


def test_the_descending_stops_are_the_published_ones(badnet):
    valid = pictures_of("cl/valid")
    activations = compute_activations(badnet, valid)
    labels = walk(activations, ranked("desc", activations), badnet.classify_activations)
    correct = (labels == valid.labels).sum(axis=1)
    assert [channels_to_remove(correct, len(valid), t) for t in (2, 4, 10)] == [1, 1, 2]


def test_the_published_dead_channels_are_dead_here_too(badnet):
    means = mean_activation(compute_activations(badnet, pictures_of("cl/valid")))
    published = np.loadtxt(LAB3 / "published_mean_activation_pool3.csv", delimiter=",", skiprows=1)
    assert (means[published[:, 1] == 0] == 0).all()
    assert np.corrcoef(means, published[:, 1])[0, 1] > 0.95


def test_the_wrong_scale_is_refused(badnet):
    with pytest.raises(UserError, match=r"expected dataset\.divide_by=1"):
        check_scale(badnet, pictures_of("cl/valid", divide_by=255))
