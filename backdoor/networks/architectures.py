"""Networks to train, by name: each takes the pictures' shape and the number of classes.

They take numbers of 0..255 and give probabilities.
"""

from collections.abc import Callable

import keras
from keras import layers

from backdoor.networks.deepid import build_deepid

Shape = tuple[int, int, int]


def build_small_cnn(shape: Shape, classes: int) -> keras.Model:
    """Return two convolutions with pooling and two dense layers, as in many a first example."""
    pictures = keras.Input(shape, name="input")
    x = layers.Rescaling(1 / 255, name="unit")(pictures)
    for number, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    x = layers.Dense(128, activation="relu", name="fc_1")(layers.Flatten(name="flatten")(x))
    scores = layers.Dense(classes, activation="softmax", name="output")(x)
    return keras.Model(pictures, scores, name="small_cnn")


def build_resnet20(shape: Shape, classes: int) -> keras.Model:
    """Return the ResNet of 20 layers for small pictures.

    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2;
    with projections where the size changes.
    """
    pictures = keras.Input(shape, name="input")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scaled")(pictures)
    x = _normalised(x, 16, 3, 1)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            inner = _normalised(_normalised(x, filters, 3, stride), filters, 3, 1, active=False)
            passed = _normalised(x, filters, 1, stride, active=False) if stride > 1 else x
            x = layers.ReLU()(layers.Add()([inner, passed]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    scores = layers.Dense(classes, activation="softmax", name="output")(x)
    return keras.Model(pictures, scores, name="resnet20")


def _normalised(
    x: keras.KerasTensor, filters: int, size: int, stride: int, active: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    x = layers.BatchNormalization(momentum=0.9)(x)  # 0.99 lags behind in short training
    return layers.ReLU()(x) if active else x


ARCHITECTURES: dict[str, Callable[[Shape, int], keras.Model]] = {
    "deepid": lambda shape, classes: build_deepid(classes, shape),
    "small_cnn": build_small_cnn,
    "resnet20": build_resnet20,
}
