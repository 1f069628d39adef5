import keras
import numpy as np
import pytest
from conftest import (
    conv_pool_dense,
    file_with,
    ranked,
    with_random_weights,
)
from keras import layers

from backdoor.errors import UserError
from backdoor.networks.cut import compute_activations, cut_network, fingerprint
from backdoor.pictures.picture_set import (
    CHUNK,
)
from backdoor.pictures.readers import open_pictures


def test_tail_behind_head_is_the_network(network, pictures):
    cut = cut_network(network)
    whole = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(cut.tail(cut.head(pictures)), whole, rtol=1e-5, atol=1e-6)
    assert (cut.layer, cut.classes, cut.channels) == ("pool", 5, 6)
    assert cut.picture_shape == (10, 8, 3)


def test_a_bad_picture_that_is_read_while_others_are_computed_is_refused(tmp_path):
    data = np.zeros((9 * CHUNK, 3, 10, 8), np.float32)
    data[8 * CHUNK] = np.nan
    path = file_with(tmp_path / "a.h5", data=data, label=np.zeros(len(data)))
    with pytest.raises(UserError, match=f"NaN or infinity in picture {8 * CHUNK}"):
        compute_activations(cut_network(conv_pool_dense()), open_pictures(path))


def test_ranking_is_on_the_pooling_layer_and_not_on_its_convolution(tmp_path):
    # One peak in 2 x 2 pixels survives the pooling whole, an even 0.5 does not grow by it.
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Conv2D(2, 1, name="conv"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    model.get_layer("conv").set_weights([np.float32([[[[1, 0]]]]), np.float32([0, 0.5])])
    peak = np.float32([[1, 0], [0, 0]]).reshape(1, 2, 2, 1)
    data = open_pictures(file_with(tmp_path / "a.h5", data=peak, label=[0]))
    activations = compute_activations(cut_network(model, model.layers[1].name), data)
    assert ranked("asc", activations).tolist() == [1, 0]
    assert ranked(
        "asc", keras.Model(model.inputs[0], model.layers[0].output)(peak).numpy()
    ).tolist() == [0, 1]


def test_another_pooling_layer_can_be_named_and_a_wrong_one_is_answered_with_the_choices():
    x = pictures = keras.Input((12, 12, 3))
    for number in (1, 2):
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(layers.Conv2D(4, 3)(x))
    model = keras.Model(pictures, layers.Dense(3)(layers.Flatten()(x)), name="two")
    assert cut_network(model).layer == "pool_2"
    assert cut_network(model, "pool_1").layer == "pool_1"
    with pytest.raises(
        UserError,
        match="no layer 'pool_9' to cut at in two; the pooling layers there are: pool_1, pool_2",
    ):
        cut_network(model, "pool_9")


def test_a_layer_that_others_lead_past_is_not_eligible():
    pictures = keras.Input((8, 8, 3))
    a = layers.MaxPooling2D(2, name="first")(pictures)
    b = layers.AveragePooling2D(2, name="second")(pictures)
    c = layers.GlobalMaxPooling2D(name="last")(layers.Add()([a, b]))
    model = keras.Model(pictures, layers.Dense(3)(c))
    with pytest.raises(UserError, match="there are: last"):
        cut_network(model, "first")


def test_networks_that_cannot_be_cut_are_refused():
    pictures = keras.Input((8, 8, 3))
    flat = layers.Flatten()(pictures)
    with pytest.raises(UserError, match="expected a pooling layer or convolution that all paths"):
        cut_network(keras.Model(pictures, layers.Dense(3)(flat)))
    with pytest.raises(UserError, match="expected one input and one output, got 1 and 2"):
        cut_network(keras.Model(pictures, [layers.Dense(3)(flat), layers.Dense(3)(flat)]))
    with pytest.raises(UserError, match="expected an output of 2 axes"):
        cut_network(keras.Model(pictures, layers.MaxPooling2D(2)(pictures)))
    with pytest.raises(UserError, match="expected an input of 4 axes"):
        cut_network(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))


def test_the_fingerprint_changes_with_the_weights_and_with_nothing_else(tmp_path):
    model = with_random_weights(conv_pool_dense())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert fingerprint(loaded) == fingerprint(model)
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] += 1e-3
    loaded.set_weights(weights)
    assert fingerprint(loaded) != fingerprint(model)
