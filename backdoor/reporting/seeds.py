"""The same experiment with several seeds: mean and standard deviation."""

import statistics
from collections.abc import Sequence

from backdoor.reporting.combinations import Cell, Combination
from backdoor.reporting.row import Row, row_of
from backdoor.reporting.tables import Line, Table
from backdoor.tracking.record import SEED

SEEDS = (SEED, "attack.seed", "dataset.draw.seed")
RATES = {
    "accuracy %": lambda row: row.accuracy,
    "ASR %": lambda row: row.attack_success_rate,
    "detected %": lambda row: row.detection_rate,
    "false alarms %": lambda row: row.false_alarm_rate,
}


def seeds_table(combinations: Sequence[Combination]) -> Table | None:
    """Return mean and standard deviation over seeds; None where no cell has two or more."""
    cells: dict[tuple[str, Cell], list[Row]] = {}
    for combination in combinations:
        for cell, record in combination.records.items():
            cells.setdefault((without_seeds(combination.title), cell), []).append(row_of(record))
    lines = [
        _line(what, cell, rows) for (what, cell), rows in sorted(cells.items()) if len(rows) > 1
    ]
    if not lines:
        return None
    title = "Mean and standard deviation over seeds: the GoodNet on the test sets"
    return Table("seeds", title, lines)


def without_seeds(title: str) -> str:
    """Return a combination's title without the seeds in it."""
    parts = (part for part in title.split(", ") if part.partition("=")[0] not in SEEDS)
    return ", ".join(parts)


def _line(what: str, cell: Cell, rows: Sequence[Row]) -> Line:
    line = ({"runs of": what} if what else {}) | {
        "order": cell[0],
        "threshold": f"{cell[1]:g} %",
        "seeds": str(len(rows)),
    }
    for column, rate in RATES.items():
        values = [100 * value for value in map(rate, rows) if value is not None]
        line[column] = ""
        if len(values) > 1:
            line[column] = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    removed = [row.removed for row in rows]
    line["channels"] = f"{min(removed)} to {max(removed)}"
    return line
