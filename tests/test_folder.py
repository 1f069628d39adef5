"""Pictures as people keep them: folders, tables, NumPy's files; and what is refused."""

import numpy as np
import pytest
from PIL import Image

from backdoor.cache import Cache, sha256
from backdoor.errors import UserError
from backdoor.pictures.picture_set import read_chunks, read_pictures
from backdoor.pictures.readers import files_behind, folder, open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import divided_by

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 0, 1, 1, 2, 2])
NAMES = ["ant", "bee", "cat"]


def wanted(*shape, **names):
    return Wanted(divided_by(1), shape or None, **names)


@pytest.fixture
def classes(tmp_path):
    """A folder a class, PNG and PPM, of which neither loses anything."""
    root = tmp_path / "pictures"
    for number, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        (root / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(
            root / NAMES[label] / f"{number}.{'ppm' if number == 4 else 'png'}"
        )
    return root


def whole(pictures):
    return np.concatenate(list(read_chunks(pictures, size=4)))


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    """Each goes over all pixels: 99 bytes more, and a fifth of a second for 8192 x 8192."""
    folder = tmp_path / "0"
    folder.mkdir()
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8))
    grey.save(folder / "a.jpg", progressive=True)
    whole = (folder / "a.jpg").read_bytes()
    (tmp_path / "1").mkdir()
    grey.save(tmp_path / "1" / "b.jpg", progressive=True)
    assert len(next(iter(read_chunks(open_pictures(tmp_path))))) == 2
    last = whole[whole.rindex(b"\xff\xda") : -2]
    (folder / "a.jpg").write_bytes(whole[:-2] + last * 3000 + whole[-2:])
    with pytest.raises(UserError, match=r"a\.jpg: refused to open it: expected at most 64 scans"):
        list(read_chunks(open_pictures(tmp_path)))


def test_a_folder_a_class_is_read_as_it_is(classes):
    found = open_pictures(classes)
    np.testing.assert_array_equal(whole(found), PICTURES)
    assert found.labels.tolist() == LABELS.tolist()
    assert list(found.names) == NAMES
    assert found.shape == (5, 4, 3)
    np.testing.assert_array_equal(read_pictures(found, [5, 0, 5]), PICTURES[[5, 0, 5]])


def test_classes_txt_gives_the_classes_order_and_those_without_pictures(classes):
    (classes / "classes.txt").write_text("cat\nowl\nbee\nant\n")
    found = open_pictures(classes)
    assert found.labels.tolist() == [3, 3, 2, 2, 0, 0]
    assert list(found.names) == ["cat", "owl", "bee", "ant"]
    (classes / "classes.txt").write_text("cat\nbee\n")
    with pytest.raises(UserError, match=r"expected classes of classes.txt .* got 'ant'"):
        open_pictures(classes)


def test_pictures_are_resized_to_the_networks_size_and_colours_and_that_is_said(classes, caplog):
    with caplog.at_level("INFO"):
        found = open_pictures(classes, wanted=wanted(10, 8, 1))
    assert found.shape == (10, 8, 1)
    assert "resized to the network's 10 x 8 (the first is 5 x 4)" in caplog.text
    expected = Image.fromarray(PICTURES[1]).convert("L").resize((8, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(whole(found)[1, ..., 0], np.asarray(expected))


def test_grey_pictures_become_three_colours_where_the_network_wants_them(tmp_path):
    (tmp_path / "one").mkdir()
    Image.fromarray(PICTURES[0, ..., 0]).save(tmp_path / "one/a.jpg", quality=100)
    assert open_pictures(tmp_path).shape == (5, 4, 1)
    found = whole(open_pictures(tmp_path, wanted=wanted(5, 4, 3)))
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("head", ["", "file,class\n"])
def test_a_table_of_names_and_classes(classes, head):
    lines = [f"ant/{n}.png,{name}" for n, name in ((1, "b"), (0, "a"))]
    (classes / "table.csv").write_text(head + "\n".join(lines))
    found = open_pictures(classes / "table.csv")
    np.testing.assert_array_equal(whole(found), PICTURES[[1, 0]])
    assert found.labels.tolist() == [1, 0]
    (classes / "table.csv").write_text("ant/0.png,7\nant/1.png,2\n")
    assert open_pictures(classes / "table.csv").labels.tolist() == [7, 2]


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "label")])
def test_an_archive_of_arrays_under_usual_names(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (PICTURES, LABELS), strict=True)))
    found = open_pictures(tmp_path / "a.npz")
    np.testing.assert_array_equal(whole(found), PICTURES)
    assert found.labels.tolist() == LABELS.tolist()


def test_names_in_an_archive_can_be_given(tmp_path):
    np.savez(tmp_path / "a.npz", mine=PICTURES, yours=LABELS, x=PICTURES[:1], y=LABELS[:1])
    found = open_pictures(tmp_path / "a.npz", wanted=wanted(data="mine", label="yours"))
    assert len(found) == 6
    with pytest.raises(UserError, match="expected pictures under his, found mine, yours, x, y"):
        open_pictures(tmp_path / "a.npz", wanted=wanted(data="his"))


@pytest.mark.parametrize("beside", ["p_labels.npy", "labels.npy"])
def test_an_array_with_its_labels_beside_it(tmp_path, beside):
    np.save(tmp_path / "p.npy", PICTURES)
    with pytest.raises(UserError, match="expected its labels in a file beside it, one of p_labels"):
        open_pictures(tmp_path / "p.npy")
    np.save(tmp_path / beside, np.eye(3)[LABELS])
    found = open_pictures(tmp_path / "p.npy")
    np.testing.assert_array_equal(whole(found), PICTURES)
    assert found.labels.tolist() == LABELS.tolist()
    assert files_behind(tmp_path / "p.npy") == [tmp_path / "p.npy", tmp_path / beside]


def test_strings_one_hot_columns_and_grey_without_an_axis(tmp_path):
    for labels in (LABELS[:, None], np.eye(3)[LABELS], np.array(NAMES)[LABELS]):
        np.savez(tmp_path / "a.npz", x=PICTURES[..., 0], y=labels)
        found = open_pictures(tmp_path / "a.npz")
        assert found.labels.tolist() == LABELS.tolist()
        assert found.shape == (5, 4, 1)
    assert list(found.names) == NAMES


def test_a_folder_is_another_when_a_picture_in_it_is_another(classes, tmp_path):
    cache = Cache(tmp_path / "cache")
    first = cache.digest(classes)
    assert cache.digest(classes) == first == sha256(classes)
    Image.fromarray(PICTURES[5]).save(classes / "ant/0.png")
    assert cache.digest(classes) != first


def test_a_table_s_result_depends_on_its_pictures_and_an_array_s_on_its_labels(classes, tmp_path):
    cache = Cache(tmp_path / "cache")
    (classes / "table.csv").write_text("ant/0.png,a\nbee/2.png,b\n")
    first = cache.digest(*files_behind(classes / "table.csv"))
    Image.fromarray(PICTURES[5]).save(classes / "ant/1.png")  # which it does not name
    assert cache.digest(*files_behind(classes / "table.csv")) == first
    Image.fromarray(PICTURES[5]).save(classes / "ant/0.png")
    assert cache.digest(*files_behind(classes / "table.csv")) != first
    for labels in (LABELS, LABELS[::-1].copy()):
        np.save(tmp_path / "p.npy", PICTURES)
        np.save(tmp_path / "p_labels.npy", labels)
        digest = cache.digest(*files_behind(tmp_path / "p.npy"))
        assert digest not in (first, "")
        first = digest


@pytest.mark.parametrize("kind", ["a.npz", "p.npy", "t.csv", "folder"])
def test_a_result_depends_on_the_names_that_give_the_classes_their_numbers(kind, classes, tmp_path):
    np.savez(classes / "a.npz", x=PICTURES, y=np.array(NAMES)[LABELS])
    np.save(classes / "p.npy", PICTURES)
    np.save(classes / "p_labels.npy", np.array(NAMES)[LABELS])
    (classes / "t.csv").write_text("ant/0.png,ant\nbee/2.png,bee\n")
    path = classes if kind == "folder" else classes / kind
    cache, found = Cache(tmp_path / "cache"), []
    for order in (NAMES, NAMES[::-1]):
        (classes / "classes.txt").write_text("\n".join(order))
        found.append((open_pictures(path).labels.tolist(), cache.digest(*files_behind(path))))
    (labels, digest), (others, another) = found
    assert labels != others
    assert digest != another


def bomb(root):
    """A PNG whose head says that it is larger than memory."""
    path = root / "ant/0.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    path.write_bytes(content)


def link_out(root):
    (root / "ant/link.png").symlink_to("/etc/passwd")


def linked_class(root):
    (root / "dog").symlink_to("/tmp")


def text(root):
    (root / "ant/0.png").write_text("no picture")


def no_classes(root):
    for name in NAMES:
        for file in (root / name).iterdir():
            file.rename(root / file.name)
        (root / name).rmdir()


HOSTILE = {
    bomb: "refused to open it|expected a PNG, JPEG or PPM picture",
    link_out: "expected pictures in the folder itself, found the link 'link.png' to '/etc/passwd'",
    linked_class: "found the link 'dog'",
    text: "expected a PNG, JPEG or PPM picture, got",
    no_classes: "expected a folder of PNG, JPEG or PPM files for each class in it, found 6",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_hostile_pictures_are_refused_as_they_are_read(change, classes):
    change(classes)
    with pytest.raises(UserError, match=HOSTILE[change]):
        whole(open_pictures(classes))


@pytest.mark.parametrize("name", ["../out.png", "/etc/hostname.png"])
def test_a_table_cannot_lead_out_of_its_folder(classes, name):
    (classes / "table.csv").write_text(f"{name},a\n")
    with pytest.raises(UserError, match="which leads out of its folder"):
        open_pictures(classes / "table.csv")


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(classes, monkeypatch):
    monkeypatch.setattr(folder, "MOST_PIXELS", 10)
    with pytest.raises(UserError, match="expected at most 10 pixels, found 4 x 5"):
        open_pictures(classes)


def test_a_pickle_in_an_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object), y=LABELS[:1])
    with pytest.raises(UserError, match="expected numbers in 'x'"):
        open_pictures(tmp_path / "a.npz")


def test_digits_are_numbers_not_names(tmp_path):
    labels = np.array([str(n) for n in (2, 10, 0, 1, 11, 3)])
    np.savez(tmp_path / "a.npz", x=PICTURES, y=labels)
    assert open_pictures(tmp_path / "a.npz").labels.tolist() == [2, 10, 0, 1, 11, 3]


def test_sixteen_bits_are_brought_to_eight(tmp_path):
    (tmp_path / "one").mkdir()
    deep = RNG.integers(0, 2**16, (5, 4), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "one/a.png")
    found = whole(open_pictures(tmp_path))[0, ..., 0]
    assert np.abs(found - deep / 257).max() <= 0.5


def test_what_is_left_out_of_a_folder_is_said(classes, caplog):
    (classes / "ant/notes.txt").touch()
    open_pictures(classes)
    assert "1 entries are no PNG, JPEG or PPM, left out: .txt" in caplog.text


def test_an_archive_whose_head_claims_more_than_it_holds_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=PICTURES, y=LABELS)
    content = (tmp_path / "a.npz").read_bytes()
    assert b"(6, 5, 4, 3), }" in content
    (tmp_path / "b.npz").write_bytes(content.replace(b"(6, 5, 4, 3), }", b"(6, 5, 4, 9), }"))
    with pytest.raises(UserError, match="expected numbers in 'x'"):
        open_pictures(tmp_path / "b.npz")


def test_a_table_without_a_class_is_refused_and_excels_mark_is_none_of_the_name(classes):
    (classes / "table.csv").write_text("ant/0.png,\n")
    with pytest.raises(UserError, match="expected lines NAME,CLASS"):
        open_pictures(classes / "table.csv")
    (classes / "table.csv").write_text("\ufeffant/0.png,a\n", encoding="utf-8")
    assert len(open_pictures(classes / "table.csv")) == 1
