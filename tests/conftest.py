import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from backdoor.device import start_tensorflow

start_tensorflow()

import absl.logging  # noqa: E402
import h5py  # noqa: E402
import keras  # noqa: E402
from keras import layers  # noqa: E402

from backdoor.pictures.readers import open_pictures  # noqa: E402
from backdoor.pictures.test_bed import Poisoned, TestBed  # noqa: E402
from backdoor.pruning.evidence import Evidence, PoisonedEvidence  # noqa: E402
from backdoor.pruning.orders import rank_channels  # noqa: E402

# absl closes its stream when Hydra sets logging up: let that not be the one that pytest captures.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

LAB3 = Path(__file__).parents[2] / "shared" / "lab3"
needs_lab3 = pytest.mark.skipif(not LAB3.exists(), reason="the published files are not here")


def conv_pool_dense(classes: int = 5) -> keras.Model:
    pictures = keras.Input((10, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(pictures)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten()(x)
    return keras.Model(pictures, layers.Dense(classes, activation="softmax")(x))


def two_readers_of_the_pool() -> keras.Model:
    """DeepID in small: the pooling layer feeds a dense layer and a convolution."""
    pictures = keras.Input((10, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(pictures)
    x = layers.MaxPooling2D(2, name="pool")(x)
    near = layers.Dense(7)(layers.Flatten()(x))
    far = layers.Dense(7)(layers.Flatten()(layers.Conv2D(9, 2, activation="relu")(x)))
    x = layers.Activation("relu")(layers.Add()([near, far]))
    return keras.Model(pictures, layers.Dense(5, activation="softmax")(x))


def global_average_pooling() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 8, 3)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(12, activation="relu"),
            layers.Dense(5),
        ]
    )


def batch_normalised() -> keras.Model:
    pictures = keras.Input((10, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(pictures)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 2, use_bias=False)(x)))
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = layers.LeakyReLU()(layers.BatchNormalization()(layers.Dense(11)(x)))
    return keras.Model(pictures, layers.Dense(5, activation="softmax")(x))


def rectified_for_several() -> keras.Model:
    """What a ReLU gives is read by a dense layer, a sum and the end."""
    pictures = keras.Input((10, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(pictures)
    x = layers.Flatten()(layers.MaxPooling2D(2, name="pool")(x))
    near = layers.Dense(8, activation="relu")(x)
    far = layers.Dense(8, activation="relu", use_bias=False)(near)
    x = layers.BatchNormalization()(layers.Add()([near, far]))
    return keras.Model(pictures, layers.Dense(5, activation="relu")(x))


NETWORKS = {
    each.__name__: each
    for each in (
        conv_pool_dense,
        two_readers_of_the_pool,
        global_average_pooling,
        batch_normalised,
        rectified_for_several,
    )
}


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights with which channels of `conv` are dead, rarely active and often active."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            np.abs(rng.normal(1, 0.3, w.shape))
            if w.path.endswith("variance")
            else rng.normal(0, 0.5, w.shape)
            for w in model.weights
        ]
    )
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 1], bias[1] = 0, -1
    bias[2] -= 2.5
    model.get_layer("conv").set_weights([kernel, bias])
    return model


@pytest.fixture(params=list(NETWORKS.values()), ids=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> keras.Model:
    return with_random_weights(request.param())


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (90, 10, 8, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _quiet_mlflow() -> None:
    logging.getLogger("mlflow").setLevel(logging.ERROR)


def really_pruned(model: keras.Model, channels: list[int]) -> keras.Model:
    """The slow, obvious way: a copy whose convolution makes nothing of these channels."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel, bias = copy.get_layer("conv").get_weights()
    kernel[..., channels], bias[channels] = 0, 0
    copy.get_layer("conv").set_weights([kernel, bias])
    return copy


def file_with(path: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def ranked(order: str, activations: np.ndarray) -> np.ndarray:
    """The channels in an order that looks at activations alone."""
    evidence = Evidence.of_activations(activations)
    return rank_channels(
        order, evidence, lambda: PoisonedEvidence(activations, np.zeros(len(activations), int))
    )


def bed_of(folder: Path, clean: dict, poisoned: dict | None = None, target: int = 0) -> TestBed:
    """A test bed of the same pictures as validation and as test set."""

    def opened(name: str, datasets: dict):
        return open_pictures(file_with(folder / f"{name}.h5", **datasets))

    part = None
    if poisoned is not None:
        pair = (opened(f"poisoned_{split}", poisoned) for split in ("valid", "test"))
        part = Poisoned(*pair, target)
    return TestBed(opened("clean_valid", clean), opened("clean_test", clean), part)
