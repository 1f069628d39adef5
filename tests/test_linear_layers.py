import keras
import numpy as np
import pytest
from keras import layers

from backdoor.networks.cut import cut_network
from backdoor.pruning import linear_layers
from backdoor.pruning.any_walk import linear_tail, walk_network
from backdoor.pruning.fast_walk import linear_walk
from backdoor.pruning.linear_layers import Rectified, dense
from backdoor.pruning.walk import walk


def plain(cut, activations, order):
    return walk(activations, order, cut.classify_activations)


def of_another_activation(x):
    return layers.Dense(7, activation="gelu")(layers.Flatten()(x))


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
        adapted_dense,
        pictures_of_any_size,
    ],
)
def test_a_network_with_layers_of_another_kind_behind_the_cut_is_walked_plainly(behind):
    pictures = keras.Input((None, None, 3) if behind is pictures_of_any_size else (10, 8, 3))
    x = layers.MaxPooling2D(2, name="pool")(layers.Conv2D(6, 3, name="conv")(pictures))
    cut = cut_network(keras.Model(pictures, layers.Dense(5)(behind(x))), "pool")
    assert linear_tail(cut.tail) is None
    activations = np.random.default_rng(0).normal(0, 1, (40, 4, 3, 6)).astype(np.float32)
    order = np.arange(6)
    np.testing.assert_array_equal(
        walk_network(cut, activations, order), plain(cut, activations, order)
    )


def test_a_layer_that_is_used_twice_behind_the_cut_is_translated_twice():
    pictures = keras.Input((10, 8, 3))
    x = layers.MaxPooling2D(2, name="pool")(layers.Conv2D(6, 3, name="conv")(pictures))
    cut = cut_network(keras.Model(pictures, layers.Dense(5)(layer_used_twice(x))))
    assert linear_tail(cut.tail) is not None
    activations = np.random.default_rng(0).normal(0, 1, (40, 4, 3, 6)).astype(np.float32)
    order = np.arange(6)
    walked = walk_network(cut, activations, order)
    np.testing.assert_array_equal(walked, plain(cut, activations, order))


def test_a_layer_that_stands_before_and_behind_the_cut_is_taken_where_it_stands(pictures):
    shown = keras.Input((10, 8, 3))
    relu = layers.ReLU()
    x = layers.MaxPooling2D(2, name="pool")(relu(layers.Conv2D(6, 3)(shown)))
    x = relu(layers.Dense(7)(layers.Flatten()(x)))
    cut = cut_network(keras.Model(shown, layers.Dense(5)(x)))
    assert linear_tail(cut.tail) is not None
    activations, order = np.asarray(cut.head(pictures)), np.arange(6)
    np.testing.assert_array_equal(
        walk_network(cut, activations, order), plain(cut, activations, order)
    )


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


def tail_of(*behind):
    activations = keras.Input((4, 3, 6))
    x = layers.Flatten()(activations)
    for layer in behind:
        x = layer(x)
    return keras.Model(activations, x)


KNOWN = {
    "dense": lambda: [layers.Dense(5)],
    "relu": lambda: [layers.Dense(9, activation="relu"), layers.Dense(5)],
    "relu6": lambda: [layers.Dense(9, activation="relu6"), layers.Dense(5)],
    "sigmoid": lambda: [layers.Dense(9, activation="sigmoid"), layers.Dense(5)],
    "tanh": lambda: [layers.Dense(9, activation="tanh"), layers.Dense(5)],
    "two": lambda: [layers.Dense(9, activation="tanh"), layers.Dense(7, "relu"), layers.Dense(5)],
    "leaky": lambda: [layers.Dense(9), layers.LeakyReLU(0.3), layers.Dense(5)],
    "normalised": lambda: [
        layers.Dense(9, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Dense(5, use_bias=False),
    ],
    "normalised first": lambda: [
        layers.Dropout(0.5),
        layers.Dense(9),
        layers.BatchNormalization(),
        layers.GaussianNoise(0.5),
        layers.Dense(7, activation="relu"),
        layers.Dense(5),
    ],
    "at the end": lambda: [layers.Dense(9, activation="relu"), layers.Dense(5, "sigmoid")],
    "softmax": lambda: [layers.Dense(9, activation="relu"), layers.Dense(5), layers.Softmax()],
}
LIKE_RELU = {
    "maximum": lambda: layers.ReLU(max_value=1.5),
    "slope": lambda: layers.ReLU(negative_slope=0.2),
    "threshold": lambda: layers.ReLU(threshold=0.5),
}


def after(pooling, *behind):
    activations = keras.Input((4, 3, 6))
    x = pooling(activations)
    for layer in behind:
        x = layer(x)
    return keras.Model(activations, x)


DIRECT = {
    "averaged, to scores": lambda: after(layers.GlobalAveragePooling2D(), layers.Dense(5)),
    "averaged, to a softmax": lambda: after(
        layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(5, "softmax")
    ),
    "averaged, hidden": lambda: after(
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(9, activation="tanh", use_bias=False),
        layers.Dense(5),
    ),
    "reshaped": lambda: after(layers.Reshape((12, 6)), layers.Flatten(), layers.Dense(5)),
    "two after another": lambda: after(layers.Flatten(), layers.Dense(9), layers.Dense(5, "relu")),
    "many inputs": lambda: tail_of(layers.Dense(9, activation="relu"), layers.Dense(5)),
}
OTHERS = {
    "two readers": lambda: two_readers(),
    "a largest": lambda: after(layers.GlobalMaxPooling2D(), layers.Dense(5)),
    "at each place": lambda: after(layers.Dense(3), layers.Flatten(), layers.Dense(5)),
    "averaged twice": lambda: after(
        layers.AveragePooling2D(2), layers.GlobalAveragePooling2D(), layers.Dense(5)
    ),
}


def two_readers():
    activations = keras.Input((4, 3, 6))
    x = layers.Flatten()(activations)
    return keras.Model(
        activations, layers.Dense(5)(layers.Add()([layers.Dense(9)(x), layers.Dense(9)(x)]))
    )


@pytest.mark.parametrize("name", [*DIRECT, *OTHERS])
def test_a_dense_layers_kernel_is_taken_as_it_is(name, monkeypatch):
    """Where it alone reads the activations, whatever its size; else a basis is pushed through."""
    tail = (DIRECT | OTHERS)[name]()
    activations = drawn(tail)
    monkeypatch.setattr(linear_layers, "LARGEST_SPREAD", 60**2)  # less than the 72 inputs
    linear = linear_layers.translated(tail)
    assert (linear is not None) == (name in DIRECT)
    if linear is None:
        return
    monkeypatch.undo()
    assert not linear.spread.flags.owndata  # a view of the kernel
    expected = np.asarray(tail(activations))
    scores = linear.score(linear.units(activations))
    if "softmax" in name:
        scores = np.asarray(keras.ops.softmax(scores))
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=1e-5)
    order = np.random.default_rng(0).permutation(6)
    walked = linear_walk(activations, order, linear, 2)
    np.testing.assert_array_equal(
        walked, walk(activations, order, lambda some: np.asarray(tail(some)).argmax(axis=1))
    )
    changed = activations.copy()
    changed[..., 2] = 0.7
    without = linear.with_channel(linear.units(activations), activations, 2, 0.7)
    np.testing.assert_allclose(without, linear.units(changed), rtol=1e-4, atol=1e-4)


def drawn(tail, seed=0):
    """Weights of which none is at its start, and activations of both signs."""
    rng = np.random.default_rng(seed)
    tail.set_weights(
        [
            np.abs(rng.normal(1, 0.3, w.shape))
            if w.path.endswith("variance")
            else rng.normal(0, 1, w.shape)
            for w in tail.weights
        ]
    )
    return rng.normal(0, 0.4, (30, 4, 3, 6)).astype(np.float32)


@pytest.mark.parametrize("name", KNOWN)
def test_layers_of_a_known_kind_give_the_same_scores(name, monkeypatch):
    """To the last digits, whether or not what is translated is tried before it is taken."""
    tail = tail_of(*KNOWN[name]())
    activations = drawn(tail)
    monkeypatch.setattr(linear_layers, "_agrees", lambda linear, tail: True)
    linear = linear_layers.translated(tail)
    scores = linear.score(linear.units(activations))
    expected = np.asarray(tail(activations))
    if name == "softmax":  # it is left out
        scores = np.asarray(keras.ops.softmax(scores))
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_array_equal(linear.classify(activations), expected.argmax(axis=1))
    changed = activations.copy()
    changed[..., 2] = 0
    without = linear.with_channel(linear.units(changed), changed, 2, 0.7)
    changed[..., 2] = 0.7
    np.testing.assert_allclose(without, linear.units(changed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LIKE_RELU)
def test_what_is_like_a_relu_is_not_taken_for_one(name, monkeypatch):
    tail = tail_of(layers.Dense(9), LIKE_RELU[name](), layers.Dense(5))
    drawn(tail)
    monkeypatch.setattr(linear_layers, "_agrees", lambda linear, tail: True)
    assert linear_layers.translated(tail) is None
    at_the_end = tail_of(layers.Dense(9, activation="relu"), layers.Dense(5, activation="gelu"))
    assert linear_layers.translated(at_the_end) is None
    plain_relu = tail_of(layers.Dense(9), layers.ReLU(), layers.Dense(5))
    assert linear_layers.translated(plain_relu) is not None


def test_a_translation_that_is_wrong_is_not_taken(monkeypatch):
    tail = tail_of(*KNOWN["leaky"]())
    drawn(tail)
    assert linear_layers.translated(tail) is not None
    monkeypatch.setattr(linear_layers, "_leaky", lambda values, slope: values)
    assert linear_layers.translated(tail) is None


def test_a_layer_too_large_for_a_matrix_of_its_own_is_left_to_keras(monkeypatch):
    tail = OTHERS["at each place"]()
    drawn(tail)
    inputs = 4 * 3 * 6
    for largest, fits in ((inputs**2, True), (inputs**2 - 1, False)):
        monkeypatch.setattr(linear_layers, "LARGEST_SPREAD", largest)
        assert (linear_layers.translated(tail) is not None) == fits
