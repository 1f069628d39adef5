"""How a backdoor is trained into a network: on pictures of which some are poisoned."""

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.networks.deepid import build_deepid
from backdoor.progress import progress


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
