"""Tables as files: Markdown, CSV, and LaTeX for a paper."""

import csv
import io
import re
from collections.abc import Callable, Sequence

import pandas as pd
from tabulate import tabulate

from backdoor.reporting.tables import DEFENCE, KIND, ORACLE, RUN_COLUMN, Line, Table

RULE = "\\midrule"
IDS = (RUN_COLUMN, "run ids")  # columns that a paper has no use for


def as_markdown_table(table: Table) -> str:
    """Return the table in Markdown, with a line above the oracles, which are no defences."""
    lines = [{name: in_markdown(cell) for name, cell in line.items()} for line in table.lines]
    shown = tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)
    text = str(shown).splitlines()
    for number in reversed(_starts_of_oracles(table.lines)):
        text.insert(2 + number, re.sub(r"[^|]", "-", text[2 + number]))
    return "\n".join(text) + "\n"


def in_markdown(text: str) -> str:
    """Return a text with nothing in it that Markdown would set."""
    return re.sub(r"([\\|<>`*\[\]])", r"\\\1", text)


def as_csv(table: Table) -> str:
    """Return the table as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table.lines[0]))
    writer.writeheader()
    writer.writerows(table.lines)
    return text.getvalue()


def as_latex(table: Table) -> str:
    """Return the table as a float with a caption and a label, for the package booktabs.

    Numbers stand on the right, texts on the left. Ids of runs are left out.
    """
    frame = pd.DataFrame(table.lines).drop(columns=list(IDS), errors="ignore")
    styled = frame.style.hide(axis="index").format(escape="latex")
    text = styled.format_index(escape="latex", axis=1).to_latex(
        column_format="".join("r" if _is_number(frame[name]) else "l" for name in frame),
        hrules=True,
        caption=_in_latex(_caption(table.title)),
        label=f"tab:{table.name}",
        position="tbp",
        position_float="centering",
    )
    lines = text.splitlines()
    for number in reversed(_starts_of_oracles(table.lines)):
        lines.insert(lines.index(RULE) + 1 + number, RULE)
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "md": as_markdown_table,
    "csv": as_csv,
    "tex": as_latex,
}
"""Each returns a file's text, by the file's suffix."""


def _starts_of_oracles(lines: Sequence[Line]) -> list[int]:
    """Return the numbers of lines at which oracles follow on defences."""
    kinds = [line.get(KIND, "") for line in lines]
    return [n for n in range(1, len(kinds)) if kinds[n - 1 : n + 1] == [DEFENCE, ORACLE]]


def _is_number(cells: "pd.Series[str]") -> bool:
    return all(re.match(r"[-+<]?\s?\d|$", cell) for cell in cells)


def _caption(title: str) -> str:
    """Return a title without the table's number, which LaTeX gives."""
    text = re.sub(r"^Table \d+: ", "", title)
    return text[:1].upper() + text[1:]


def _in_latex(text: str) -> str:
    cell = pd.DataFrame([text]).style.hide(axis="index").hide(axis="columns")
    return str(cell.format(escape="latex").to_string()).strip()
