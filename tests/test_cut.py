import math

import keras
import numpy as np
import pytest
from conftest import (
    conv_pool_dense,
    really_pruned,
    two_readers_of_the_pool,
    with_random_weights,
)
from keras import layers
from test_picture_set import file_with

from backdoor.networks.cut import (
    CutNetwork,
    check_pictures,
    check_scale,
    compute_activations,
    cut_network,
    fingerprint,
    walk_on_device,
)
from backdoor.pictures.picture_set import CHUNK, open_pictures
from backdoor.pruning.linear_layers import Rectified, dense
from backdoor.pruning.walk import BATCH, ORDERS, linear_walk, walk


def test_tail_behind_head_is_the_network(network, pictures):
    cut = cut_network(network)
    whole = network.predict(pictures, verbose=0)
    np.testing.assert_allclose(cut.tail(cut.head(pictures)), whole, rtol=1e-5, atol=1e-6)
    assert (cut.layer, cut.classes, cut.channels) == ("pool", 5, 6)
    assert cut.picture_shape == (10, 8, 3)


def plain(cut, activations, order):
    return walk(activations, order, cut.classify_activations)


def linear(cut, activations, order):
    assert cut.linear_tail is not None
    return linear_walk(activations, order, cut.linear_tail, threads=2)


def on_device(cut, activations, order):
    return walk_on_device(cut.tail, activations, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", [plain, linear, on_device, CutNetwork.walk])
def test_the_walk_is_that_of_networks_with_zeroed_convolutions(
    network, pictures, order, way, tmp_path
):
    path = file_with(tmp_path / "a.h5", data=pictures, label=np.zeros(len(pictures)))
    cut = cut_network(network)
    activations = compute_activations(cut, open_pictures(path))
    removed = ORDERS[order](activations)
    labels = way(cut, activations, removed)
    for k in range(len(removed) + 1):
        pruned = really_pruned(network, removed[:k].tolist())
        np.testing.assert_array_equal(labels[k], pruned.predict(pictures, verbose=0).argmax(axis=1))


def of_another_activation(x):
    return layers.Dense(7, activation="tanh")(layers.Flatten()(x))


def dense_at_each_place(x):
    x = layers.Dense(4, activation="relu")(layers.Dense(7, activation="relu")(x))
    return layers.Flatten()(x)


def two_convolutions(x):
    return layers.Flatten()(layers.Conv2D(4, 1)(layers.Conv2D(7, 2, activation="relu")(x)))


def sum_of_unlike_shapes(x):
    x = layers.Flatten()(x)
    return layers.Add()([layers.Dense(units, activation="relu")(x) for units in (8, 1)])


def layer_used_twice(x):
    dense = layers.Dense(8, activation="relu")
    return dense(dense(layers.Dense(8)(layers.Flatten()(x))))


def adapted_dense(x):
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    return layers.Dense(8, lora_rank=2)(x)


def pictures_of_any_size(x):
    return layers.GlobalMaxPooling2D()(x)


@pytest.mark.parametrize(
    "behind",
    [
        of_another_activation,
        dense_at_each_place,
        two_convolutions,
        sum_of_unlike_shapes,
        layer_used_twice,
        adapted_dense,
        pictures_of_any_size,
    ],
)
def test_a_network_with_layers_of_another_kind_behind_the_cut_is_walked_plainly(behind):
    pictures = keras.Input((None, None, 3) if behind is pictures_of_any_size else (10, 8, 3))
    x = layers.MaxPooling2D(2, name="pool")(layers.Conv2D(6, 3, name="conv")(pictures))
    cut = cut_network(keras.Model(pictures, layers.Dense(5)(behind(x))), "pool")
    assert cut.linear_tail is None
    activations = np.random.default_rng(0).normal(0, 1, (40, 4, 3, 6)).astype(np.float32)
    order = np.arange(6)
    np.testing.assert_array_equal(cut.walk(activations, order), plain(cut, activations, order))


def test_a_layer_that_stands_before_and_behind_the_cut_is_walked_plainly(pictures):
    shown = keras.Input((10, 8, 3))
    relu = layers.ReLU()
    x = layers.MaxPooling2D(2, name="pool")(relu(layers.Conv2D(6, 3)(shown)))
    x = relu(layers.Dense(7)(layers.Flatten()(x)))
    cut = cut_network(keras.Model(shown, layers.Dense(5)(x)))
    assert cut.linear_tail is None
    activations, order = np.asarray(cut.head(pictures)), np.arange(6)
    np.testing.assert_array_equal(cut.walk(activations, order), plain(cut, activations, order))


def test_infinite_activations_are_walked_plainly(network, pictures):
    cut = cut_network(network)
    activations, order = np.array(cut.head(pictures)), np.arange(6)
    activations[::7, ..., 3] = np.inf
    np.testing.assert_array_equal(cut.walk(activations, order), plain(cut, activations, order))


def test_a_batch_of_one_picture_and_several_batches_a_thread(pictures):
    cut = cut_network(with_random_weights(two_readers_of_the_pool()))
    several = math.ceil(2 * BATCH / len(pictures)) + 1
    activations = np.asarray(cut.head(np.tile(pictures, (several, 1, 1, 1))))[:-1]
    order = ORDERS["asc"](activations)
    expected = plain(cut, activations, order)
    np.testing.assert_array_equal(linear(cut, activations, order), expected)
    np.testing.assert_array_equal(linear(cut, activations[:1], order), expected[:, :1])


def test_a_bad_picture_that_is_read_while_others_are_computed_is_refused(tmp_path):
    data = np.zeros((9 * CHUNK, 3, 10, 8), np.float32)
    data[8 * CHUNK] = np.nan
    path = file_with(tmp_path / "a.h5", data=data, label=np.zeros(len(data)))
    with pytest.raises(ValueError, match=f"NaN or infinity in picture {8 * CHUNK}"):
        compute_activations(cut_network(conv_pool_dense()), open_pictures(path))


def test_rectified_columns_that_are_nowhere_positive_are_left_out():
    rng = np.random.default_rng(0)
    values, kernel = rng.normal(size=(9, 20)), rng.normal(size=(20, 4))
    negative = rng.random(20) < 0.5
    values[:, negative] = -np.abs(values[:, negative])
    expected = np.maximum(values, 0) @ kernel
    kernel[negative] = np.nan  # in a product, NaN times zero is NaN
    np.testing.assert_allclose(dense(Rectified(values), kernel), expected)


def test_a_value_that_is_not_a_number_stays_one():
    values = np.float32([[1, np.nan], [1, -1]])
    found = dense(Rectified(values), np.ones((2, 1), np.float32))
    assert np.isnan(found[0]).all()
    assert found[1] == 1


def test_ranking_is_on_the_pooling_layer_and_not_on_its_convolution(tmp_path):
    # One peak in 2 x 2 pixels survives the pooling whole, an even 0.5 does not grow by it.
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Conv2D(2, 1, name="conv"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
        ]
    )
    model.get_layer("conv").set_weights([np.float32([[[[1, 0]]]]), np.float32([0, 0.5])])
    peak = np.float32([[1, 0], [0, 0]]).reshape(1, 2, 2, 1)
    data = open_pictures(file_with(tmp_path / "a.h5", data=peak, label=[0]))
    activations = compute_activations(cut_network(model), data)
    assert ORDERS["asc"](activations).tolist() == [1, 0]
    assert ORDERS["asc"](
        keras.Model(model.inputs[0], model.layers[0].output)(peak).numpy()
    ).tolist() == [0, 1]


def test_another_pooling_layer_can_be_named_and_a_wrong_one_is_answered_with_the_choices():
    x = pictures = keras.Input((12, 12, 3))
    for number in (1, 2):
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(layers.Conv2D(4, 3)(x))
    model = keras.Model(pictures, layers.Dense(3)(layers.Flatten()(x)), name="two")
    assert cut_network(model).layer == "pool_2"
    assert cut_network(model, "pool_1").layer == "pool_1"
    with pytest.raises(
        ValueError, match="no pooling layer 'pool_9' to cut at in two; there are: pool_1, pool_2"
    ):
        cut_network(model, "pool_9")


def test_a_layer_that_others_lead_past_is_not_eligible():
    pictures = keras.Input((8, 8, 3))
    a = layers.MaxPooling2D(2, name="first")(pictures)
    b = layers.AveragePooling2D(2, name="second")(pictures)
    c = layers.GlobalMaxPooling2D(name="last")(layers.Add()([a, b]))
    model = keras.Model(pictures, layers.Dense(3)(c))
    with pytest.raises(ValueError, match="there are: last"):
        cut_network(model, "first")


def test_networks_that_cannot_be_cut_are_refused():
    pictures = keras.Input((8, 8, 3))
    flat = layers.Flatten()(pictures)
    with pytest.raises(ValueError, match="expected a network with a pooling layer"):
        cut_network(keras.Model(pictures, layers.Dense(3)(flat)))
    with pytest.raises(ValueError, match="expected one input and one output, got 1 and 2"):
        cut_network(keras.Model(pictures, [layers.Dense(3)(flat), layers.Dense(3)(flat)]))
    with pytest.raises(ValueError, match="expected an output of 2 axes"):
        cut_network(keras.Model(pictures, layers.MaxPooling2D(2)(pictures)))
    with pytest.raises(ValueError, match="expected an input of 4 axes"):
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


def test_pictures_and_labels_that_do_not_fit_the_network_are_refused(tmp_path):
    cut = cut_network(conv_pool_dense())
    fitting = np.zeros((4, 3, 10, 8))
    too_many = open_pictures(file_with(tmp_path / "a.h5", data=fitting, label=[0, 1, 2, 5]))
    with pytest.raises(ValueError, match="network's 5 classes, 0 to 4, got 5"):
        check_pictures(cut, too_many)
    smaller = open_pictures(
        file_with(tmp_path / "b.h5", data=fitting[:, :, 1:], label=[0, 1, 2, 3])
    )
    with pytest.raises(ValueError, match=r"expected pictures of \(10, 8, 3\).*got \(9, 8, 3\)"):
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
        ValueError, match=r"expected dataset\.divide_by=1, which gives an accuracy of 100\.0%"
    ):
        check_scale(brightness_classes(), open_pictures(path, 255))


def test_accuracy_near_chance_is_refused(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1))
    path = file_with(tmp_path / "a.h5", data=data, label=np.arange(50) % 2)
    with pytest.raises(ValueError, match="near chance"):
        check_scale(brightness_classes(), open_pictures(path))
