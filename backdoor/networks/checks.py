"""Whether a network and the pictures it is to be measured on belong together."""

import numpy as np

from backdoor.errors import UserError
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet, read_pictures
from backdoor.pictures.test_bed import Poisoned, TestBed

SAMPLE = 512  # pictures on which the scale is tried


def check_bed(network: CutNetwork, bed: TestBed) -> None:
    """Refuse pictures, labels, a target or a scale that the network cannot have been made for.

    Raises:
        UserError: The message says what does not fit.
    """
    for pictures in bed.sets.values():
        check_pictures(network, pictures)
    if bed.poisoned is not None:
        check_target(network, bed.poisoned)
    for pictures in (bed.clean_valid, bed.clean_test):
        check_scale(network, pictures)


def check_pictures(network: CutNetwork, pictures: PictureSet) -> None:
    """Refuse pictures or labels that the network cannot have been made for.

    Raises:
        UserError: The size of the pictures or a label does not fit the network.
    """
    expected = network.picture_shape
    fits = all(want in (None, got) for want, got in zip(expected, pictures.shape, strict=True))
    if not fits:
        raise UserError(
            f"{pictures.path}: expected pictures of {expected} (height, width, channels), which "
            f"the network takes, got {pictures.shape}"
        )
    for labels in (pictures.labels, pictures.true_labels):
        if labels is not None and labels.max() >= network.classes:
            raise UserError(
                f"{pictures.path}: expected labels of the network's {network.classes} classes, 0 "
                f"to {network.classes - 1}, got {labels.max()}"
            )


def check_target(network: CutNetwork, poisoned: Poisoned) -> None:
    """Refuse a target that is no class, or not the label of the poisoned pictures.

    Raises:
        UserError: The message says which it is.
    """
    target = poisoned.target
    if not 0 <= target < network.classes:
        raise UserError(
            f"dataset.target: expected a class of the network, 0 to {network.classes - 1}, got "
            f"{target}"
        )
    for pictures in (poisoned.valid, poisoned.test):
        others = pictures.labels[pictures.labels != target]
        if len(others):
            raise UserError(
                f"{pictures.path}: expected dataset.target={target} as label of every poisoned "
                f"picture, got {others[0]}"
            )


def check_scale(network: CutNetwork, pictures: PictureSet) -> None:
    """Refuse pictures on which the network does as if their numbers had the wrong scale.

    A wrong scale gives no error, only nonsense: 0 %, or 42 % where 98 % is right. A sample of the
    clean pictures is tried at the other scale, too.

    Raises:
        UserError: Accuracy is near chance, or much better at the other scale; or all pictures are
            of one class, which tells nothing.
    """
    if (pictures.labels == pictures.labels[0]).all():
        raise UserError(
            f"{pictures.path}: expected pictures of two classes or more, got only "
            f"{pictures.labels[0]}"
        )
    sample = np.unique(np.linspace(0, len(pictures) - 1, SAMPLE).astype(int))
    truth = pictures.labels[sample]
    values = read_pictures(pictures, sample)
    factor = 1 / 255 if pictures.divide_by == 1 else pictures.divide_by
    here, there = (
        float((network.classify_pictures(scaled) == truth).mean())
        for scaled in (values, values * np.float32(factor))
    )
    chance = max(1 / network.classes, np.bincount(truth).max() / len(truth))
    advice = f"expected dataset.divide_by={255 if pictures.divide_by == 1 else 1}"
    if there > here + 0.1:
        raise UserError(
            f"{pictures.path}: {advice}, which gives an accuracy of {there:.1%} on {len(sample)} "
            f"pictures, got divide_by={pictures.divide_by:g}, which gives {here:.1%}"
        )
    if here <= chance + 0.1 * (1 - chance):
        raise UserError(
            f"{pictures.path}: expected pictures and labels that the network was trained for, got "
            f"an accuracy of {here:.1%} on {len(sample)} pictures, near chance ({chance:.1%}); "
            f"likely causes: a wrong dataset.divide_by (got {pictures.divide_by:g}), labels or "
            f"network of another data set"
        )
