"""A report as Markdown, and as a folder of files."""

import dataclasses
import shutil
from pathlib import Path

from backdoor.reporting.formats import FORMATS, in_markdown
from backdoor.reporting.page import PAGE, as_page
from backdoor.reporting.report import Report, ReportFigure, Section
from backdoor.reporting.tables import Table

REPORT_FILE = "report.md"
OWN_FILES = (
    "table[0-9]*.*",
    "orders*.*",
    "seeds*.*",
    "zoo*.*",
    "parts*.*",
    "figure[1-4]*.*",
    "class_distribution*.*",
    "mistakes*.*",
    REPORT_FILE,
    PAGE,
)


def as_markdown(report: Report, figures: bool = True) -> str:
    """Return the whole report; without figures, what a terminal can show of it."""
    paragraphs = [f"# {in_markdown(report.title)}\n"]
    paragraphs += [f"    {report.command}\n"] if report.command else []
    for table in report.tables:
        paragraphs += _table(table)
    for number, section in enumerate(report.sections, start=1):
        paragraphs += _section(section, suffix_of(report, number), figures)
    return "\n".join([*paragraphs, *(f"{note}\n" for note in report.notes)])


def write_files(report: Report, folder: Path) -> None:
    """Write the report, each table and each figure into an empty folder."""
    for table in report.tables:
        _write_table(table, folder)
    for number, section in enumerate(report.sections, start=1):
        suffix = suffix_of(report, number)
        for table in section.tables:
            _write_table(_told_apart(table, section, suffix), folder)
        for entry in section.figures:
            if entry.figure is not None:
                file = folder / f"{entry.name}{suffix}"
                entry.figure.savefig(file.with_suffix(".png"), dpi=150)
                entry.figure.set_layout_engine("none")  # all is in its place now
                file.with_suffix(".svg").write_bytes(entry.svg)
    (folder / REPORT_FILE).write_text(as_markdown(report))
    (folder / PAGE).write_text(as_page(report))


def replace_files(folder: Path, made: Path) -> None:
    """Put the files made in the place of an earlier report's, of which none stays behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in OWN_FILES:
        for old in folder.glob(pattern):
            old.unlink()
    for file in made.iterdir():
        shutil.copy(file, folder)


def suffix_of(report: Report, number: int) -> str:
    """Return what tells a section's files from those of the others."""
    return f"-{number}" if len(report.sections) > 1 else ""


def _section(section: Section, suffix: str, figures: bool) -> list[str]:
    paragraphs = [f"## {in_markdown(section.title)}\n"] if section.title else []
    paragraphs += [f"{' '.join(section.summary)}\n"] if section.summary else []
    for table in section.tables:
        paragraphs += _table(table)
    paragraphs += [f"{note}\n" for note in section.notes]
    return paragraphs + [
        _figure(entry, suffix) for entry in section.figures if figures or entry.figure is None
    ]


def _told_apart(table: Table, section: Section, suffix: str) -> Table:
    """Return the table with a name, and a title, that no other section's has."""
    title = f"{table.title}; {section.title}" if section.title else table.title
    return dataclasses.replace(table, name=f"{table.name}{suffix}", title=title)


def _write_table(table: Table, folder: Path) -> None:
    for style, render in FORMATS.items():
        (folder / f"{table.name}.{style}").write_text(render(table))


def _table(table: Table) -> list[str]:
    missing = [f"Missing: {', '.join(table.missing)}.\n"] if table.missing else []
    return [f"### {table.title}\n", FORMATS["md"](table), *missing]


def _figure(entry: ReportFigure, suffix: str) -> str:
    if entry.figure is None:
        return f"{entry.title}: missing, {entry.lost}\n"
    return f"![{entry.title}]({entry.name}{suffix}.png)\n"
