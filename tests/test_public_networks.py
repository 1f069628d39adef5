"""Networks as others make them, saved and loaded again: each is cut, walked and exported."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ranked
from keras import layers

from backdoor.errors import UserError
from backdoor.evaluation import goodnet_labels
from backdoor.networks.cut import cut_network
from backdoor.networks.goodnet import build_goodnet
from backdoor.networks.model_files import load_badnet
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.walk import walk

SIZE = (16, 16, 3)
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def base():
    pictures = keras.Input(SIZE)
    x = layers.Conv2D(6, 3, padding="same", name="c1")(pictures)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    return keras.Model(pictures, layers.ReLU()(x), name="base")


def sequential():
    return keras.Sequential(
        [
            keras.Input(SIZE),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )


def sequential_in_sequential():
    augmentation = keras.Sequential(
        [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomContrast(0.1)]
    )
    parts = [augmentation, layers.Rescaling(1 / 255), layers.Conv2D(6, 3, activation="relu")]
    ends = [layers.MaxPooling2D(name="pool"), layers.Dropout(0.2), layers.Flatten()]
    return keras.Sequential([keras.Input(SIZE), *parts, *ends, layers.Dense(4)])


def sequential_around_a_base():
    ends = [layers.GlobalAveragePooling2D(name="pool"), layers.Dropout(0.2), layers.Dense(4)]
    return keras.Sequential([base(), *ends])


def transfer_learning():
    pictures = keras.Input(SIZE)
    x = layers.RandomZoom(0.2)(layers.RandomFlip("horizontal")(pictures))
    x = base()(layers.Rescaling(1 / 127.5, offset=-1)(x), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(pictures, layers.Dense(4, activation="softmax")(x))


def base_with_the_last_pooling_layer_and_names_that_stand_twice():
    pictures = keras.Input(SIZE)
    x = layers.Flatten()(base()(pictures))
    return keras.Model(pictures, layers.Dense(4)(layers.Dense(5, activation="relu", name="c1")(x)))


def arithmetic_inside():
    pictures = keras.Input(SIZE)
    x = keras.ops.subtract(pictures / 127.5 - 1.0, 0.1)
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(6, 3, activation="relu")(x))
    return keras.Model(pictures, layers.Dense(4)(layers.Flatten()(x)))


def one_pooling_layer_for_two_places():
    pictures, pool = keras.Input(SIZE), layers.MaxPooling2D(name="pool")
    x = pool(layers.Conv2D(6, 3, activation="relu")(pictures))
    x = pool(layers.Conv2D(6, 3, activation="relu")(x))
    return keras.Model(pictures, layers.Dense(4)(layers.Flatten()(x)))


def fixed_batch():
    pictures = keras.Input(batch_shape=(32, *SIZE))
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(6, 3)(pictures))
    return keras.Model(pictures, layers.Dense(4)(layers.Flatten()(x)))


def built_with_the_batch_as_an_axis():
    before = keras.Sequential([layers.Resizing(16, 16), layers.Rescaling(1 / 255)])
    parts = [layers.RandomFlip(), layers.Conv2D(6, 3, activation="relu")]
    ends = [layers.MaxPooling2D(name="pool"), layers.Flatten(), layers.Dense(4)]
    model = keras.Sequential([before, *parts, *ends])
    model.build((32, *SIZE))
    return model


def one_sigmoid():
    parts = [keras.Input(SIZE), layers.Conv2D(6, 3, activation="relu")]
    ends = [layers.MaxPooling2D(name="pool"), layers.Flatten()]
    return keras.Sequential([*parts, *ends, layers.Dense(1, activation="sigmoid")])


def one_logit():
    parts = [keras.Input(SIZE), layers.Conv2D(6, 3, activation="relu")]
    return keras.Sequential([*parts, layers.GlobalMaxPooling2D(name="pool"), layers.Dense(1)])


def attention():
    pictures = keras.Input(SIZE)
    x = layers.MaxPooling2D(name="early")(layers.Conv2D(6, 3, activation="relu")(pictures))
    x = layers.Reshape((49, 6))(x)
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(pictures, layers.Dense(4)(layers.GlobalAveragePooling1D(name="pool")(x)))


def recurrent():
    pictures = keras.Input(SIZE)
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(6, 3, activation="relu")(pictures))
    x = layers.Bidirectional(layers.LSTM(5))(layers.Reshape((7, 42))(x))
    return keras.Model(pictures, layers.Dense(4)(x))


NETWORKS = [
    sequential,
    sequential_in_sequential,
    sequential_around_a_base,
    transfer_learning,
    base_with_the_last_pooling_layer_and_names_that_stand_twice,
    arithmetic_inside,
    one_pooling_layer_for_two_places,
    fixed_batch,
    built_with_the_batch_as_an_axis,
    one_sigmoid,
    one_logit,
    attention,
    recurrent,
]


def spread(model):
    """Weights with which a network gives every class, and pictures."""
    rng = np.random.default_rng(1)
    weights = [
        w if w.path.split("/")[-1] in ("moving_variance", "gamma") else rng.normal(0, 0.3, w.shape)
        for w in model.weights
    ]
    model.set_weights([np.asarray(w) for w in weights])
    pictures = rng.normal(0, 1, (32, *SIZE)) * rng.uniform(0, 127, (32, 1, 1, 3)) + 128
    pictures = pictures.astype(np.float32)
    last = model.layers[-1]  # all classes are to be equally likely
    activation, last.activation = last.activation, keras.activations.linear
    scores = model(pictures, training=False).numpy()
    last.bias.assign(last.bias.numpy() - np.median(scores, axis=0))
    last.activation = activation
    return pictures


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_a_saved_network_is_opened_cut_and_walked_as_keras_runs_it(make, suffix, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    pictures = spread(model)
    if make is one_sigmoid:
        expected = (model(pictures, training=False).numpy()[:, 0] > 0.5).astype(int)
    elif make is one_logit:
        expected = (model(pictures, training=False).numpy()[:, 0] > 0).astype(int)
    else:
        expected = model(pictures, training=False).numpy().argmax(axis=1)
    assert len(set(expected)) > 1
    model.save(tmp_path / f"net{suffix}")
    cut = cut_network(load_badnet(tmp_path / f"net{suffix}"))
    assert cut.layer.split("/")[-1] == "pool"
    np.testing.assert_array_equal(cut.classify_pictures(pictures), expected)
    activations = cut.activate([pictures], len(pictures))
    order = ranked("asc", activations)
    walked = walk_network(cut, activations, order)
    plain = walk(activations, order, cut.classify_activations)
    np.testing.assert_array_equal(walked, plain)
    np.testing.assert_array_equal(walked[0], expected)


@pytest.mark.parametrize(
    "make", [sequential, transfer_learning, one_sigmoid, attention], ids=lambda m: m.__name__
)
def test_a_goodnet_is_opened_as_a_badnet(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    pictures = spread(model)
    cut = cut_network(model)
    build_goodnet(cut, [0, 1, 2]).save(tmp_path / "goodnet.keras")
    again = cut_network(load_badnet(tmp_path / "goodnet.keras"))
    activations = cut.activate([pictures], len(pictures))
    walked = walk_network(cut, activations, np.arange(cut.channels))
    expected = goodnet_labels(walked[0], walked[3], cut.classes)
    np.testing.assert_array_equal(again.classify_pictures(pictures), expected)
    assert again.classes == cut.classes + 1


@pytest.mark.parametrize("end", ["dropout", "linear in float32", "flatten", "hard sigmoid"])
def test_a_sigmoid_is_found_behind_layers_that_pass_it_on(end, tmp_path):
    keras.utils.set_random_seed(0)
    pictures = keras.Input(SIZE)
    x = layers.GlobalMaxPooling2D(name="pool")(layers.Conv2D(6, 3)(pictures))
    x = layers.Dense(1, activation="hard_sigmoid" if end == "hard sigmoid" else "sigmoid")(x)
    if end == "dropout":
        x = layers.Dropout(0.5)(x)
    elif end == "flatten":
        x = layers.Flatten()(x)
    elif end != "hard sigmoid":
        x = layers.Activation("linear", dtype="float32")(x)
    model = keras.Model(pictures, x)
    shown = np.random.default_rng(0).normal(0, 1, (40, *SIZE)).astype(np.float32)
    dense = next(layer for layer in model.layers if isinstance(layer, layers.Dense))
    before = keras.Model(pictures, dense.input)(shown).numpy() @ dense.kernel.numpy()
    dense.bias.assign(-np.median(before, axis=0))
    expected = model(shown, training=False).numpy()[:, 0] > 0.5
    assert 5 < expected.sum() < 35
    model.save(tmp_path / "net.keras")
    cut = cut_network(load_badnet(tmp_path / "net.keras"))
    np.testing.assert_array_equal(cut.classify_pictures(shown), expected)


def test_a_single_output_that_is_neither_probability_nor_logit_is_refused():
    pictures = keras.Input(SIZE)
    x = layers.Dense(1)(layers.GlobalMaxPooling2D()(layers.Conv2D(6, 3)(pictures)))
    model = keras.Model(pictures, 1.0 / (1.0 + keras.ops.exp(-x)))
    with pytest.raises(UserError, match="expected a score a class, or a single output with a sig"):
        cut_network(model)


def test_a_base_of_no_size_of_its_own_takes_the_networks(tmp_path):
    inside = keras.Input((None, None, 3))
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(6, 3, activation="relu")(inside))
    pictures = keras.Input(SIZE)
    model = keras.Model(
        pictures, layers.Dense(4)(layers.Flatten()(keras.Model(inside, x, name="base")(pictures)))
    )
    model.save(tmp_path / "net.keras")
    assert cut_network(load_badnet(tmp_path / "net.keras")).layer == "base/pool"


def test_a_layer_inside_a_nested_network_is_named_by_its_path():
    cut = cut_network(transfer_learning(), "base/pool")
    assert (cut.layer, cut.channels, cut.why) == ("base/pool", 6, "as asked for")
    cut = cut_network(transfer_learning(), "base/c1")
    assert cut.head.output_shape == (None, 16, 16, 6)


def scores_at_the_pool():
    pictures = keras.Input(SIZE)
    x = layers.MaxPooling2D(name="mid")(layers.Conv2D(6, 3, activation="relu")(pictures))
    x = layers.GlobalAveragePooling2D(name="last")(layers.Conv2D(4, 1, name="classes")(x))
    return keras.Model(pictures, layers.Activation("softmax")(x))


def test_where_channels_are_the_class_scores_the_cut_goes_back_and_says_so():
    cut = cut_network(scores_at_the_pool())
    assert cut.layer == "mid"
    assert cut.why == "since the channels of 'last' are the class scores"
    assert cut_network(scores_at_the_pool(), "last").channels == 4


def test_without_pooling_the_last_convolution_is_cut():
    parts = [layers.Conv2D(6, 3, 2, activation="relu"), layers.Conv2D(5, 3, 2, name="last")]
    model = keras.Sequential([keras.Input(SIZE), *parts, layers.Flatten(), layers.Dense(4)])
    cut = cut_network(model)
    assert (cut.layer, cut.channels) == ("last", 5)
    assert cut.why.startswith("the last convolution")


def test_paths_that_lead_past_are_said():
    pictures = keras.Input(SIZE)
    a, b = layers.MaxPooling2D(name="a")(pictures), layers.AveragePooling2D(2, name="b")(pictures)
    model = keras.Model(pictures, layers.Dense(3)(layers.Flatten()(layers.Add()([a, b]))))
    with pytest.raises(UserError, match=r"found none in .*, where others lead past a, b"):
        cut_network(model)
    with pytest.raises(UserError, match="but others lead past 'a'"):
        cut_network(model, "a")


def test_channels_first_is_called_so():
    first = {"data_format": "channels_first"}
    parts = [layers.Conv2D(4, 3, **first, name="conv"), layers.GlobalMaxPooling2D(**first)]
    model = keras.Sequential([keras.Input((3, 16, 16)), *parts, layers.Dense(4)])
    with pytest.raises(UserError, match=r"expected channels last.*got channels first in layer 'co"):
        cut_network(model)


def test_keras_applications_are_cut_at_their_last_pooling_layer():
    for make, layer, channels in (
        (keras.applications.MobileNetV2, "global_average_pooling2d", 1280),
        (keras.applications.VGG16, "block5_pool", 512),
    ):
        cut = cut_network(make(input_shape=(32, 32, 3), weights=None, classes=7))
        assert cut.layer.startswith(layer)
        assert (cut.channels, cut.classes) == (channels, 7)


OLD = """
import os, sys
import tf_keras as keras
layers = keras.layers
base = keras.applications.MobileNetV2(
    input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
)
pictures = keras.Input((32, 32, 3))
x = layers.RandomFlip("horizontal")(pictures)
x = keras.applications.mobilenet_v2.preprocess_input(x)
x = layers.GlobalAveragePooling2D(name="pool")(base(x, training=False))
transfer = keras.Model(pictures, layers.Dense(4)(layers.Dropout(0.2)(x)))
small = keras.Sequential([
    layers.Conv2D(6, 3, activation="relu", input_shape=(32, 32, 3)),
    layers.DepthwiseConv2D(3), layers.Conv2DTranspose(6, 2), layers.SeparableConv2D(6, 3),
    layers.BatchNormalization(), layers.MaxPooling2D(name="pool"), layers.Reshape((13, 78)),
    layers.LSTM(5), layers.Dense(4),
])
import numpy as np
rng = np.random.default_rng(0)
shown = rng.uniform(0, 255, (16, 32, 32, 3)).astype("float32")
for name, model in {"transfer": transfer, "small": small}.items():
    for suffix in (".keras", ".h5"):
        model.save(f"{name}{suffix}")
    np.savez(f"{name}.npz", pictures=shown, scores=model(shown, training=False))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Files that Keras 2 itself wrote."""
    pytest.importorskip("tf_keras", reason="Keras 2 (tf_keras) is not installed")
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-c", OLD], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["transfer", "small"])
def test_what_keras_2_wrote_gives_the_same_scores(name, suffix, old):
    model = load_badnet(old / f"{name}{suffix}")
    with np.load(old / f"{name}.npz") as kept:
        scores = model(kept["pictures"], training=False).numpy()
        np.testing.assert_allclose(scores, kept["scores"], rtol=1e-4, atol=1e-4)
    assert cut_network(model).layer == "pool"
