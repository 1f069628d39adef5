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
