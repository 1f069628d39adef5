import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import really_pruned

from backdoor.evaluation import goodnet_labels
from backdoor.networks.cut import cut_network
from backdoor.networks.exports import export
from backdoor.networks.goodnet import build_goodnet

REMOVED = [1, 4, 0]


def test_the_goodnet_says_n_where_the_pruned_network_disagrees(network, pictures):
    goodnet = build_goodnet(cut_network(network), REMOVED)
    badnet = network.predict(pictures, verbose=0).argmax(axis=1)
    pruned = really_pruned(network, REMOVED).predict(pictures, verbose=0).argmax(axis=1)
    expected = goodnet_labels(badnet, pruned, 5)
    assert goodnet.output_shape == (None, 6)
    assert set(expected) > {5}, "the test needs pictures of both kinds"
    np.testing.assert_array_equal(goodnet.predict(pictures, verbose=0).argmax(axis=1), expected)


def test_the_goodnet_survives_saving(network, pictures, tmp_path):
    goodnet = build_goodnet(cut_network(network), REMOVED)
    goodnet.save(tmp_path / "goodnet.keras")
    loaded = keras.models.load_model(tmp_path / "goodnet.keras")
    np.testing.assert_array_equal(
        loaded.predict(pictures, verbose=0), goodnet.predict(pictures, verbose=0)
    )


def test_the_goodnet_loads_where_this_package_is_not_imported(network, tmp_path):
    build_goodnet(cut_network(network), REMOVED).save(tmp_path / "goodnet.keras")
    code = "import keras; print(keras.models.load_model('goodnet.keras').output_shape)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(None, 6)"


def test_building_a_goodnet_changes_neither_network_nor_the_next_goodnet(network, pictures):
    cut = cut_network(network)
    before = [weight.copy() for weight in network.get_weights()]
    first = build_goodnet(cut, REMOVED).predict(pictures, verbose=0)
    build_goodnet(cut, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(build_goodnet(cut, REMOVED).predict(pictures, verbose=0), first)
    for was, is_now in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(was, is_now)


@pytest.mark.parametrize("kind", ["tflite"])
def test_the_goodnet_runs_elsewhere(network, pictures, tmp_path, kind):
    """`export` runs what it has written and compares its labels."""
    goodnet = build_goodnet(cut_network(network), REMOVED)
    export(goodnet, kind, tmp_path / f"goodnet.{kind}", pictures)
    assert (tmp_path / f"goodnet.{kind}").stat().st_size > 1000


def test_of_equal_scores_the_first_is_the_label(network, pictures):
    """As argmax says it, by which all else here takes labels."""
    even = keras.models.clone_model(network)
    even.set_weights([0 * weight for weight in network.get_weights()])
    answers = build_goodnet(cut_network(even), REMOVED).predict(pictures, verbose=0)
    assert (answers.argmax(axis=1) == 0).all()
