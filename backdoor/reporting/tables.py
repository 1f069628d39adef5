"""Tables of results: cells first, then Markdown, CSV, LaTeX or plain text."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from backdoor.pruning.orders import described
from backdoor.reporting.published import PUBLISHED_CHANNELS, agreement, published_line
from backdoor.reporting.row import Row, percent

Line = Mapping[str, str]  # cells by column
POISONED_COLUMNS = ("ASR %", "detected %", "published ASR %", "difference of ASR")
RUN_COLUMN = "run"


@dataclass(frozen=True)
class Table:
    """The lines of one order, cell by cell.

    Attributes:
        missing: Names of runs that were asked for and are not complete.
    """

    number: int
    title: str
    lines: Sequence[Line]
    missing: Sequence[str]


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
    return Table(number, title, lines, missing)


def as_csv(lines: Sequence[Line]) -> str:
    """Return the table as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _tabulated(style: str) -> Callable[[Sequence[Line]], str]:
    def render(lines: Sequence[Line]) -> str:
        return str(tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True)) + "\n"

    return render


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
        "ASR %": percent(row.attack_success_rate, 4),
        "channels": f"{row.removed}/{row.channels}",
        "detected %": percent(row.detection_rate, 2),
        "false alarms %": percent(row.false_alarm_rate, 2),
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
