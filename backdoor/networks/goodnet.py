"""The GoodNet: B where B and its pruned copy B' agree, else one class more, "backdoored"."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet, read_pictures

PRUNING = "pruning"  # name of the layer that takes channels out
BADNET, PRUNED, SCORES = "badnet", "pruned", "badnet_scores"  # names of layers of a GoodNet
CHECKED = 64  # pictures of each set on which a saved GoodNet is tried


def build_goodnet(network: CutNetwork, removed: Sequence[int]) -> keras.Model:
    """Return G: pictures to (n, N + 1), one-hot, so that argmax is the answer.

    It is made of Keras' own layers and operations alone, so it loads wherever Keras does, and of
    such as TFLite and ONNX have, too; B and B' share the head, and B' differs by a factor of 0 on
    the removed channels. What is compared are the layers BADNET and PRUNED; SCORES is what B gives
    each class.
    """
    pictures = keras.Input(network.model.input_shape[1:], name="pictures")
    activations = network.head(pictures)
    pruned_activations = pruning_layer(network, removed)(activations)
    scores = keras.layers.Identity(name=SCORES)(network.tail(activations))
    badnet = _label(scores, BADNET)
    pruned = _label(network.tail(pruned_activations), PRUNED)
    answer = keras.ops.where(keras.ops.equal(badnet, pruned), badnet, network.classes)
    return keras.Model(pictures, keras.ops.one_hot(answer, network.classes + 1), name="goodnet")


def _label(scores: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the first of the largest, as argmax does, whose bit operations TFLite has not."""
    _, labels = keras.ops.top_k(scores, 1)
    label = keras.ops.squeeze(labels, axis=-1)
    return keras.layers.Identity(dtype=label.dtype, name=name)(label)


def pruning_layer(network: CutNetwork, removed: Sequence[int]) -> keras.layers.Layer:
    """Return the layer that multiplies the removed channels by 0."""
    keep = np.ones(network.channels)
    keep[list(removed)] = 0
    return keras.layers.Rescaling(keep.tolist(), name=PRUNING)


def saved_and_loaded(
    model: keras.Model,
    path: Path,
    answers: Iterable[tuple[PictureSet, Labels]],
    rng: np.random.Generator,
) -> keras.Model:
    """Save a network and load it again.

    Args:
        answers: Sets of pictures, and the labels that it has to give them.

    Raises:
        RuntimeError: What was loaded does not answer a sample of each set as it has to.
    """
    model.save(path)
    loaded = keras.models.load_model(path)
    shown, expected = [], []
    for pictures, labels in answers:
        sample = rng.choice(len(pictures), min(CHECKED, len(pictures)), replace=False)
        shown.append(read_pictures(pictures, sample))
        expected.append(labels[sample])
    answered = np.asarray(loaded(np.concatenate(shown), training=False)).argmax(axis=1)
    differing = int((answered != np.concatenate(expected)).sum())
    if differing:
        raise RuntimeError(
            f"the saved {model.name}: expected its tracked labels on {len(answered)} pictures of "
            f"the test sets, got others on {differing}"
        )
    return loaded
