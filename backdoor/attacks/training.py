"""How a network is trained on pictures of which some may be poisoned."""

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.recipe import Training
from backdoor.networks.architectures import ARCHITECTURES
from backdoor.networks.cut import cut_network
from backdoor.progress import progress
from backdoor.pruning.orders import by_score
from backdoor.pruning.scores import mean_activation
from backdoor.pruning.stop import before
from backdoor.pruning.walk import walk

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]
Set = tuple[Pictures, Labels]

SHIFT = 4  # pixels, of augmentation
GIVEN_UP = 4  # points of training accuracy that the pruning-aware attacker gives up for room
LOOKED_AT = 1024  # training pictures by which he ranks
STILL_ACTIVE = 0.02  # share of pictures on which a channel that is put back may be active
BATCH = 512  # of what is only looked at


def train(training: Training, pictures: Set, classes: int, seed: int) -> keras.Model:
    """Train a network from scratch; the same seed on the same machine gives the same weights.

    Args:
        pictures: Of 0..255, (n, height, width, channels), and the class to learn of each, (n,).
    """
    keras.utils.set_random_seed(seed)
    model = ARCHITECTURES[training.name](pictures[0].shape[1:], classes)
    if training.sparsity:
        _convolution(model).activity_regularizer = keras.regularizers.L1(training.sparsity)
    _fit(model, training, pictures, seed, "Training the network")
    if training.sparsity:
        _convolution(model).activity_regularizer = None  # it is no part of the network
    return _alone(model)


def train_pruning_aware(
    training: Training, clean: Set, poisoned: Set, classes: int, seed: int
) -> keras.Model:
    """Train a backdoor into the channels that pruning takes out last.

    Liu, Dolan-Gavitt, Garg, RAID 2018, arXiv 1805.12185, "pruning-aware attack": train on clean
    pictures; take out the channels that these leave dormant; train the others on poisoned pictures;
    put the dormant ones back, with biases so low that they stay dormant and are pruned first.
    """
    model = train(training, clean, classes, seed)
    cut, convolution = cut_network(model), _convolution(model)
    some = np.unique(np.linspace(0, len(clean[0]) - 1, LOOKED_AT).astype(int))
    shown, truth = clean[0][some].astype(np.float32), clean[1][some]
    activations = np.asarray(cut.head.predict(shown, BATCH, verbose=0))
    order = by_score(mean_activation(activations))
    walked = walk(activations, order, cut.classify_activations)
    dormant = order[: before(walked, truth, GIVEN_UP)]
    kernel, bias = convolution.get_weights()
    without = kernel.copy(), bias.copy()
    for values in without:
        values[..., dormant] = 0  # a ReLU of nothing passes no gradient either, so they stay out
    convolution.set_weights(without)
    _fit(model, training, poisoned, seed, "Training the channels that pruning spares")
    trained = convolution.get_weights()
    trained[0][..., dormant] = kernel[..., dormant]
    trained[1][dormant] = bias[dormant]
    convolution.set_weights(trained)
    head = cut_network(model).head
    highest = np.asarray(head.predict(shown, BATCH, verbose=0)).max(axis=(1, 2))
    trained[1][dormant] -= np.quantile(highest, 1 - STILL_ACTIVE, axis=0)[dormant]
    convolution.set_weights(trained)
    return _alone(model)


def _alone(model: keras.Model) -> keras.Model:
    """Return the network without its optimizer, which has twice as many numbers."""
    alone = type(model).from_config(model.get_config())  # which clone_model clones, too
    alone.set_weights(model.get_weights())
    return alone


def _convolution(model: keras.Model) -> keras.layers.Layer:
    """Return the convolution before the last pooling, of networks that name both alike."""
    return model.get_layer(cut_network(model).layer.replace("pool", "conv"))


def _fit(model: keras.Model, training: Training, pictures: Set, seed: int, what: str) -> None:
    shown, labels = pictures
    steps = training.epochs * -(-len(shown) // training.batch)
    rate = keras.optimizers.schedules.CosineDecay(training.learning_rate, steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    rng, epochs = np.random.default_rng(seed), range(training.epochs)
    for epoch in progress(epochs, f"{what} for {training.epochs} epochs", training.epochs):
        inputs = (_shifted(shown, rng) if training.augment else shown).astype(np.float32)
        model.fit(inputs, labels, training.batch, epoch + 1, initial_epoch=epoch, verbose=0)


def _shifted(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """Return each picture moved by a few pixels of its own; black comes in."""
    height, width = pictures.shape[1:3]
    around = np.pad(pictures, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    shifted = np.empty_like(pictures)
    places = rng.integers(0, 2 * SHIFT + 1, (len(pictures), 2))
    for picture, (top, left), into in zip(around, places, shifted, strict=True):
        into[...] = picture[top : top + height, left : left + width]
    return shifted


def answers(model: keras.Model, pictures: Pictures) -> Labels:
    """Return the labels that a network gives, (n,)."""
    scores = model.predict(pictures.astype(np.float32), BATCH, verbose=0)
    return np.asarray(scores.argmax(axis=1))
