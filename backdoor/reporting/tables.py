"""Tables of results in Markdown, CSV and LaTeX, and the comparison with the published ones."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

FORMATS = {"txt": "simple", "md": "github", "tex": "latex_booktabs"}
PUBLISHED_PICTURES = 12830  # in each of the published test sets
NEAR = 2  # pictures that other hardware may decide otherwise


@dataclass(frozen=True)
class Row:
    """One run's line; rates are fractions. Without `run` it is missing and the rest is empty.

    Attributes:
        clean, poisoned: Pictures of the test sets.
    """

    order: str
    threshold: float
    accuracy: float = 0.0
    attack_success_rate: float = 0.0
    detection_rate: float = 0.0
    false_alarm_rate: float = 0.0
    removed: int = 0
    channels: int = 0
    clean: int = 0
    poisoned: int = 0
    run: str = ""


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


def verdict(row: Row) -> str:
    """Say how the row stands to its published line.

    `equal`, `within two pictures`: the same channels, and at most so many pictures apart in
    accuracy and in ASR; else `differs`. `contradictory`: the published line mixes two states of the
    network, and the row is one of them. On other pictures than the published ones there is none.
    """
    published = PUBLISHED.get(row.order, {}).get(row.threshold)
    if published is None:
        return "not published"
    if not row.run:
        return ""
    for found in (row.clean, row.poisoned):
        if found != PUBLISHED_PICTURES:
            return f"other pictures: {found}, not {PUBLISHED_PICTURES}"
    if contradicts_its_table(row.order, row.threshold):
        states = [each for each in PUBLISHED[row.order].values() if each is not published]
        return "contradictory" if any(_apart(row, each) <= NEAR for each in states) else "differs"
    apart = _apart(row, published)
    if apart > NEAR:
        return "differs"
    return "within two pictures" if apart else "equal"


def _apart(row: Row, line: Published) -> float:
    """Return how many pictures two lines are apart; infinitely many with other channels."""
    if row.removed != line.removed:
        return math.inf
    return max(
        abs(round((row.accuracy - line.accuracy / 100) * row.clean)),
        abs(round((row.attack_success_rate - line.attack_success_rate / 100) * row.poisoned)),
    )


def contradicts_its_table(order: str, threshold: float) -> bool:
    """Tell whether a published line has another line's count and yet another line's figures.

    The same network with the same channels removed cannot have two accuracies, so such a line mixes
    two states: desc at 4 % is printed with the channels of 2 % and the figures of 10 %.
    """
    line = PUBLISHED[order][threshold]
    others = [each for key, each in PUBLISHED[order].items() if key != threshold]
    same_count = any(o.removed == line.removed and o.accuracy != line.accuracy for o in others)
    same_figures = any(o.accuracy == line.accuracy and o.removed != line.removed for o in others)
    return same_count and same_figures


def result_table(rows: Sequence[Row], compare: bool, style: str) -> str:
    """Return the table in one of FORMATS or as csv.

    Args:
        compare: Add the published values, the differences and the verdict.
    """
    lines = [_line(row, compare) for row in sorted(rows, key=lambda row: row.threshold)]
    if style == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()
    return (
        str(tabulate(lines, headers="keys", tablefmt=FORMATS[style], disable_numparse=True)) + "\n"
    )


def _line(row: Row, compare: bool) -> dict[str, str]:
    line = {
        "threshold": f"{row.threshold:g} %",
        "accuracy %": f"{100 * row.accuracy:.4f}",
        "ASR %": f"{100 * row.attack_success_rate:.4f}",
        "channels": f"{row.removed}/{row.channels}",
        "detected %": f"{100 * row.detection_rate:.2f}",
        "false alarms %": f"{100 * row.false_alarm_rate:.2f}",
        "run": row.run,
    }
    if not row.run:
        line = dict.fromkeys(line, "") | {"threshold": line["threshold"], "run": "missing"}
    return line | _comparison(row) if compare else line


def _comparison(row: Row) -> dict[str, str]:
    published = PUBLISHED.get(row.order, {}).get(row.threshold)
    keys = (
        "published accuracy %",
        "difference",
        "published ASR %",
        "difference of ASR",
        "published channels",
    )
    values = dict.fromkeys(keys, "")
    if published and row.run:
        found = (
            f"{published.accuracy:.4f}",
            f"{100 * row.accuracy - published.accuracy:+.4f}",
            f"{published.attack_success_rate:.4f}",
            f"{100 * row.attack_success_rate - published.attack_success_rate:+.4f}",
            f"{published.removed}/60",
        )
        values = dict(zip(keys, found, strict=True))
    return values | {"verdict": verdict(row)}
