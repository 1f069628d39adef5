"""The report of a sweep as a value: what is compared, tables, figures, notes."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zipfile import BadZipFile

import mlflow
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException

from backdoor.errors import UserError
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST
from backdoor.pruning.orders import labelled, orders
from backdoor.reporting import published
from backdoor.reporting.combinations import Combination, combinations
from backdoor.reporting.comparison import comparison_notes, comparison_table, needs_comparison
from backdoor.reporting.facts import Fact, facts
from backdoor.reporting.figures import (
    Panel,
    draw_class_distribution,
    draw_curves,
    draw_detection,
    draw_mistakes,
    draw_pareto,
    draw_samples,
)
from backdoor.reporting.html import as_svg
from backdoor.reporting.parts import parts_table
from backdoor.reporting.row import Row, row_of
from backdoor.reporting.seeds import seeds_table
from backdoor.reporting.summary import summary
from backdoor.reporting.tables import Table, order_table
from backdoor.reporting.zoo import zoo_table
from backdoor.tracking.pages import page_of, pages_of
from backdoor.tracking.record import (
    COMMAND,
    DETECTION_CURVES,
    REMOVED,
    RUNS,
    TEST_CURVES,
    is_complete,
)
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import newest_sweep, positions_in, runs_of

MISTAKEN = "clean pictures that G gets wrong, the first to change along the walk"
MISSED = ", and poisoned ones that get the attacker's class, the last to change"

Drawing = tuple[str, Callable[[], Figure]]


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure, or why it is missing.

    Attributes:
        name: Of its file, without suffix.
    """

    name: str
    title: str
    figure: Figure | None
    lost: str = ""

    @functools.cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file, which stands beside the page and in it."""
        assert self.figure is not None, "it is not lost"
        return as_svg(self.figure)


@dataclass(frozen=True, eq=False)
class Section:
    """All there is of the runs that may be compared.

    Attributes:
        title: Empty where there is one section.
        summary: What it comes to, in sentences.
        facts: What was run where, name and value.
    """

    title: str
    summary: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]
    figures: Sequence[ReportFigure]
    facts: Sequence[Fact]


@dataclass(frozen=True, eq=False)
class Report:
    """What is shown of a sweep.

    Attributes:
        runs_at: Address of MLflow's pages of a run, before its id.
        command: By which the sweep can be repeated; empty where that is not known.
        tables: Over all sections.
    """

    sweep: str
    title: str
    runs_at: str
    command: str
    sections: Sequence[Section]
    tables: Sequence[Table]
    notes: Sequence[str]


def build_report(
    client: mlflow.MlflowClient,
    store: Store,
    sweep: str | None,
    explain: Callable[[Exception], str] = str,
) -> Report:
    """Build the report of a sweep, or of the newest one, from its tracked runs alone.

    Args:
        explain: Makes one sentence of an error.

    Raises:
        UserError: The store has no such sweep, or none that has a complete run.
        RuntimeError: A run's artifacts are not those that were tracked.
    """
    name = sweep or newest_sweep(client, store)
    runs = runs_of(client, store, name) if name else []
    if not name or not any(map(is_complete, runs)):
        asked = f"sweep={sweep}" if sweep else "the newest sweep"
        raise UserError(
            f"{asked}: expected one with complete runs in {store.shown}, found none; "
            f"start one with make sweep"
        )
    parent = client.get_run(name)
    combined = combinations(client, parent, runs)
    sections = _each_once([_section(combination, explain) for combination in combined])
    begun = {number for run in runs for number in positions_in(name, run)}
    never = int(parent.data.tags.get(RUNS, len(begun))) - len(begun)
    notes = [f"{never} runs of the sweep were never started."] if never > 0 else []
    tables = [table for table in (zoo_table(combined), seeds_table(combined)) if table]
    runs_at = f"{pages_of(store)}{page_of(parent)}".removesuffix(name)
    command = parent.data.tags.get(COMMAND, "")
    title = f"Sweep {parent.info.run_name}"
    return Report(name, title, runs_at, command, sections, tables, notes)


def _each_once(sections: Sequence[Section]) -> list[Section]:
    """Leave out of each section the figures that an earlier one has already."""
    seen: set[Figure] = set()
    different = []
    for section in sections:
        figures = [entry for entry in section.figures if entry.figure not in seen]
        seen.update(entry.figure for entry in figures if entry.figure is not None)
        different.append(dataclasses.replace(section, figures=figures))
    return different


def summaries_of(report: Report) -> list[str]:
    """Return what each section comes to, behind its title where there are several."""
    return [
        " ".join([f"{section.title}:" if section.title else "", *section.summary]).strip()
        for section in report.sections
    ]


def _section(combination: Combination, explain: Callable[[Exception], str]) -> Section:
    records = combination.records.values()
    compare = published.applies(records)
    poisoned = not records or any(record.size_of(POISONED_TEST) for record in records)
    ranked = [order for order, _ in combination.records]
    many = needs_comparison(ranked)
    tables = [
        order_table(number, order, rows_of(combination, order), compare, poisoned)
        for number, order in enumerate(_numbered(combination), start=1)
        if order in combination.orders and not (many and order not in published.PUBLISHED)
    ]
    notes = [
        f"{run.info.run_name}: {run.info.run_id} was superseded by a newer run."
        for run in combination.superseded
    ]
    notes += _check(combination, explain)
    if many and combination.records:
        try:
            compared = comparison_table(combination.records, combination.missing, poisoned)
            tables.insert(0, compared)
            notes += comparison_notes(ranked) if poisoned else []
        except (OSError, MlflowException) as error:
            notes.append(f"Orders compared: missing, {explain(error)}")
    parts = parts_table(combination.records.items())
    tables += [parts] if parts else []
    figures = _figures(combination, explain) if combination.records else []
    told = summary([row_of(record) for record in records])
    return Section(combination.title, told, tables, notes, figures, facts([*records]))


def _numbered(combination: Combination) -> list[str]:
    """Return orders in the order of their tables: the published ones, the others, unknown ones."""
    there = [order for order in orders() if order in combination.orders]
    unknown = [order for order in combination.orders if order not in there]
    return list(dict.fromkeys([*published.PUBLISHED, *there, *unknown]))


def rows_of(combination: Combination, order: str) -> list[Row]:
    """Return the lines of one order's table, the missing ones too."""
    rows = [row_of(record) for (name, _), record in combination.records.items() if name == order]
    return rows + [Row(*cell) for cell in combination.missing if cell[0] == order]


def _check(combination: Combination, explain: Callable[[Exception], str]) -> list[str]:
    """Check what is shown against the artifacts it came from; return what could not be checked."""
    lost = []
    for record in combination.records.values():
        try:
            record.check()
        except (BadZipFile, ValueError, KeyError) as error:
            raise RuntimeError(
                f"run {record.run.info.run_id}: expected artifacts that can be read, got "
                f"{explain(error)}"
            ) from error
        except (OSError, MlflowException) as error:
            lost.append(
                f"{record.run.info.run_name}: its artifacts are lost, so its numbers could not be "
                f"checked: {explain(error)}"
            )
    return lost


def _figures(combination: Combination, explain: Callable[[Exception], str]) -> list[ReportFigure]:
    """Draw the figures; one whose artifacts are lost says so."""
    figures = []
    for name, (title, draw) in _drawings(combination).items():
        try:
            figures.append(ReportFigure(name, title, draw()))
        except (OSError, MlflowException) as error:
            figures.append(ReportFigure(name, title, None, explain(error)))
    return figures


def _drawings(combination: Combination) -> dict[str, Drawing]:
    """Return title and drawing of each figure; Figure 1 shows the first order at its largest stop.

    Mistakes are shown of the same run.
    """
    numbered = _numbered(combination)
    first = min(combination.records, key=lambda cell: (numbered.index(cell[0]), -cell[1]))
    record, shown = combination.records[first], f"{first[0]} to {first[1]:g} %"
    poisoned = record.size_of(POISONED_TEST) > 0
    pictures = "clean and poisoned pictures" if poisoned else "clean pictures"
    rates = "accuracy and attack success rate" if poisoned else "accuracy"
    drawings: dict[str, Drawing] = {
        "figure1": (
            f"Figure 1: {pictures}, B' with {shown}",
            lambda: draw_samples(record.samples(), record.classes, record.class_names()),
        ),
        "figure2": (
            f"Figure 2: {rates} against channels removed",
            lambda: draw_curves(_panels(combination), "GoodNet"),
        ),
    }
    if poisoned and needs_comparison(order for order, _ in combination.records):
        drawings |= {
            "figure3": (
                "Figure 3: accuracy lost against attack success rate, every k of every order",
                lambda: draw_pareto(_panels(combination)),
            ),
            "figure4": (
                "Figure 4: detection against false alarms, every k of every order",
                lambda: draw_detection(_panels(combination)),
            ),
        }
    return drawings | {
        "mistakes": (
            f"Worst mistakes of {shown}: {MISTAKEN}{MISSED if poisoned else ''}",
            lambda: draw_mistakes(record.mistakes(), record.classes, record.class_names()),
        ),
        "class_distribution": (
            "Class distribution",
            lambda: _class_distribution(json.dumps([record.class_counts(), record.class_names()])),
        ),
    }


@functools.lru_cache(maxsize=1)  # most sections are of the same pictures
def _class_distribution(counts_and_names: str) -> Figure:
    return draw_class_distribution(*json.loads(counts_and_names))


def _panels(combination: Combination) -> list[Panel]:
    """Return the GoodNet's curves on the test sets, one panel an order that has runs."""
    panels = []
    for order in filter(combination.orders.__contains__, _numbered(combination)):
        stops = {cell[1]: r for cell, r in combination.records.items() if cell[0] == order}
        if stops:
            record = next(iter(stops.values()))
            curves = (record.curve(name) for name in (*TEST_CURVES, *DETECTION_CURVES))
            accuracy, attack, alarms, detection = (curve or None for curve in curves)
            removed = {threshold: stop.count(REMOVED) for threshold, stop in stops.items()}
            panels.append(
                Panel(
                    labelled(order),
                    accuracy or [],
                    attack,
                    removed,
                    record.size_of(CLEAN_TEST),
                    record.size_of(POISONED_TEST),
                    alarms,
                    detection,
                )
            )
    return panels
