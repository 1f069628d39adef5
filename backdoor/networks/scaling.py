"""Which scale of the pictures a network was trained for: tried on clean validation pictures."""

import logging
from collections.abc import Mapping

import keras
import numpy as np
import scipy  # whose parts are loaded at their first use
from numpy.typing import NDArray

from backdoor.errors import UnfitError
from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork
from backdoor.networks.graph import calls_of
from backdoor.pictures.picture_set import PictureSet, evenly, read_stored
from backdoor.pictures.scale import STORED, Scale, scales_of

log = logging.getLogger(__name__)

MOST, FEWEST = 512, 128  # pictures that are tried
NUMBERS = 2**25  # of pictures that are tried, so that large ones are fewer
GOOD = 0.9  # an accuracy with which no other scale is tried
BETTER = 0.1  # how much more accurate another scale has to be to be meant
PAIRED, PICTURES_TO_PAIR = 0.8, 10  # accuracy with classes in another order; pictures a class
FITTING = "expected pictures and labels that the network was trained for"
SURE = 0.05  # two scales are told apart where chance makes such a difference more rarely

Right = Mapping[str, NDArray[np.bool_]]


def find_scale(network: CutNetwork, pictures: PictureSet) -> Scale:
    """Return the scale in which the network is right most often.

    Two are told apart by McNemar's exact test on the same pictures. A network that begins with a
    Rescaling or Normalization of its own takes pictures as they are stored, where that is as good.

    Raises:
        UserError: Two are too near each other, or even the best is near chance; the message shows
            how often each is right, and says if another order of the classes would be the cause.
    """
    sample = sample_of(pictures)
    stored, truth = read_stored(pictures, sample), pictures.labels[sample]
    scales = scales_of(stored)
    answers = _answers(network, stored)
    right = {name: labels == truth for name, labels in answers.items()}
    best = max(right, key=lambda name: right[name].sum())
    shown = f"{_shown(right)} of {len(sample)} pictures"
    near = [name for name in right if name != best and not _apart(right[best], right[name])]
    if near_chance(network, truth, right[best].mean()):
        raise UnfitError(
            f"{pictures.path}: expected pictures, labels and a scale that the network was trained "
            f"for, but it is right on {shown}, the best of it near chance; "
            f"{_other_order(answers, truth) or 'a name fixes the scale, dataset.preprocess=NAME'}"
        )
    if STORED in (best, *near) and _scales_by_itself(network):
        best, near = STORED, []
    if near:
        raise UnfitError(
            f"{pictures.path}: expected one scale that fits the network best, but it is right on "
            f"{shown}, and {best} cannot be told from {', '.join(near)}; a name fixes the scale, "
            f"dataset.preprocess={best}"
        )
    log.info("dataset.preprocess=%s fits the network best: right on %s", best, shown)
    return scales[best]


def check_scale(network: CutNetwork, pictures: PictureSet) -> str:
    """Refuse pictures on which the network does as if their numbers had the wrong scale.

    A wrong scale gives no error, only nonsense: 0 %, or 42 % where 98 % is right.

    Returns:
        A warning of a network that is only poor, empty where there is nothing to warn of.

    Raises:
        UserError: Accuracy is much better in another scale, or no better than guessing; or all
            pictures are of one class, which tells nothing.
    """
    if (pictures.labels == pictures.labels[0]).all():
        raise UnfitError(
            f"{pictures.path}: expected pictures of two classes or more, got only "
            f"{pictures.labels[0]}"
        )
    sample = sample_of(pictures)
    stored, truth = read_stored(pictures, sample), pictures.labels[sample]
    given = network.classify_pictures(pictures.scale.apply(stored))
    here = float((given == truth).mean())
    if here >= GOOD:
        return ""
    answers = _answers(network, stored)
    there = {name: float((labels == truth).mean()) for name, labels in answers.items()}
    best = max(there, key=there.__getitem__)
    poor = f"an accuracy of {here:.1%} on {len(sample)} pictures of {pictures.path}, near chance"
    order = _other_order(answers, truth) if near_chance(network, truth, there[best]) else ""
    if order:
        raise UnfitError(f"{pictures.path}: {FITTING}, got {poor}; {order}")
    if there[best] > here + BETTER:
        raise UnfitError(
            f"{pictures.path}: expected {_advice(best, pictures.scale)}, which gives an accuracy "
            f"of {there[best]:.1%} on {len(sample)} pictures, got {pictures.scale.name}, which "
            f"gives {here:.1%}"
        )
    if here <= 1 / network.classes:
        raise UnfitError(
            f"{pictures.path}: {FITTING}, got {poor}; likely causes: a wrong scale (got "
            f"{pictures.scale.name}), labels or network of another data set"
        )
    if near_chance(network, truth, here):
        return f"the network gives {poor}: what follows says little"
    return ""


def sample_of(pictures: PictureSet) -> NDArray[np.int64]:
    """Return the indices of pictures on which a scale is tried."""
    size = int(np.prod(pictures.shape))
    return evenly(pictures, max(FEWEST, min(MOST, NUMBERS // size)))


def near_chance(network: CutNetwork, truth: NDArray[np.int64], accuracy: float) -> bool:
    """Tell whether an accuracy is about what always answering the most frequent class gives."""
    chance = max(1 / network.classes, float(np.bincount(truth).max()) / len(truth))
    return accuracy <= chance + 0.1 * (1 - chance)


def _answers(network: CutNetwork, stored: NDArray[np.float32]) -> dict[str, Labels]:
    """Return the network's labels of pictures in each scale that they may be brought to."""
    scales = scales_of(stored).items()
    return {name: network.classify_pictures(scale.apply(stored)) for name, scale in scales}


def _scales_by_itself(network: CutNetwork) -> bool:
    calls, _ = calls_of(network.model, keras.Input(network.picture_shape))
    return isinstance(calls[0].layer, keras.layers.Rescaling | keras.layers.Normalization)


def _other_order(answers: Mapping[str, Labels], truth: NDArray[np.int64]) -> str:
    """Say so if a network is right once its classes are put into another order; else nothing."""
    classes = 1 + max(int(truth.max()), *(int(labels.max()) for labels in answers.values()))
    if len(truth) < PICTURES_TO_PAIR * classes:
        return ""
    paired = {}
    for name, labels in answers.items():
        together = np.zeros((classes, classes))
        np.add.at(together, (truth, labels), 1)
        rows, columns = scipy.optimize.linear_sum_assignment(together, maximize=True)
        paired[name] = together[rows, columns].sum() / len(truth)
    best = max(paired, key=paired.__getitem__)
    if paired[best] < PAIRED:
        return ""
    return (
        f"if its classes stood in another order it would be right on {paired[best]:.1%} ({best}): "
        f"folders count by name; a classes.txt among them, a class a line, says another order"
    )


def _apart(better: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    gained, lost = int((better & ~other).sum()), int((other & ~better).sum())
    if not gained + lost:
        return False
    return bool(scipy.special.bdtr(lost, gained + lost, 0.5) < SURE)  # the sign test


def _shown(right: Right) -> str:
    return ", ".join(f"{values.mean():.1%} ({name})" for name, values in right.items())


def _advice(best: str, given: Scale) -> str:
    if given.name.startswith("divide_by") and best in (STORED, "unit"):
        return f"dataset.divide_by={1 if best == STORED else 255}"
    return f"dataset.preprocess={best}"
