"""Tables of results: cells first, then Markdown, CSV, LaTeX or plain text."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from backdoor.pruning.orders import described
from backdoor.reporting.published import PUBLISHED_CHANNELS, agreement, published_line
from backdoor.reporting.row import Row, percent, percent_interval
from backdoor.tracking.record import ACCURACY, ATTACK, DETECTION, FALSE_ALARMS

Line = Mapping[str, str]  # cells by column
INTERVAL = "{}, 95 %"  # column of the interval of a rate
POISONED_COLUMNS = (
    "ASR %",
    INTERVAL.format("ASR"),
    "detected %",
    INTERVAL.format("detected"),
    "published ASR %",
    "difference of ASR",
)
RUN_COLUMN = "run"
KIND, DEFENCE, ORACLE = "kind", "defence", "oracle"  # column of a comparison, and what is in it


@dataclass(frozen=True)
class Table:
    """The lines of one order, or of many orders, cell by cell.

    Attributes:
        name: Of its files, without suffix.
        title: With the table's number, where it has one.
        missing: Names of runs that were asked for and are not complete.
    """

    name: str
    title: str
    lines: Sequence[Line]
    missing: Sequence[str] = ()


def order_table(
    number: int, order: str, rows: Sequence[Row], compare: bool, poisoned: bool = True
) -> Table:
    """Return the table of one order's rows, by threshold.

    Args:
        poisoned: Whether there are poisoned pictures; else what needs them has no column.
        compare: Add the published values, the differences and how each row stands to its line.
    """
    rows = sorted(rows, key=lambda row: row.threshold)
    lines = [_cells(row) | (_comparison(row) if compare else {}) for row in rows]
    dropped = () if poisoned else POISONED_COLUMNS
    lines = [{key: cell for key, cell in line.items() if key not in dropped} for line in lines]
    missing = [f"{order}-{row.threshold:g}" for row in rows if not row.run]
    title = f"the GoodNet on the test sets, channels removed in order {described(order)}"
    return Table(f"table{number}", f"Table {number}: {title}", lines, missing)


def as_csv(lines: Sequence[Line]) -> str:
    """Return the table as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _tabulated(style: str) -> Callable[[Sequence[Line]], str]:
    def render(lines: Sequence[Line]) -> str:
        text = str(tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True))
        return "\n".join(_ruled(text.splitlines(), lines, style)) + "\n"

    return render


def _ruled(text: list[str], lines: Sequence[Line], style: str) -> list[str]:
    """Return a table's text with a line above each block of oracles, which are no defences."""
    kinds = [line.get(KIND, "") for line in lines]
    starts = [n for n in range(1, len(kinds)) if kinds[n - 1 : n + 1] == [DEFENCE, ORACLE]]
    first, rule = (4, "\\midrule") if style == "latex_booktabs" else (2, "")
    for number in reversed(starts):
        blank = re.sub(r"[^|]", "-", text[first + number]) if style == "github" else rule
        text.insert(first + number, blank)
    return text


FORMATS: dict[str, Callable[[Sequence[Line]], str]] = {
    "md": _tabulated("github"),
    "csv": as_csv,
    "tex": _tabulated("latex_booktabs"),
}
"""Each takes the lines of a table and returns a file's text, by the file's suffix."""


def _cells(row: Row) -> dict[str, str]:
    cells = {
        "threshold": f"{row.threshold:g} %",
        "accuracy %": percent(row.accuracy, 4),
        INTERVAL.format("accuracy"): percent_interval(row.metrics, ACCURACY),
        "ASR %": percent(row.attack_success_rate, 4),
        INTERVAL.format("ASR"): percent_interval(row.metrics, ATTACK),
        "channels": f"{row.removed}/{row.channels}",
        "detected %": percent(row.detection_rate, 2),
        INTERVAL.format("detected"): percent_interval(row.metrics, DETECTION),
        "false alarms %": percent(row.false_alarm_rate, 2),
        INTERVAL.format("false alarms"): percent_interval(row.metrics, FALSE_ALARMS),
        RUN_COLUMN: row.run,
    }
    if not row.run:
        cells = dict.fromkeys(cells, "") | {
            "threshold": cells["threshold"],
            RUN_COLUMN: "missing",
        }
    return cells


def _comparison(row: Row) -> dict[str, str]:
    columns = ("published accuracy %", "difference", "published ASR %", "difference of ASR")
    cells = dict.fromkeys((*columns, "published channels"), "")
    line = published_line(row)
    if line and row.run:
        attack = row.attack_success_rate
        values = (
            f"{line.accuracy:.4f}",
            f"{100 * row.accuracy - line.accuracy:+.4f}",
            f"{line.attack_success_rate:.4f}",
            "" if attack is None else f"{100 * attack - line.attack_success_rate:+.4f}",
            f"{line.removed}/{PUBLISHED_CHANNELS}",
        )
        cells = dict(zip(cells, values, strict=True))
    return cells | {"verdict": agreement(row)}
