"""Between which numbers pictures lie, and which are refused for lying elsewhere."""

import dataclasses

import mlflow
import numpy as np
import pytest

from backdoor.pictures.brightness import Brightness, brightness
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.scale import scale_named
from backdoor.tracking.served_goodnet import refuse_other_scales

UNIT = {"low": 0.0, "high": 1.0, "darkest": 0.2, "brightest": 0.6}
STORED = np.array([[10, 200], [30, 240], [0, 90]], np.uint8).reshape(3, 1, 2, 1)


@pytest.fixture
def pictures(tmp_path):
    np.savez(tmp_path / "some.npz", images=STORED, labels=np.arange(3))
    return open_pictures(tmp_path / "some.npz")


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("full", Brightness(0, 255, 30, 90)),
        ("unit", Brightness(0, 1, 30 / 255, 90 / 255)),
        ("tf", Brightness(-1, 1, 30 / 127.5 - 1, 90 / 127.5 - 1)),
    ],
)
def test_every_picture_has_a_dark_and_a_bright_number(pictures, scale, expected):
    found = brightness(pictures.scaled(scale_named(scale, STORED.astype(np.float32))))
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(expected), abs=1e-6)


def test_the_ends_of_an_unknown_scale_are_those_that_were_seen(tmp_path):
    np.savez(tmp_path / "some.npz", images=STORED * np.float32(3), labels=np.arange(3))
    found = brightness(open_pictures(tmp_path / "some.npz"))
    assert found == Brightness(0, 720, 90, 270)


@pytest.mark.parametrize(
    ("numbers", "fits"),
    [
        ((0.1, 0.9), True),
        ((0.39, 0.51), True),
        ((0.0, 0.03), True),  # a dim picture
        ((-0.05, 1.05), True),
        ((-0.2, 0.9), False),  # below the scale
        ((0.1, 1.2), False),  # above it
        ((0.41, 0.9), False),  # nothing dark
        ((0.0, 0.01), False),  # nothing bright
    ],
)
def test_pictures_that_lie_elsewhere_are_refused(numbers, fits):
    shown = np.array([[0.1, 0.9], numbers], np.float32).reshape(2, 1, 2, 1)
    if fits:
        refuse_other_scales(shown, UNIT)
        return
    with pytest.raises(mlflow.MlflowException, match=r"scale of 0 to 1, .* in picture 1"):
        refuse_other_scales(shown, UNIT)


def test_pictures_that_are_always_bright_may_be():
    bright = UNIT | {"darkest": 0.6}
    shown = np.array([0.65, 0.9], np.float32).reshape(1, 1, 2, 1)
    refuse_other_scales(shown, bright)
    with pytest.raises(mlflow.MlflowException):
        refuse_other_scales(shown, UNIT)


def test_one_black_picture_says_nothing_of_the_others(tmp_path):
    some = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)
    some[7] = 0
    np.savez(tmp_path / "some.npz", images=some, labels=np.arange(300) % 3)
    found = dataclasses.asdict(brightness(open_pictures(tmp_path / "some.npz")))
    shown = some[:4].astype(np.float32)
    refuse_other_scales(shown, found)
    with pytest.raises(mlflow.MlflowException, match="expected pictures in a scale of 0 to 255"):
        refuse_other_scales(shown / 255, found)
