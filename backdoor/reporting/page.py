"""A report as one page, with tables that can be sorted and filtered, and all figures in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from backdoor.reporting.html import inline, rendered
from backdoor.reporting.report import Report, ReportFigure
from backdoor.reporting.tables import INTERVAL, RUN_COLUMN, Line, Table

PAGE = "index.html"
TEMPLATE = "report.html"
ID_SHOWN = 8  # letters of a run's id
IN_BRACKETS = re.compile(r"(\S+) \((.+ to .+)\)")  # a rate and its interval in one cell
MANY = 8  # lines of a table, from which on it can be filtered


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, in small print under it an interval, and where it leads."""

    text: str
    small: str = ""
    link: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it stands on the left; numbers stand on the right."""
        return not re.match(r"[-+<]?\s?\d", self.text) and not self.link


def as_page(report: Report) -> str:
    """Return the page, which needs nothing beside it."""
    return rendered(TEMPLATE, {"report": report, "grid": grid, "shown": shown, "many": MANY})


def grid(table: Table, runs_at: str) -> tuple[Sequence[str], Sequence[Sequence[Cell]]]:
    """Return a table's columns, and its cells line by line, an interval under its rate."""
    there = list(dict.fromkeys(column for line in table.lines for column in line))
    intervals = {
        f"{name} %": INTERVAL.format(name)
        for name in (column.removesuffix(" %") for column in there)
        if INTERVAL.format(name) in there
    }
    columns = [column for column in there if column not in intervals.values()]
    lines = [
        [_cell(line, column, intervals.get(column, ""), runs_at) for column in columns]
        for line in table.lines
    ]
    return columns, lines


def shown(entry: ReportFigure) -> str:
    """Return a figure as an address that holds it; nothing where it is lost."""
    return "" if entry.figure is None else inline(entry.svg)


def _cell(line: Line, column: str, interval: str, runs_at: str) -> Cell:
    text = line.get(column, "")
    if column == RUN_COLUMN and len(text) > ID_SHOWN:
        return Cell(text[:ID_SHOWN], link=runs_at + text)
    within = IN_BRACKETS.fullmatch(text)
    return Cell(*within.groups()) if within else Cell(text, line.get(interval, ""))
