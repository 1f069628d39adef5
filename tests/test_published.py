import dataclasses
from types import SimpleNamespace

import pytest

from backdoor.reporting.published import (
    PUBLISHED,
    PUBLISHED_CHANNELS,
    PUBLISHED_PICTURES,
    agreement,
    applies,
    contradicts_its_table,
)
from backdoor.reporting.row import Row

N = PUBLISHED_PICTURES


def test_the_published_tables():
    shown = {
        (order, points): (f"{line.accuracy:.4f}", f"{line.attack_success_rate:.4f}", line.removed)
        for order, lines in PUBLISHED.items()
        for points, line in lines.items()
    }
    assert shown == {
        ("asc", 2): ("95.7443", "100.0000", 45),
        ("asc", 4): ("92.1278", "99.9844", 48),
        ("asc", 10): ("84.3414", "77.2175", 52),
        ("desc", 2): ("93.9595", "100.0000", 1),
        ("desc", 4): ("74.0920", "100.0000", 1),
        ("desc", 10): ("74.0920", "100.0000", 2),
    }
    assert (PUBLISHED_PICTURES, PUBLISHED_CHANNELS) == (12830, 60)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"dataset.name": "faces"}, False),
        ({"badnet.path": "b.h5"}, False),
        ({"layer": "pool_2"}, False),
    ],
)
def test_what_the_published_tables_apply_to(changed, expected):
    def record(layer="pool_3", **params):
        run = SimpleNamespace(data=SimpleNamespace(tags={"network.layer": layer}))
        usual = {"dataset.name": "lab3", "badnet.path": "auto", "seed": "0"}
        return SimpleNamespace(params=usual | params, run=run)

    assert applies([record(), record(**changed)]) == expected
    assert not applies([])


def reproduced(order: str, threshold: float, accuracy_off: int = 0, asr_off: int = 0) -> Row:
    line = PUBLISHED[order][threshold]
    return Row(
        order,
        threshold,
        (round(line.accuracy / 100 * N) + accuracy_off) / N,
        (round(line.attack_success_rate / 100 * N) + asr_off) / N,
        removed=line.removed,
        channels=60,
        clean=N,
        poisoned=N,
        run="abc",
    )


@pytest.mark.parametrize(
    ("accuracy_off", "asr_off", "expected"),
    [
        (0, 0, "equal"),
        (1, 0, "within two pictures"),
        (-2, -2, "within two pictures"),
        (3, 0, "differs"),
        (0, -3, "differs"),
    ],
)
def test_a_row_is_compared_in_pictures(accuracy_off, asr_off, expected):
    assert agreement(reproduced("asc", 10, accuracy_off, asr_off)) == expected


def test_the_public_reruns_of_asc_10_are_within_two_pictures():
    row = dataclasses.replace(
        reproduced("asc", 10), accuracy=10820 / 12830, attack_success_rate=9906 / 12830
    )
    assert agreement(row) == "within two pictures"


def test_another_count_of_channels_differs_whatever_the_rates():
    assert agreement(dataclasses.replace(reproduced("asc", 2), removed=44)) == "differs"


def test_only_the_line_of_desc_4_contradicts_its_table():
    found = [(o, t) for o in PUBLISHED for t in PUBLISHED[o] if contradicts_its_table(o, t)]
    assert found == [("desc", 4)]


def test_a_contradictory_line_is_met_within_two_pictures():
    row = dataclasses.replace(reproduced("desc", 2, accuracy_off=2), threshold=4)
    assert agreement(row) == "contradictory"
    row = dataclasses.replace(reproduced("desc", 2, accuracy_off=3), threshold=4)
    assert agreement(row) == "differs"


def test_the_consistent_row_for_desc_4_meets_a_contradictory_line():
    row = dataclasses.replace(reproduced("desc", 2), threshold=4)
    assert agreement(row) == "contradictory"


def test_a_wrong_row_for_desc_4_is_not_excused_by_the_contradiction():
    row = dataclasses.replace(reproduced("desc", 2), threshold=4, removed=50)
    assert agreement(row) == "differs"


def test_other_pictures_get_no_agreement():
    row = dataclasses.replace(reproduced("asc", 2), poisoned=58)
    assert agreement(row) == "other pictures: 58, not 12830"
    row = dataclasses.replace(reproduced("asc", 2), clean=57)
    assert agreement(row) == "other pictures: 57, not 12830"


def test_without_poisoned_pictures_accuracy_and_channels_are_compared():
    row = dataclasses.replace(reproduced("asc", 2), attack_success_rate=None, poisoned=None)
    assert agreement(row) == "equal"


def test_a_threshold_that_was_not_published_is_said_to_be_so():
    assert agreement(Row("asc", 3, run="abc")) == "not published"
