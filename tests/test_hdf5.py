import h5py
import numpy as np
import pytest
from conftest import (
    file_with,
)
from test_picture_set import LABELS, PICTURES

from backdoor.errors import UserError
from backdoor.pictures.picture_set import (
    read_chunks,
)
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.hdf5 import write_pictures


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("label_dtype", ["int32", "float64", "uint16"])
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("divide_by", [1, 255])
def test_any_layout_gives_the_same_input(tmp_path, dtype, label_dtype, channels_first, divide_by):
    stored = PICTURES.transpose(0, 3, 1, 2) if channels_first else PICTURES
    labels = LABELS.astype(label_dtype)
    found = open_pictures(
        file_with(tmp_path / "a.h5", data=stored.astype(dtype), label=labels), divide_by
    )
    chunks = list(read_chunks(found, size=3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        np.concatenate(chunks), PICTURES.astype(np.float32) / np.float32(divide_by)
    )
    assert found.shape == (5, 4, 3)
    assert found.labels.dtype == np.int64
    np.testing.assert_array_equal(found.labels, LABELS)


def test_what_is_written_is_read_and_is_in_the_courses_layout(tmp_path):
    path = tmp_path / "new" / "a.h5"
    write_pictures(path, iter([PICTURES[:4], PICTURES[4:]]), LABELS, true_label=LABELS[::-1])
    found = open_pictures(path)
    np.testing.assert_array_equal(np.concatenate(list(read_chunks(found))), PICTURES)
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.true_labels, LABELS[::-1])
    with h5py.File(path) as file:
        assert file["data"].shape == (7, 3, 5, 4)
    assert [each.name for each in path.parent.iterdir()] == ["a.h5"]


def test_a_label_without_a_picture_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="expected 8 pictures, one a label, got 7"):
        write_pictures(tmp_path / "a.h5", [PICTURES], np.append(LABELS, 0))
    assert not list(tmp_path.iterdir())


BROKEN = {
    "no data": ({"label": LABELS}, "expected a dataset 'data', found label"),
    "no label": ({"data": PICTURES}, "expected a dataset 'label', found data"),
    "pictures in words": ({"data": [b"a"] * 7, "label": LABELS}, "expected numbers in 'data'"),
    "rank 2": ({"data": PICTURES[0, 0], "label": LABELS[:4]}, "expected 'data' of shape"),
    "two channels": ({"data": PICTURES[..., :2], "label": LABELS}, "with 1 or 3 channels"),
    "empty": ({"data": PICTURES[:0], "label": LABELS[:0]}, "at least one picture"),
    "fewer labels": ({"data": PICTURES, "label": LABELS[:3]}, r"'label' of shape \(7,\)"),
    "labels of two": ({"data": PICTURES, "label": np.ones((7, 2))}, "a single 1 in each row of 2"),
    "labels by three": ({"data": PICTURES, "label": LABELS[:, None, None]}, r"got \(7, 1, 1\)"),
    "negative": ({"data": PICTURES, "label": LABELS - 1}, "got -1 at 0"),
    "fraction": ({"data": PICTURES, "label": LABELS + 0.5}, r"got 0\.5 at 0"),
    "label nan": ({"data": PICTURES, "label": [*LABELS[:-1], np.nan]}, "got nan at 6"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_what_was_found(tmp_path, name):
    datasets, message = BROKEN[name]
    path = file_with(tmp_path / "broken.h5", **datasets)
    with pytest.raises(UserError, match=message) as caught:
        open_pictures(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_one_that_is_no_hdf5_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="found no such file"):
        open_pictures(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(UserError, match="expected an HDF5 file of pictures"):
        open_pictures(tmp_path / "text.h5")
