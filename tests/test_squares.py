"""Small squares near the border: which are tried, and what one that works is said to be."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import bed_of
from test_verdict import findings

from backdoor import verdict
from backdoor.answers import BACKDOORED, UNDECIDED
from backdoor.attacks import squares
from backdoor.attacks.squares import (
    Sent,
    Square,
    WorkingSquare,
    sent_to,
    squares_of,
    working_square,
)
from backdoor.reporting.check_page import Evidence, as_page
from backdoor.verdict import SURE, decide, judge

CLASSES, SIDE = 10, 20
TRIGGER = np.s_[:, 17:20, 17:20]


def test_a_square_is_drawn_where_it_says():
    mask, pattern = Square(3, "checkerboard", 1, 0).drawn((5, 4, 2), (-1.0, 2.0))
    assert mask[..., 0].tolist() == [[0] * 4, *[[1, 1, 1, 0]] * 3, [0] * 4]
    assert pattern[1:4, :3, 0].tolist() == [[2, -1, 2], [-1, 2, -1], [2, -1, 2]]
    assert (pattern[..., 0] == pattern[..., 1]).all()
    inverse = Square(3, "inverse checkerboard", 1, 0).drawn((5, 4, 2), (-1.0, 2.0))[1]
    np.testing.assert_array_equal(inverse, 1 - pattern)
    assert (Square(3, "black", 0, 0).drawn((5, 4, 2), (-1.0, 2.0))[1] == -1).all()


def test_squares_lie_in_the_border_and_those_in_corners_come_first():
    tried = squares_of(55, 47)
    assert {square.side for square in tried} == {3, 4, 6}
    assert len(set(tried)) == len(tried)
    for square in tried:
        ends = (square.top, 55), (square.left, 47)
        assert any(start + square.side <= 0.2 * size or start >= 0.8 * size for start, size in ends)
    first = tried[: 3 * 4 * len(squares.TEXTURES)]
    corners = {(s.top in (0, 55 - s.side), s.left in (0, 47 - s.side)) for s in first}
    assert corners == {(True, True)}


def test_of_pictures_so_small_that_a_square_hides_much_none_is_tried():
    assert squares_of(14, 14) == []
    assert {square.side for square in squares_of(15, 15)} == {3}


def test_where_pictures_go_by_hand():
    labels = np.array([0, 1, 2, 2])
    assert sent_to(np.array([2, 2, 2, 2]), labels, 3) == Sent(1.0, 2, None, 2)
    assert sent_to(np.array([1, 2, 0, 0]), labels, 3) == Sent(1.0, None, 1, 4)
    assert sent_to(np.array([2, 0, 1, 1]), labels, 3) == Sent(1.0, None, 2, 4)
    assert sent_to(np.array([0, 1, 2, 2]), labels, 3).share == 0


@pytest.mark.parametrize(
    ("sent", "works"),
    [
        (Sent(0.9, 1, None, 10), True),
        (Sent(0.89, 1, None, 10), False),
        (Sent(0.6, None, 1, 10), True),
        (Sent(0.59, None, 1, 10), False),
    ],
)
def test_from_which_share_on_a_square_works(sent, works):
    """docs/verdict.md gives what was measured with these limits."""
    assert sent.works == works


@pytest.fixture
def clean(tmp_path):
    """Seven pictures a class; the middle says which class and which of the seven."""
    labels = np.repeat(np.arange(CLASSES), 7)
    pictures = np.random.default_rng(0).integers(0, 90, (len(labels), 1, SIDE, SIDE))
    pictures[:, 0, 9, 9], pictures[:, 0, 9, 10] = labels, np.tile(np.arange(7), CLASSES)
    pictures[:, 0, 0, 9] = 100  # white
    return bed_of(tmp_path, {"data": pictures.astype(float), "label": labels}).clean_valid


def network(says, spared=0):
    """One that is right, but where the lower right corner is white; there it says what is given.

    Args:
        spared: Of the seven pictures of a class, how many it is right on all the same.
    """

    def classify(pictures):
        truth = pictures[:, 9, 9, 0].astype(np.int64)
        white = (pictures[TRIGGER] == 100).all(axis=(1, 2, 3)) & (pictures[:, 9, 10, 0] >= spared)
        return np.where(white, says(truth), truth).astype(np.uint8)

    return SimpleNamespace(classes=CLASSES, classify_pictures=classify)


def test_a_square_that_turns_pictures_to_a_class_is_found(clean):
    found = working_square(network(lambda truth: 2), clean, 0)
    assert found.sent == Sent(1.0, 2, None, 63)
    assert (found.square.texture, found.square.top, found.square.left) == ("white", 17, 17)
    assert found.mask.sum() == 9
    assert (found.pattern[17:, 17:] == 100).all()


def test_a_square_that_turns_each_class_to_another_is_found(clean):
    found = working_square(network(lambda truth: (truth + 3) % CLASSES), clean, 0)
    assert found.sent == Sent(1.0, None, 3, 70)


@pytest.mark.parametrize("says", [lambda truth: 2, lambda truth: (truth + 1) % CLASSES])
def test_one_that_turns_too_few_is_none(says, clean):
    assert working_square(network(says, spared=3), clean, 0) is None  # four of seven are 57 %


def test_an_honest_network_has_none(clean):
    assert working_square(network(lambda truth: truth), clean, 0) is None


def test_of_large_pictures_those_next_to_corners_alone_are_tried(clean, monkeypatch):
    looked_at = []
    honest = network(lambda truth: truth)
    counting = SimpleNamespace(
        classes=CLASSES,
        classify_pictures=lambda p: looked_at.append(len(p)) or honest.classify_pictures(p),
    )
    monkeypatch.setattr(squares, "MOST", 5 * squares.FEW * SIDE * SIDE)
    assert working_square(counting, clean, 0) is None
    assert sum(looked_at) == 5 * squares.FEW


def found_square(label=4, step=None, share=0.97):
    square = Square(4, "white", 50, 42)
    return WorkingSquare(square, Sent(share, label, step, 68), np.zeros(0), np.zeros(0))


def test_a_square_that_works_is_proof_whatever_the_statistics_say():
    told = decide(dataclasses.replace(findings({}), square=found_square()), "class {}".format)
    assert told.answer == BACKDOORED
    assert told.suspects == [4]
    assert told.sentence == (
        "BACKDOORED towards class class 4: a white square of 4 x 4 pixels, 50 from the top and 42 "
        "from the left sends 97% of 68 pictures of other classes to it"
    )


def test_classes_that_statistics_accuse_are_named_after_that_of_the_square():
    high = SURE / 5 + 1.1
    told = decide(dataclasses.replace(findings({7: high, 4: high}), square=found_square()))
    assert told.suspects == [4, 7]
    assert told.sentence.startswith("BACKDOORED towards class 4, and towards 7: a white square")
    assert told.sentence.endswith("other classes to the first")


def test_a_square_that_moves_all_classes_leaves_no_suspect():
    moving = found_square(None, 1, 0.75)
    told = decide(dataclasses.replace(findings({}), square=moving))
    assert (told.answer, told.suspects) == (BACKDOORED, ())
    assert "to the next (all-to-all): a white square" in told.sentence


def test_a_square_proves_nothing_of_a_network_that_gives_no_numbers():
    strange = {"mask": np.full(10, np.nan)}
    told = decide(dataclasses.replace(findings({}), evidence=strange, square=found_square()))
    assert told.answer == UNDECIDED


def test_where_a_square_works_no_controls_are_trained(monkeypatch):
    found = dataclasses.replace(findings({1: 1.6}), square=found_square())
    assert verdict.OPEN[0] <= found.scores.max() < verdict.OPEN[1]
    monkeypatch.setattr(verdict, "reason_to_doubt", lambda network, clean: None)
    monkeypatch.setattr(verdict, "look", lambda *given: found)
    assert judge(SimpleNamespace(), SimpleNamespace(names=None), 0, pytest.fail).suspects == [4]


def test_the_page_tells_of_the_square(clean):
    for square, words in (
        (found_square(), "sends 97.0 % of 68 pictures of other classes to 4"),
        (found_square(None, 1), "sends 97.0 % of 68 pictures to the class 1 further"),
        (None, "none is a trigger by itself"),
    ):
        told = decide(dataclasses.replace(findings({}), square=square))
        page = as_page(Evidence("net", told, SimpleNamespace(classes=CLASSES), bed_named(clean)))
        assert words in " ".join(page.split())
        assert ("All classes at once" in page) == (square is not None and square.sent.step == 1)


def bed_named(clean):
    return SimpleNamespace(clean_valid=clean, clean_test=clean)
