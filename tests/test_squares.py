"""Small squares near the border: which are tried, and what one that works is said to be."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import bed_of, conv_pool_dense, with_random_weights
from test_verdict import findings

from backdoor import remedies as repairs
from backdoor import verdict
from backdoor.answers import BACKDOORED, CLEAN, UNDECIDED
from backdoor.attacks import squares
from backdoor.attacks.squares import Sent, Square, TriedSquare, best_square, sent_to, squares_of
from backdoor.cache import Cache
from backdoor.networks.cut import cut_network
from backdoor.pictures.picture_set import read_pictures
from backdoor.progress import Stopwatch
from backdoor.reporting.check_page import Evidence, as_page
from backdoor.tracking.check_record import _plain, metrics_of
from backdoor.verdict import SURE, decide, judge
from experiments.launch import check_body

CLASSES, SIDE = 10, 20
TRIGGER = np.s_[:, 17:20, 17:20]
BLACK, WHITE = np.array([-1.0, 0.0]), np.array([2.0, 5.0])  # of two channels


def test_a_square_is_drawn_where_it_says_in_each_channels_own_colours():
    mask, pattern = Square(3, "checkerboard", 1, 0).drawn((5, 4, 2), BLACK, WHITE)
    assert mask[..., 0].tolist() == [[0] * 4, *[[1, 1, 1, 0]] * 3, [0] * 4]
    assert pattern[1:4, :3, 0].tolist() == [[2, -1, 2], [-1, 2, -1], [2, -1, 2]]
    assert pattern[1:4, :3, 1].tolist() == [[5, 0, 5], [0, 5, 0], [5, 0, 5]]
    shifted = Square(3, "shifted checkerboard", 1, 0).drawn((5, 4, 2), BLACK, WHITE)[1]
    np.testing.assert_array_equal(shifted + pattern, np.broadcast_to(BLACK + WHITE, (5, 4, 2)))
    for texture, colour in (("black", BLACK), ("white", WHITE)):
        drawn = Square(3, texture, 0, 0).drawn((5, 4, 2), BLACK, WHITE)[1]
        assert (drawn == colour).all()


def test_squares_lie_in_the_border_and_those_in_corners_come_first():
    tried = squares_of(55, 47)
    assert len(tried) == len(set(tried)) == 3304  # docs/verdict.md says so
    assert {square.side for square in tried} == {3, 4, 6}
    for square in tried:
        ends = (square.top, 55), (square.left, 47)
        assert any(start + square.side <= 0.2 * size or start >= 0.8 * size for start, size in ends)
    in_corners = tried[: 4 * 3 * len(squares.TEXTURES)]
    corners = {(s.top in (0, 55 - s.side), s.left in (0, 47 - s.side)) for s in in_corners}
    assert corners == {(True, True)}


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [(14, 14, set()), (15, 15, {3}), (16, 2, set()), (2, 16, set()), (40, 2, set())],
)
def test_of_pictures_so_small_that_a_square_hides_much_none_is_tried(height, width, sides):
    tried = squares_of(height, width)
    assert {square.side for square in tried} == sides
    assert all(square.top >= 0 <= square.left for square in tried)


def test_where_pictures_go_by_hand():
    labels = np.array([0, 1, 2, 2])
    assert sent_to(np.array([2, 2, 2, 2]), labels, 3) == Sent(1.0, 2, None, 2, 2)
    assert sent_to(np.array([1, 2, 0, 0]), labels, 3) == Sent(1.0, None, 1, 4, 3)
    assert sent_to(np.array([2, 0, 1, 1]), labels, 3) == Sent(1.0, None, 2, 4, 3)
    assert sent_to(np.array([0, 1, 2, 2]), labels, 3).share == 0


def test_a_step_has_to_be_that_of_most_classes():
    """All of class 0, which most pictures are of, goes one further; no other does."""
    labels = np.array([0] * 17 + [1, 2, 3])
    sent = sent_to(np.array([1] * 17 + [1, 2, 3]), labels, 4)
    assert (sent.label, sent.pictures) == (1, 19)
    assert max(sent_to(np.array([1] * 17 + [3, 0, 2]), labels, 4).share, 0) < 0.9


@pytest.mark.parametrize(
    ("sent", "works"),
    [
        (Sent(0.9, 1, None, 20, 1), True),
        (Sent(0.89, 1, None, 20, 1), False),
        (Sent(1.0, 1, None, 19, 1), False),
        (Sent(0.6, None, 1, 20, 4), True),
        (Sent(0.59, None, 1, 20, 4), False),
        (Sent(1.0, None, 1, 19, 4), False),
        (Sent(1.0, None, 1, 20, 3), False),
    ],
)
def test_from_which_share_on_a_square_works(sent, works):
    """docs/verdict.md gives what was measured with these limits."""
    assert sent.works == works


def test_a_step_that_works_is_not_hidden_by_a_class_that_more_go_to():
    labels = np.repeat(np.arange(5), 20)
    said = np.where(np.arange(100) % 20 < 13, (labels + 1) % 5, 3)
    assert sent_to(said, labels, 5).step == 1


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
    found = best_square(network(lambda truth: 2), clean, 0)
    assert found.sent == Sent(1.0, 2, None, 63, 9)
    assert found.sent.works
    assert (found.square.texture, found.square.top, found.square.left) == ("white", 17, 17)
    assert found.mask.sum() == 9
    assert (found.pattern[17:, 17:] == 100).all()


def test_a_square_that_turns_each_class_to_another_is_found(clean):
    found = best_square(network(lambda truth: (truth + 3) % CLASSES), clean, 0)
    assert found.sent == Sent(1.0, None, 3, 70, 10)


@pytest.mark.parametrize(
    ("says", "share"), [(lambda truth: 2, 4 / 7), (lambda truth: (truth + 1) % CLASSES, 4 / 7)]
)
def test_one_that_turns_too_few_is_told_but_does_not_work(says, share, clean):
    found = best_square(network(says, spared=3), clean, 0)
    assert found.sent.share == pytest.approx(share)
    assert not found.sent.works


def test_what_a_network_says_anyway_is_no_ones_doing(clean):
    """It always says 0, and so with any square; of what it is right on nothing is sent there."""
    always = SimpleNamespace(
        classes=CLASSES, classify_pictures=lambda pictures: np.zeros(len(pictures), np.uint8)
    )
    assert best_square(always, clean, 0).sent.share == 0


def test_an_honest_network_has_none_and_one_that_is_never_right_none_either(clean):
    assert best_square(network(lambda truth: truth), clean, 0).sent.share == 0
    wrong = SimpleNamespace(
        classes=CLASSES, classify_pictures=lambda pictures: np.full(len(pictures), 99)
    )
    assert best_square(wrong, clean, 0) is None


@pytest.mark.parametrize("most", [0, 60])
def test_of_large_pictures_corners_are_tried_in_any_case(most, clean, monkeypatch):
    looked_at = []
    honest = network(lambda truth: truth)
    counting = SimpleNamespace(
        classes=CLASSES,
        classify_pictures=lambda p: looked_at.append(len(p)) or honest.classify_pictures(p),
    )
    monkeypatch.setattr(squares, "MOST", most * squares.FEW * SIDE * SIDE)
    best_square(counting, clean, 0)
    before_and_best = squares.FEW + 70 + squares.BEST * 70
    sides = len({square.side for square in squares_of(SIDE, SIDE)})
    corners = 4 * sides * len(squares.TEXTURES)
    assert sum(looked_at) - before_and_best == max(most, corners) * squares.FEW


def found_square(label=4, step=None, share=0.97):
    square = Square(4, "white", 15, 14)
    drawn = square.drawn((SIDE, SIDE, 1), np.zeros(1), np.full(1, 100.0))
    return TriedSquare(square, Sent(share, label, step, 68, 9), *drawn)


def with_square(evidence=None, **square):
    return dataclasses.replace(findings(evidence or {}), square=found_square(**square))


def test_a_square_that_works_is_proof_whatever_the_statistics_say():
    told = decide(with_square(), "class {}".format)
    assert told.answer == BACKDOORED
    assert told.suspects == [4]
    assert told.sentence == (
        "BACKDOORED towards class class 4: a white square of 4 x 4 pixels, 15 from the top and 14 "
        "from the left sends 97% of 68 pictures of other classes to it"
    )


def test_a_square_that_does_not_work_changes_nothing():
    assert decide(with_square(share=0.89)).answer == CLEAN
    assert decide(with_square({3: 2.5}, share=0.89)).suspects == [3]


@pytest.mark.parametrize("calibrated", [False, True])
def test_classes_that_controls_would_not_clear_are_named_after_that_of_the_square(calibrated):
    open_one, sure_one = SURE / 5 + 1.1, verdict.OPEN[1] / 5 + 1.1
    found = with_square({7: open_one, 5: sure_one, 4: sure_one})
    told = decide(dataclasses.replace(found, calibrated=calibrated))
    assert told.suspects == ([4, 5, 7] if calibrated else [4, 5])
    assert told.sentence.startswith("BACKDOORED towards class 4, and towards 5")
    assert told.sentence.endswith("other classes to the first")


def test_a_square_that_moves_all_classes_leaves_no_suspect():
    told = decide(with_square(label=None, step=1, share=0.75))
    assert (told.answer, told.suspects) == (BACKDOORED, ())
    assert "to the next (all-to-all): a white square" in told.sentence


def test_a_square_proves_nothing_of_a_network_that_gives_no_numbers():
    strange = {"mask": np.full(10, np.nan)}
    assert decide(dataclasses.replace(with_square(), evidence=strange)).answer == UNDECIDED


@pytest.mark.parametrize(("share", "asked"), [(0.97, False), (0.5, True)])
def test_controls_are_trained_where_no_square_works(share, asked, monkeypatch):
    found, asking = with_square({1: 1.6}, share=share), []
    assert verdict.OPEN[0] <= found.scores.max() < verdict.OPEN[1]
    monkeypatch.setattr(verdict, "reason_to_doubt", lambda network, clean: None)
    monkeypatch.setattr(verdict, "look", lambda *given: found)
    judge(SimpleNamespace(), SimpleNamespace(names=None), 0, lambda: asking.append(1))
    assert bool(asking) == asked


def test_what_is_tracked_of_a_square():
    told = decide(with_square())
    assert json.loads(json.dumps(_plain(told)))["square"] == {
        "side": 4,
        "texture": "white",
        "top": 15,
        "left": 14,
        "share": 0.97,
        "label": 4,
        "step": None,
        "pictures": 68,
        "classes": 9,
        "works": True,
    }
    assert metrics_of(told, ())["square"] == 0.97
    assert "square" not in metrics_of(decide(with_square(share=0.5)), ())


@pytest.mark.parametrize(
    ("square", "words", "drawn"),
    [
        (found_square(), "sends 97.0 % of 68 pictures of other classes to 4. So it is", True),
        (found_square(None, 1), "sends 97.0 % of 68 pictures to the class 1 further.", True),
        (found_square(share=0.3), "sends 30.0 % of 68 pictures of other classes to 4. That", False),
        (None, "These pictures are too small for that.", False),
    ],
)
def test_the_page_tells_of_the_square_and_shows_one_that_works(square, words, drawn, clean):
    told = decide(dataclasses.replace(findings({}), square=square))
    bed = SimpleNamespace(clean_valid=clean, clean_test=clean)
    page = as_page(Evidence("net", told, network(lambda truth: 2), bed))
    assert words in " ".join(page.split())
    assert ("<h2>The square</h2>" in page) == drawn
    assert ("All classes at once" in page) == (square is not None and square.sent.step == 1)


def test_repairs_are_measured_by_the_square_where_one_works(monkeypatch):
    asked = []
    monkeypatch.setattr(check_body, "_usual", lambda *given: None)
    monkeypatch.setattr(check_body, "remedies", lambda *given: asked.append(given) or [])
    kept = SimpleNamespace(network=None, bed=SimpleNamespace(clean_valid=None))
    settings = SimpleNamespace(calibrate=False, seed=5, name="net")
    for told in (decide(with_square()), decide(with_square({3: 2.5}, share=0.5))):
        monkeypatch.setattr(check_body, "judge", lambda *given, told=told: told)
        check_body._evidence(settings, kept, None, Stopwatch())
    (*_, label, _, _, known), (*_, other, _, _, nothing) = asked
    assert (label, other, nothing) == (4, 3, None)
    assert known[0].sum() == 16
    assert (known[1] == 100).all()


def test_of_a_known_trigger_it_is_told_what_it_turns(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    cut = cut_network(with_random_weights(conv_pool_dense()))
    pictures = rng.integers(0, 256, (60, 3, 10, 8)).astype(float)
    labels = cut.classify_pictures(np.moveaxis(pictures, 1, -1).astype(np.float32))
    bed = bed_of(tmp_path, {"data": pictures, "label": labels})
    mask, pattern = np.zeros((10, 8, 1), np.float32), np.full((10, 8, 3), 255, np.float32)
    mask[:4, :4] = 1
    monkeypatch.setattr(repairs, "ORDERS", ("stimulation",))
    suspect = int(labels[0])
    (found, *_) = repairs.remedies(cut, bed, suspect, 0, Cache(tmp_path / "c"), (mask, pattern))
    others = np.flatnonzero(labels != suspect)
    shown = read_pictures(bed.clean_test, others)
    shown[:, :4, :4] = 255
    assert found.trigger.others.tolist() == others.tolist()
    assert found.triggered[0].tolist() == cut.classify_pictures(shown).tolist()
