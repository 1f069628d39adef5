"""One set of clean pictures as two: to choose on, and to measure."""

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UnfitError, UserError
from backdoor.pictures.picture_set import PictureSet


def split_by_class(
    pictures: PictureSet, test_share: float, seed: int
) -> tuple[PictureSet, PictureSet]:
    """Return a validation and a test set with the given share of each class, drawn by a seed.

    Of a class with two pictures or more, each set has one at least.

    Raises:
        UserError: The share is not between 0 and 1, or a set would be empty.
    """
    if not 0 < test_share < 1:
        raise UserError(f"dataset.test_share: expected between 0 and 1, got {test_share:g}")
    test = _drawn(pictures.labels, test_share, np.random.default_rng(seed))
    valid = np.setdiff1d(np.arange(len(pictures)), test)
    if not len(test) or not len(valid):
        raise UnfitError(
            f"{pictures.path}: expected classes with two pictures or more, to split into "
            f"validation and test, got {len(pictures)} pictures"
        )
    how = f"test_share={test_share:g} seed={seed}"
    return pictures.rows(valid, f"valid, {how}"), pictures.rows(test, f"test, {how}")


def some_of(pictures: PictureSet, count: int, seed: int) -> PictureSet:
    """Return so many pictures, drawn by a seed, of all classes as evenly as they have some.

    More pictures of the same seed are the fewer ones and others.

    Raises:
        UserError: There are not so many.
    """
    if count > len(pictures):
        raise UserError(
            f"valid_pictures: expected at most the {len(pictures)} of {pictures.path}, got {count}"
        )
    drawn = np.random.default_rng(seed).permutation(len(pictures))
    turn = np.empty(len(drawn), np.int64)  # the how manieth of its class each picture is
    for label in np.unique(pictures.labels):
        own = pictures.labels[drawn] == label
        turn[own] = np.arange(own.sum())
    rows = np.sort(drawn[np.argsort(turn, kind="stable")][:count])
    before = f"{pictures.part}, " if pictures.part else ""
    return pictures.rows(rows, f"{before}{count} pictures, seed={seed}")


def _drawn(labels: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    drawn = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        drawn.append(rng.permutation(rows)[:count])
    return np.sort(np.concatenate(drawn))
