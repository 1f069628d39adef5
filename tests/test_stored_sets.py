import dataclasses
import gzip

import keras
import numpy as np
import pytest
from PIL import Image

from backdoor.errors import UserError
from backdoor.pictures.sources import PARTS, PUBLIC, Drawing, DrawnFaces
from backdoor.pictures.stored_sets import USUAL, StoredPictures

RNG = np.random.default_rng(0)
MNIST = Drawing("mnist", None, None, None, None, None, None, 0, False)


def idx(values):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def digits(count):
    """Pictures whose every pixel is ten times the class, and their classes."""
    labels = np.tile(np.arange(10, dtype=np.uint8), count)
    return np.broadcast_to(10 * labels[:, None, None], (len(labels), 28, 28)).copy(), labels


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 12), ("t10k", 6)):
        pictures, labels = digits(count)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pictures)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def taken(drawing):
    source = StoredPictures(drawing)
    for part in PARTS:
        labels = source.labels(part)
        pictures = source.pictures(part, np.arange(len(labels)), "")
        assert (pictures == 10 * labels[:, None, None, None]).all()
    return source


def counts(source):
    return [np.bincount(source.labels(part)).tolist() for part in PARTS]


def test_idx_files_packed_or_not_are_shared_out_by_class(folder):
    source = taken(dataclasses.replace(MNIST, root=str(folder)))
    assert counts(source) == [[12] * 10, [3] * 10, [3] * 10]
    assert source.names[:2] == ("digit 0", "digit 1")
    assert source.pictures("test", np.array([0]), "").shape == (1, 28, 28, 1)


def test_so_many_pictures_and_classes_are_taken(folder):
    few = {"classes": 3, "train_pictures": 5, "valid_pictures": 1, "test_pictures": 4}
    source = taken(dataclasses.replace(MNIST, root=str(folder), **few))
    assert counts(source) == [[5] * 3, [1] * 3, [4] * 3]
    assert len(source.names) == 3


def test_what_is_validated_on_is_not_what_is_tested_on(tmp_path, folder):
    pictures = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pictures)))
    source = StoredPictures(dataclasses.replace(MNIST, root=str(folder)))
    valid, test = (
        set(source.pictures(part, np.arange(30), "")[:, 0, 0, 0].tolist()) for part in PARTS[1:]
    )
    assert valid | test == set(range(60))
    assert not valid & test


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "train-labels-idx1-ubyte.gz in it"),
        (
            lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(digits(1)[1])),
            "a label for each picture, got 10 for 60",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"abcdefgh")),
            "expected an idx file of bytes with 3 axes",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(
                gzip.compress(idx(digits(1)[0]))[:20] + bytes(range(200))
            ),
            "expected an idx file of bytes",
        ),
        (
            lambda f: [
                (f / f"train-{name}").write_bytes(idx(values[:0]))
                for name, values in zip(
                    ("images-idx3-ubyte.gz", "labels-idx1-ubyte"), digits(1), strict=True
                )
            ],
            "expected an idx file of bytes",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(
                gzip.compress(idx(digits(1)[0]))[:40]
            ),
            "expected an idx file of bytes",
        ),
    ],
)
def test_what_is_no_such_folder_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message):
        StoredPictures(dataclasses.replace(MNIST, root=str(folder)))


def test_cifar_10_is_read_in_its_binary_version(tmp_path):
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.tile(np.arange(10), 2)
    records[:, 1:1025], records[:, 2049:] = 10, 30  # red, and blue
    inside = tmp_path / "cifar-10-batches-bin"
    inside.mkdir()
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        records.tofile(inside / name)
    drawing = dataclasses.replace(MNIST, source="cifar10", root=str(tmp_path))
    source = StoredPictures(drawing)
    assert np.bincount(source.labels("train")).tolist() == [10] * 10
    assert source.pictures("valid", np.array([3]), "")[0, 5, 5].tolist() == [10, 0, 30]
    (inside / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(UserError, match="expected records of 3073 bytes"):
        StoredPictures(drawing)


def test_one_s_own_pictures_are_split_by_class(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(20):
            picture = RNG.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / label / f"{number}.png")
    source = StoredPictures(
        dataclasses.replace(MNIST, source="pictures", root=str(tmp_path), size=16)
    )
    assert counts(source) == [[14] * 2, [3] * 2, [3] * 2]
    assert source.pictures("train", np.arange(28), "").shape == (28, 16, 16, 3)
    assert source.names == ["cat", "dog"]


def test_a_few_pictures_are_shared_out_and_too_few_are_an_error(tmp_path):
    for number in range(3):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 9), np.uint8)).save(tmp_path / f"cat/{number}.png")
    few = dataclasses.replace(MNIST, source="pictures", root=str(tmp_path), size=9)
    assert counts(StoredPictures(few)) == [[1], [1], [1]]
    (tmp_path / "cat/0.png").unlink()
    with pytest.raises(UserError, match="of class 0 for training, validation and test"):
        StoredPictures(few)


def test_what_is_given_is_served_before_the_rest_is_shared_out(folder):
    some = dataclasses.replace(MNIST, root=str(folder), test_pictures=5)
    assert counts(StoredPictures(some)) == [[12] * 10, [1] * 10, [5] * 10]


def test_without_folder_and_network_both_ways_are_said(monkeypatch):
    def no_network():
        raise OSError("URL fetch failure on https://...: no network")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", no_network)
    monkeypatch.setitem(USUAL, "fashion_mnist", USUAL["fashion_mnist"] / "none")
    with pytest.raises(UserError, match=r"keras.datasets, or its files .*dataset-fashion-mnist"):
        StoredPictures(dataclasses.replace(MNIST, source="fashion_mnist"))


def test_what_keras_has_is_taken_where_no_folder_is_given(monkeypatch):
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: (digits(4), digits(2)))
    source = taken(MNIST)
    assert [len(source.labels(part)) for part in PARTS] == [40, 10, 10]


@pytest.mark.skipif(
    not USUAL["fashion_mnist"].is_dir(), reason="Debian's dataset-fashion-mnist is not here"
)
def test_fashion_mnist_is_found_where_debian_puts_it():
    source = StoredPictures(dataclasses.replace(MNIST, source="fashion_mnist"))
    assert [len(source.labels(part)) for part in PARTS] == [60000, 5000, 5000]
    assert len(source.names) == len(PUBLIC["fashion_mnist"].names) == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "faces"}, "classes: expected a number for drawn faces"),
        ({"classes": 11}, "classes: expected at most the 10 of mnist, got 11"),
        ({"train_pictures": 0}, "train_pictures: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"size": 40}, "size: expected at least 8 for one's own pictures, null for others"),
        ({"source": "pictures", "size": 32}, "dataset.root: expected a folder or file"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(MNIST, **settings)


def test_more_pictures_than_there_are_is_an_error(folder):
    with pytest.raises(UserError, match="of class 0 for training, validation and test"):
        StoredPictures(dataclasses.replace(MNIST, root=str(folder), train_pictures=13))


def test_faces_have_the_same_interface():
    source = DrawnFaces(Drawing("faces", None, None, 3, 2, 1, 1, 0, False))
    assert source.labels("train").tolist() == [0, 0, 1, 1, 2, 2]
    clean, worn = (source.pictures("train", np.array([4, 1]), what) for what in ("", "sunglasses"))
    assert clean.shape == (2, 55, 47, 3)
    assert (clean != worn).any()
