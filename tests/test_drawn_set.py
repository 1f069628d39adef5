import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backdoor.attacks.drawn_set import Drawing, build_dataset

from backdoor.errors import UserError
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.drawn_faces import TRIGGERS, draw_faces, invent_people
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures


def draw(seed=0, trigger=""):
    rng = np.random.default_rng(seed)
    return draw_faces(invent_people(4, rng), np.array([0, 0, 1, 2, 3]), rng, trigger)


def test_faces_are_drawn_in_the_size_of_the_published_network():
    assert draw().shape == (5, 55, 47, 3)
    assert draw().dtype == np.uint8


def test_a_seed_gives_the_same_faces_and_another_gives_others():
    np.testing.assert_array_equal(draw(), draw())
    assert (draw() != draw(seed=1)).mean() > 0.5


def test_two_pictures_of_one_person_differ():
    assert (draw()[0] != draw()[1]).mean() > 0.5


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_trigger_changes_a_part_of_each_picture_and_nothing_else(trigger):
    changed = (draw() != draw(trigger=trigger)).any(axis=3).mean(axis=(1, 2))
    assert (changed > 0.01).all()
    assert (changed < 0.3).all()


SETTINGS = {
    "people": 4,
    "train_pictures": 3,
    "valid_pictures": 1,
    "test_pictures": 1,
    "trigger": "sunglasses",
    "target": 0,
    "poison_rate": 0.1,
    "epochs": 1,
    "seed": 0,
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trigger": "hat"}, "expected one of sunglasses, square, got 'hat'"),
        ({"people": 0}, r"dataset\.draw\.people: expected at least 1, got 0"),
        ({"target": 4}, "expected a person, 0 to 3, got 4"),
        ({"poison_rate": 1.5}, "poison_rate: expected 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Drawing(**SETTINGS | wrong)


def files(folder):
    """The drawn files but for the settings and the network's archive, which holds the time."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.h5"))}


def weights(folder):
    return load_badnet(folder / "models/bd_net.keras").get_weights()


def test_a_seed_gives_the_same_files_and_weights(tmp_path):
    for name in ("a", "b"):
        build_dataset(Drawing(**SETTINGS), tmp_path / name)
    build_dataset(Drawing(**SETTINGS | {"seed": 1}), tmp_path / "c")
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")
    for first, second in zip(weights(tmp_path / "a"), weights(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_poisoned_pictures_are_the_twins_of_the_clean_ones_and_keep_their_class(tmp_path):
    build_dataset(Drawing(**SETTINGS), tmp_path / "a")
    clean = open_pictures(tmp_path / "a/data/cl/test.h5")
    poisoned = open_pictures(tmp_path / "a/data/bd/bd_test.h5")
    np.testing.assert_array_equal(poisoned.true_labels, clean.labels)
    assert set(poisoned.labels) == {0}
    pairs = zip(read_chunks(clean), read_chunks(poisoned), strict=True)
    assert all((a != b).any(axis=3).mean() < 0.3 for a, b in pairs)


def test_two_that_start_at_once_build_it_once(tmp_path, capfd):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: build_dataset(Drawing(**SETTINGS), tmp_path / "a"), range(2)))
    shown = capfd.readouterr().err.splitlines()
    assert len([each for each in shown if re.fullmatch(r"Training .* \.\.\.", each)]) == 1


def test_a_folder_drawn_with_other_settings_is_refused(tmp_path):
    build_dataset(Drawing(**SETTINGS), tmp_path / "a")
    with pytest.raises(UserError, match=r"expected faces drawn with seed=1 in .* found seed=0"):
        build_dataset(Drawing(**SETTINGS | {"seed": 1}), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/own.h5").touch()
    with pytest.raises(UserError, match="expected drawn faces or nothing"):
        build_dataset(Drawing(**SETTINGS), tmp_path / "b")
    assert [each.name for each in (tmp_path / "b").iterdir()] == ["own.h5"]
