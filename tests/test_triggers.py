import numpy as np
import pytest

from backdoor.attacks.triggers import TRIGGERS, Blend, Patch, Stripes, Sunglasses, Warp
from backdoor.errors import UserError

RNG = np.random.default_rng
GREY = np.full((3, 8, 10, 1), 100, np.uint8)


def test_a_patch_is_a_square_of_its_pattern_in_its_place():
    stamped = Patch(size=2, margin=1, pattern="checkerboard")(GREY, RNG(0))
    assert stamped[0, 5:7, 7:9, 0].tolist() == [[255, 0], [0, 255]]
    assert (stamped != GREY).sum() == 3 * 4
    assert (GREY == 100).all()  # the pictures given are left alone
    corners = {"upper_left": (1, 1), "upper_right": (1, 7), "lower_left": (5, 1), "centre": (3, 4)}
    for place, (top, left) in corners.items():
        stamped = Patch(size=2, place=place, pattern="white")(GREY, RNG(0))
        assert (stamped[:, top : top + 2, left : left + 2] == 255).all()
        assert (stamped != GREY).sum() == 3 * 4


def test_a_patch_may_be_anywhere_and_may_fill_the_picture():
    stamped = Patch(size=2, place="anywhere", pattern="black")(np.repeat(GREY, 20, 0), RNG(0))
    assert ((stamped == 0).sum(axis=(1, 2, 3)) == 4).all()
    assert len(np.unique((stamped == 0).reshape(60, -1).argmax(axis=1))) > 10
    assert (Patch(size=8, margin=0, pattern="white")(GREY, RNG(0))[:, :, 2:] == 255).all()


def test_a_blend_is_a_weighted_mean_with_one_picture_of_noise():
    blended = Blend(opacity=0.5)(GREY, RNG(0)).astype(int)
    noise = RNG(0).integers(0, 256, (8, 10, 1))
    np.testing.assert_array_equal(blended, np.rint(np.stack([(100 + noise) / 2] * 3)))


def test_stripes_are_a_sinusoid_of_the_column():
    striped = Stripes(amplitude=40, frequency=2.5)(GREY, RNG(0)).astype(int)
    assert striped[0, 0, :4, 0].tolist() == [100, 140, 100, 60]
    assert (striped == striped[:, :1]).all()


def test_a_warp_moves_pixels_by_its_strength_and_keeps_colours():
    ramp = np.broadcast_to(np.arange(0, 200, 4, dtype=np.uint8)[:, None, None], (50, 50, 3))[None]
    moved = Warp(strength=2.0)(ramp, RNG(0))[0, 10:-10].astype(int) - ramp[0, 10:-10]
    assert 0.5 < np.abs(moved / 4).mean() < 4
    assert (moved[..., 0] == moved[..., 2]).all()


@pytest.mark.parametrize("name", sorted(set(TRIGGERS) - {"sunglasses"}))
def test_a_trigger_is_the_same_each_time_and_changes_every_picture(name):
    pictures = RNG(1).integers(0, 256, (4, 14, 14, 3), np.uint8)
    stamped = TRIGGERS[name]()(pictures, RNG(0))
    np.testing.assert_array_equal(stamped, TRIGGERS[name]()(pictures, RNG(0)))
    assert stamped.dtype == np.uint8
    assert (stamped != pictures).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (lambda: Patch(size=0), "size: expected at least 1, got 0"),
        (lambda: Patch(margin=-1), "margin: expected at least 0, got -1"),
        (lambda: Patch(size=8)(GREY, RNG(0)), "size: expected at most 7 on 8 x 10, got 8"),
        (lambda: Blend(opacity=0), "opacity: expected above 0, at most 1, got 0"),
        (lambda: Stripes(frequency=0), "frequency: expected a number above 0"),
        (lambda: Warp(grid=1), "grid: expected at least 2"),
        (lambda: Sunglasses()(GREY, RNG(0)), "expected drawn faces"),
    ],
)
def test_what_no_trigger_can_be_is_refused(trigger, message):
    with pytest.raises(UserError, match=message):
        trigger()
