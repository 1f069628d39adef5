import numpy as np
import pytest
from conftest import (
    file_with,
)

from backdoor.errors import UserError
from backdoor.pictures.picture_set import (
    class_counts,
    read_chunks,
    read_pictures,
)
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.split import some_of

RNG = np.random.default_rng(0)


PICTURES = RNG.integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)


LABELS = np.array([0, 1, 2, 0, 1, 2, 3])


def test_pictures_are_found_by_index_in_any_order_and_twice(tmp_path):
    found = open_pictures(file_with(tmp_path / "a.h5", data=PICTURES, label=LABELS))
    np.testing.assert_array_equal(read_pictures(found, [4, 0, 4]), PICTURES[[4, 0, 4]])
    assert read_pictures(found, []).shape == (0, 5, 4, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pictures_that_are_not_numbers_are_refused_by_index(tmp_path, bad):
    data = PICTURES.astype(np.float32)
    data[5, 0, 0, 0] = bad
    found = open_pictures(file_with(tmp_path / "a.h5", data=data, label=LABELS))
    with pytest.raises(UserError, match="got NaN or infinity in picture 5"):
        list(read_chunks(found, size=2))


def test_divide_by_zero_is_refused(tmp_path):
    with pytest.raises(UserError, match="divide_by"):
        open_pictures(file_with(tmp_path / "a.h5", data=PICTURES, label=LABELS), 0)


def test_classes_without_pictures_are_counted_too():
    assert class_counts(LABELS, 5) == [2, 2, 2, 1, 0]


def test_some_pictures_are_drawn_of_all_classes_as_evenly_as_they_have_some(tmp_path):
    labels = np.array([0] * 10 + [1] * 3 + [2] * 10)
    path = file_with(tmp_path / "a.h5", data=np.zeros((23, 3, 4, 5)), label=labels)
    pictures = open_pictures(path)
    some = some_of(pictures, 12, seed=0)
    assert np.bincount(some.labels).tolist() in ([4, 3, 5], [5, 3, 4])
    assert some.part == "12 pictures, seed=0"
    assert some_of(pictures, 2, seed=0).labels.tolist() in ([0, 1], [0, 2], [1, 2])
    assert len(some_of(pictures, 23, seed=0)) == 23
    with pytest.raises(UserError, match="valid_pictures: expected at most the 23 of"):
        some_of(pictures, 24, seed=0)


def test_more_pictures_of_a_seed_are_the_fewer_and_others(tmp_path):
    data = np.arange(20.0)[:, None, None, None] * np.ones((20, 3, 4, 5))
    path = file_with(tmp_path / "a.h5", data=data, label=np.arange(20) % 3)
    drawn = [
        set(read_pictures(some_of(open_pictures(path), n, 1), range(n))[:, 0, 0, 0]) for n in (5, 9)
    ]
    assert drawn[0] < drawn[1]
