"""The published tables that this project reproduces, and how a row stands to them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backdoor.reporting.row import Row
from backdoor.tracking.record import BADNET, DATA_SET, LAYER, Record

PUBLISHED_PICTURES = 12830  # in each of the published test sets
NEAR = 2  # pictures that other hardware may decide otherwise


@dataclass(frozen=True)
class Published:
    """A line of the published tables; accuracy and ASR in per cent."""

    accuracy: float
    attack_success_rate: float
    removed: int


PUBLISHED: Mapping[str, Mapping[float, Published]] = {
    "asc": {
        2: Published(95.74434918160561, 100.0, 45),
        4: Published(92.1278254091972, 99.98441153546376, 48),
        10: Published(84.34138737334372, 77.21745908028059, 52),
    },
    "desc": {
        2: Published(93.9594699922057, 100.0, 1),
        4: Published(74.09197194076384, 100.0, 1),
        10: Published(74.09197194076384, 100.0, 2),
    },
}
PUBLISHED_CHANNELS = 60  # of the published network's layer


def applies(records: Iterable[Record]) -> bool:
    """Tell whether the runs are of the published data and network, as far as the config says."""
    expected = {DATA_SET: "lab3", BADNET: "auto"}
    there = list(records)
    return bool(there) and all(
        expected.items() <= record.params.items() and record.run.data.tags[LAYER] == "pool_3"
        for record in there
    )


def published_line(row: Row) -> Published | None:
    """Return the published line of the row's order and threshold, None where there is none."""
    return PUBLISHED.get(row.order, {}).get(row.threshold)


def agreement(row: Row) -> str:
    """Say how the row stands to its published line.

    `equal`, `within two pictures`: the same channels, and at most so many pictures apart in
    accuracy and in ASR; else `differs`. `contradictory`: the published line mixes two states of the
    network, and the row is one of them. Other pictures than the published ones are not compared.
    """
    line = published_line(row)
    if line is None:
        return "not published"
    if not row.run:
        return ""
    for count in (row.clean, row.poisoned):
        if count not in (None, PUBLISHED_PICTURES):
            return f"other pictures: {count}, not {PUBLISHED_PICTURES}"
    if contradicts_its_table(row.order, row.threshold):
        states = [other for other in PUBLISHED[row.order].values() if other is not line]
        return "contradictory" if any(_apart(row, other) <= NEAR for other in states) else "differs"
    apart = _apart(row, line)
    if apart > NEAR:
        return "differs"
    return "within two pictures" if apart else "equal"


def _apart(row: Row, line: Published) -> float:
    """Return how many pictures two lines are apart; infinitely many with other channels."""
    if row.removed != line.removed:
        return math.inf
    apart = abs(round((row.accuracy - line.accuracy / 100) * row.clean))
    if row.attack_success_rate is None or row.poisoned is None:
        return apart
    attack = row.attack_success_rate - line.attack_success_rate / 100
    return max(apart, abs(round(attack * row.poisoned)))


def contradicts_its_table(order: str, threshold: float) -> bool:
    """Tell whether a published line has another line's count and yet another line's figures.

    The same network with the same channels removed cannot have two accuracies, so such a line mixes
    two states: desc at 4 % is printed with the channels of 2 % and the figures of 10 %.
    """
    line = PUBLISHED[order][threshold]
    others = [other for points, other in PUBLISHED[order].items() if points != threshold]
    same_count = any(o.removed == line.removed and o.accuracy != line.accuracy for o in others)
    same_figures = any(o.accuracy == line.accuracy and o.removed != line.removed for o in others)
    return same_count and same_figures
