"""Networks with channels removed: what a user of the network takes in its place."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.evaluation import mcnemar
from backdoor.networks.cut import CutNetwork
from backdoor.networks.ends import TWO_CLASSES
from backdoor.networks.goodnet import pruning_layer
from backdoor.networks.graph import layers_of
from backdoor.networks.slim import slim_model

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

HELD_OUT = 0.2  # of the pictures of a fine-tuning, by which it stops
RATE, BATCH, EPOCHS, PATIENCE = 3e-4, 64, 20, 5
SURE = 0.05  # chance makes a network that much worse more rarely


@dataclass(frozen=True, eq=False)
class Clean:
    """What a repair may learn from.

    Attributes:
        pictures: Clean validation pictures as the network takes them, read when asked for.
        labels: Their classes, shape (n,).
    """

    pictures: Callable[[], Array]
    labels: NDArray[np.int64]
    seed: int


def prune(network: CutNetwork, removed: Sequence[int], clean: Clean) -> keras.Model:
    """Return B' by a mask, which learns from nothing."""
    return masked(network, removed)


def masked(network: CutNetwork, removed: Sequence[int]) -> keras.Model:
    """Return B' by a mask: B with a factor of 0 on the removed channels."""
    pictures = keras.Input(network.picture_shape, name="pictures")
    scores = network.tail(pruning_layer(network, removed)(network.head(pictures)))
    return keras.Model(pictures, scores, name="repaired")


def slim(network: CutNetwork, removed: Sequence[int], clean: Clean) -> keras.Model:
    """Return B' without the removed channels' numbers: the same labels, a smaller network.

    Raises:
        UserError: The layers around the cut are of no known kind, or no channel would be left.
    """
    return slim_model(network, removed)


def finetune(network: CutNetwork, removed: Sequence[int], clean: Clean) -> keras.Model:
    """Return B' trained on clean validation pictures: the second half of Fine-Pruning.

    Liu, Dolan-Gavitt, Garg, RAID 2018, arXiv 1805.12185. A part of the pictures is held out, and
    the weights are those of the epoch with the least loss on it; where they are worse there than
    the ones before, those are kept.
    """
    model = _copied(prune(network, removed, clean))
    order = np.random.default_rng(clean.seed).permutation(len(clean.labels))
    held_out = max(1, round(HELD_OUT * len(order)))
    if len(order) <= held_out:
        raise UserError(
            f"repair: expected two clean validation pictures or more to fine-tune on, got "
            f"{len(order)}"
        )
    pictures = clean.pictures()
    held = (pictures[order[:held_out]], clean.labels[order[:held_out]])
    model.compile(keras.optimizers.Adam(RATE), _loss_of(model, pictures[:BATCH]))
    before, right = model.get_weights(), _right(model, *held)
    stopping = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
    keras.utils.set_random_seed(clean.seed)
    model.fit(
        pictures[order[held_out:]],
        clean.labels[order[held_out:]],
        BATCH,
        EPOCHS,
        validation_data=held,
        callbacks=[stopping],
        verbose=0,
    )
    after = _right(model, *held)
    if after.sum() < right.sum() and mcnemar(right, after) < SURE:
        log.warning("fine-tuning made the network worse on the pictures held out: left as it was")
        model.set_weights(before)
    return model


def finetune_only(network: CutNetwork, removed: Sequence[int], clean: Clean) -> keras.Model:
    """Return B trained on clean validation pictures and not pruned: the control of `finetune`."""
    return finetune(network, [], clean)


REPAIRS: dict[str, Callable[[CutNetwork, Sequence[int], Clean], keras.Model]] = {
    "prune": prune,
    "slim": slim,
    "finetune": finetune,
    "finetune_only": finetune_only,
}
"""Each takes the network, the channels to remove and clean pictures, and returns a new model. Who
changes what one returns raises `versions.REPAIR`."""

LABELS_OF_PRUNED = ("prune", "slim")  # which answer as B' does


def _copied(model: keras.Model) -> keras.Model:
    """Return the same network with weights of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = True  # layers that were frozen for training, too
    for path, layer in layers_of(copy):
        if path.endswith(TWO_CLASSES):
            layer.trainable = False
    return copy


def _right(model: keras.Model, pictures: Array, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(model.predict(pictures, verbose=0).argmax(axis=1) == labels)


def _loss_of(model: keras.Model, some: Array) -> keras.losses.Loss:
    """Return the cross-entropy for what the network gives: probabilities or logits."""
    scores = np.asarray(model(some, training=False))
    probabilities = (scores >= 0).all() and (scores <= 1).all()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)
