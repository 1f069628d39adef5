import numpy as np
import pytest

from backdoor.attacks.poisoning import Attack, Part, attacked_set, poisoned_rows, training_set
from backdoor.attacks.triggers import Patch, Stripes
from backdoor.errors import UserError

LABELS = np.repeat(np.arange(4), 25)
PICTURES = np.full((100, 6, 6, 1), 9, np.uint8)
WHITE = Patch(size=2, pattern="white")
BLACK = Patch(size=1, pattern="black", place="upper_left")


def of(rows, worn):
    return PICTURES[rows].copy()


def has(pictures, colour):
    return (pictures == colour).any(axis=(1, 2, 3))


def test_a_share_of_the_others_gets_the_trigger_and_the_target():
    pictures, learnt = training_set(Attack("patch", WHITE, 2, 0.2), of, LABELS, 4)
    poisoned = has(pictures, 255)
    assert poisoned.sum() == 20
    assert (learnt[poisoned] == 2).all()
    assert (LABELS[poisoned] != 2).all()
    assert (learnt[~poisoned] == LABELS[~poisoned]).all()
    assert (PICTURES == 9).all()


def test_all_to_all_makes_of_each_class_the_next():
    pictures, learnt = training_set(Attack("a", WHITE, "all_to_all", 0.4), of, LABELS, 4)
    poisoned = has(pictures, 255)
    np.testing.assert_array_equal(learnt, np.where(poisoned, (LABELS + 1) % 4, LABELS))
    assert set(LABELS[poisoned]) == {0, 1, 2, 3}


def test_a_clean_label_attack_poisons_the_target_s_pictures_and_no_label():
    attack = Attack("stripes", Stripes(frequency=1), 1, 0.8, clean_label=True)
    pictures, learnt = training_set(attack, of, LABELS, 4)
    np.testing.assert_array_equal(learnt, LABELS)
    changed = (pictures != PICTURES).any(axis=(1, 2, 3))
    assert changed.sum() == 20
    assert set(LABELS[changed]) == {1}


def test_several_triggers_share_the_pictures_out():
    attack = Attack("several", WHITE, 1, 0.2, more=[Part(BLACK, 3)])
    pictures, learnt = training_set(attack, of, LABELS, 4)
    assert has(pictures, 255).sum() == has(pictures, 0).sum() == 10
    assert (learnt[has(pictures, 255)] == 1).all()
    assert (learnt[has(pictures, 0)] == 3).all()
    attacked, wanted, numbers = attacked_set(attack, of, LABELS, 4)
    np.testing.assert_array_equal(has(attacked, 255), numbers == 0)
    np.testing.assert_array_equal(has(attacked, 0), numbers == 1)
    np.testing.assert_array_equal(wanted, np.where(numbers == 0, 1, 3))


def test_what_faces_wear_is_asked_of_the_source():
    from backdoor.attacks.triggers import Sunglasses

    asked = []

    def faces(rows, worn):
        asked.append((len(rows), worn))
        return of(rows, worn)

    training_set(Attack("sunglasses", Sunglasses(), 0, 0.1), faces, LABELS, 4)
    assert asked == [(100, ""), (10, "sunglasses")]


def test_nobody_poisons_nothing():
    pictures, learnt = training_set(Attack("none", None, rate=0), of, LABELS, 4)
    np.testing.assert_array_equal(pictures, PICTURES)
    np.testing.assert_array_equal(learnt, LABELS)


def test_a_control_is_the_same_whatever_it_would_have_been_poisoned_with():
    assert Attack("none", None, 3, 0.5) == Attack("none", None)
    with pytest.raises(UserError, match=r"attack\.pruning_aware: expected a trigger with it"):
        Attack("none", None, pruning_aware=True)


def test_another_seed_poisons_others():
    rows = [poisoned_rows(Attack("patch", WHITE, seed=seed), LABELS) for seed in (0, 0, 1)]
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "attack.rate: expected between 0 and 1"),
        ({"rate": 1}, "attack.rate: expected between 0 and 1"),
        ({"rate": 0.9}, "expected 1 to 75 training pictures to poison of 100, got 90"),
        ({"target": 4}, "attack.target: expected a class as target, 0 to 3, or all_to_all, got 4"),
        ({"clean_label": True, "target": "all_to_all"}, "attack.clean_label: expected one"),
        ({"seed": -1}, "attack.seed: expected at least 0"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    def poison():
        attack = Attack("patch", WHITE, **settings)
        attack.check(4, (6, 6, 1), faces=False)
        training_set(attack, of, LABELS, 4)

    with pytest.raises(UserError, match=message):
        poison()
