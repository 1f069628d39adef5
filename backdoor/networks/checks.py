"""Whether a network and the pictures it is to be measured on belong together."""

from backdoor.errors import UserError
from backdoor.networks.cut import CutNetwork
from backdoor.networks.scaling import check_scale
from backdoor.pictures.picture_set import PictureSet, evenly, read_stored
from backdoor.pictures.scale import range_of
from backdoor.pictures.test_bed import CLEAN_VALID, Poisoned, TestBed
from backdoor.versions import version

GOODNET = "goodnet"
FEW = 64  # pictures by which a set's range is told


@version(1)
def check_bed(network: CutNetwork, bed: TestBed) -> list[str]:
    """Refuse pictures, labels, a target or a scale that the network cannot have been made for.

    Returns:
        Warnings of what is only doubtful.

    Raises:
        UserError: The message says what does not fit.
    """
    for pictures in bed.sets.values():
        check_pictures(network, pictures)
    if bed.clean_valid.names != bed.clean_test.names:
        raise UserError(
            f"{bed.clean_test.path}: expected the classes of {bed.clean_valid.path}, in the same "
            f"order, found others; name them in a classes.txt beside each"
        )
    ranges = {name: range_of(read_stored(s, evenly(s, FEW))) for name, s in bed.sets.items()}
    for name, found in ranges.items():
        if found != ranges[CLEAN_VALID]:
            raise UserError(
                f"{bed.sets[name].path}: expected numbers in the range of "
                f"{bed.clean_valid.path} ({ranges[CLEAN_VALID]}), got another ({found})"
            )
    if bed.poisoned is not None:
        _check_sides(bed, bed.poisoned)
        check_target(network, bed.poisoned)
    warnings = [check_scale(network, pictures) for pictures in (bed.clean_valid, bed.clean_test)]
    return [warning for warning in warnings if warning]


def _check_sides(bed: TestBed, poisoned: Poisoned) -> None:
    """Refuse clean and poisoned pictures that were given in each other's place."""
    target = poisoned.target
    if target is None:
        return
    clean_has_one = (bed.clean_valid.labels == target).all()
    if clean_has_one and (poisoned.valid.labels != target).any():
        raise UserError(
            f"{bed.clean_valid.path}: expected clean pictures of several classes, got the target "
            f"{target} alone, and several classes in {poisoned.valid.path}; are clean and "
            f"poisoned files swapped?"
        )


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
    of_goodnet = network.model.name == GOODNET  # whose last class is "backdoored"
    named = network.classes if pictures.names is None else len(pictures.names)
    if pictures.names is not None and named not in (network.classes, network.classes - of_goodnet):
        raise UserError(
            f"{pictures.path}: expected the network's {network.classes} classes, found "
            f"{len(pictures.names)} ({', '.join(pictures.names[:5])}, ...); name all of them in "
            f"classes.txt beside the pictures, a class a line in the network's order"
        )
    for labels in (pictures.labels, pictures.true_labels):
        if labels is not None and labels.max() >= network.classes:
            raise UserError(
                f"{pictures.path}: expected labels of the network's {network.classes} classes, 0 "
                f"to {network.classes - 1}, got {labels.max()}"
            )


def check_target(network: CutNetwork, poisoned: Poisoned) -> None:
    """Refuse a target that was told and is no class, or not the label of the poisoned pictures.

    Raises:
        UserError: The message says which it is.
    """
    target = poisoned.target
    if target is None:
        return
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


def check_suspect(network: CutNetwork, suspect: int | None) -> None:
    """Refuse a suspected class that is none.

    Raises:
        UserError: The message says which there are.
    """
    if suspect is not None and not 0 <= suspect < network.classes:
        raise UserError(
            f"suspect: expected auto or a class of the network, 0 to {network.classes - 1}, got "
            f"{suspect}"
        )
