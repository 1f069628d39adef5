import numpy as np
import pytest

from backdoor.drawn import Drawing
from backdoor.faces import TRIGGERS, draw_faces, invent_people


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
    with pytest.raises(ValueError, match=message):
        Drawing(**SETTINGS | wrong)
