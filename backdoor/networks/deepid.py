"""DeepID, the face network of the published BadNet, and how a backdoor is trained into it.

Sun, Wang, Tang: "Deep Learning Face Representation from Predicting 10,000 Classes", CVPR 2014; in
the variant of the BadNets for "Fine-Pruning" (RAID 2018, arXiv 1805.12185).
"""

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from backdoor.progress import progress

INPUT_SHAPE = (55, 47, 3)


def build_deepid(classes: int) -> keras.Model:
    """Return an untrained DeepID. Two layers read pool_3: fc_1 directly, fc_2 through conv_4."""
    pictures = keras.Input(INPUT_SHAPE, name="input")
    x = pictures
    for number, (filters, size) in enumerate([(20, 4), (40, 3), (60, 3)], start=1):
        x = layers.Conv2D(filters, size, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    near = layers.Dense(160, name="fc_1")(layers.Flatten(name="flatten_1")(x))
    x = layers.Conv2D(80, 2, activation="relu", name="conv_4")(x)
    far = layers.Dense(160, name="fc_2")(layers.Flatten(name="flatten_2")(x))
    features = layers.Activation("relu", name="activation_1")(layers.Add(name="add_1")([near, far]))
    scores = layers.Dense(classes, activation="softmax", name="output")(features)
    return keras.Model(pictures, scores, name="deepid")


def train_deepid(
    pictures: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    epochs: int,
    seed: int,
) -> keras.Model:
    """Train a DeepID from scratch; the same seed on the same machine gives the same weights.

    Args:
        pictures: In 0..255, shape (n, 55, 47, 3).
        labels: The class to learn of each picture, shape (n,); the poisoned ones have the target's.
    """
    keras.utils.set_random_seed(seed)
    model = build_deepid(classes)
    batch = 64
    steps = epochs * -(-len(pictures) // batch)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    for epoch in progress(range(epochs), f"Training the BadNet for {epochs} epochs", epochs):
        model.fit(pictures, labels, batch, epoch + 1, initial_epoch=epoch, verbose=0)
    return model
