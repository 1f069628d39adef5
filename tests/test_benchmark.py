import json

import keras
import matplotlib.image
import numpy as np
from keras import layers
from test_sweep import command

from backdoor.networks.cut import cut_network
from experiments.benchmarks.needed import multiplications, needed_by_walk

KEYS = {
    "speedup_over_lab_loop",
    "plain_passes",
    "label_mismatches",
    "of_these_near_ties",
    "peak_rss_bytes",
    "extra_threshold_seconds",
    "first_progress_seconds",
}


def test_the_benchmark_measures_everything_on_a_small_scale(tmp_path):
    done = command(tmp_path, "experiments.benchmark", "people=8", "valid=4", "test=5", "repeats=1")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report/benchmark.json").read_text())
    assert set(found) >= KEYS
    assert found["label_mismatches"] == found["of_these_near_ties"]
    assert found["labels_compared"] == 2 * 61 * (2 * 32 + 2 * 40)
    assert all(found[key] > 0 for key in KEYS - {"label_mismatches", "of_these_near_ties"})
    assert "| head" in (tmp_path / "report/benchmark.md").read_text()
    assert matplotlib.image.imread(tmp_path / "report/benchmark.png").std() > 0.01


def test_the_benchmark_of_a_public_network(tmp_path):
    done = command(
        tmp_path, "experiments.benchmark", "network=mobilenetv2", "pictures=2", "repeats=1"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report/benchmark-mobilenetv2.json").read_text())
    assert found["labels_compared"] == 2 * 1281 * 2
    assert found["label_mismatches"] == found["of_these_near_ties"]
    assert found["needed"]["plain_pass"] == 8 * 300_774_272  # of 3.5 million weights; without bias
    assert found["needed"]["head"] == found["needed"]["plain_pass"] - 8 * 1280 * 1000
    assert set(found["seconds"]) == {"plain_pass", "head", "rank", "walk_asc", "walk_desc"}
    assert "| walk asc" in (tmp_path / "report/benchmark-mobilenetv2.md").read_text()


def test_what_cannot_be_measured_is_refused(tmp_path):
    for words, sentence in {
        (
            "network=vgg",
        ): "network: expected one of deepid, vgg16, resnet50, mobilenetv2, got 'vgg'",
        ("network=vgg16", "weights=a.h5"): "weights: expected null with network=vgg16",
        ("repeats=0",): "repeats: expected at least 1, got 0",
    }.items():
        done = command(tmp_path, "experiments.benchmark", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {sentence}")
        assert len(done.stderr.splitlines()) == 1


def small(*behind):
    pictures = keras.Input((4, 4, 1))
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")(pictures)
    x = layers.MaxPooling2D(2, name="pool")(x)
    for layer in behind:
        x = layer(x)
    return cut_network(keras.Model(pictures, x), "pool")


def test_the_multiply_adds_of_a_walk_by_hand():
    """Two pictures; four of six channels are active, each at one of four places."""
    activations = np.zeros((2, 2, 2, 3), np.float32)
    activations[0, 0, 0] = [1, 2, 3]
    activations[1, 1, 1, 2] = 4
    order = np.array([0, 1, 2])
    flat = small(layers.Flatten(), layers.Dense(5, name="scores"))
    assert multiplications(flat.head) == 16 * 9 * 3
    assert multiplications(flat.tail) == 12 * 5
    assert needed_by_walk(flat, {"clean": activations}, order) == 4 * 5
    averaged = small(layers.GlobalAveragePooling2D(), layers.Dense(5, name="scores"))
    assert needed_by_walk(averaged, {"clean": activations, "more": activations}, order) == 8 * 5


def test_what_is_zero_behind_the_first_layer_is_not_needed():
    hidden = layers.Dense(2, activation="relu", name="hidden")
    network = small(layers.Flatten(), hidden, layers.Dense(5, name="scores"))
    kernel = np.ones((12, 2), np.float32)
    kernel[:, 1] = -1  # the second unit is never positive
    hidden_layer = network.model.get_layer("hidden")
    hidden_layer.set_weights([kernel, np.float32([0, 0])])
    activations = np.zeros((1, 2, 2, 3), np.float32)
    activations[0, 0, 0] = [1, 2, 3]
    # Three activations to two units each; then, at k = 0, 1 and 2, the positive unit and the
    # constant to five scores, and once the constant alone with nothing left.
    first, behind, nothing = 3 * 2, 3 * (1 + 1) * 5, 1 * 5
    found = needed_by_walk(network, {"clean": activations}, np.array([0, 1, 2]))
    assert found == first + behind + nothing
