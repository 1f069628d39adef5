"""Tables of results, cell by cell; `formats` writes them down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
MANY, PUBLISHED_DIGITS = 1000, 4  # pictures that support a second decimal
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
    lines = [_cells(row, compare) | (_comparison(row) if compare else {}) for row in rows]
    dropped = () if poisoned else POISONED_COLUMNS
    lines = [{key: cell for key, cell in line.items() if key not in dropped} for line in lines]
    missing = [f"{order}-{row.threshold:g}" for row in rows if not row.run]
    title = f"the GoodNet on the test sets, channels removed in order {described(order)}"
    return Table(f"table{number}", f"Table {number}: {title}", lines, missing)


def digits(pictures: int | None) -> int:
    """Return how many decimals of a percentage so many pictures support."""
    return 1 if (pictures or 0) < MANY else 2


def _cells(row: Row, exact: bool) -> dict[str, str]:
    """Return a run's cells; exact ones have all the digits that the published tables have."""
    of_clean, of_poisoned = digits(row.clean), digits(row.poisoned)
    cells = {
        "threshold": f"{row.threshold:g} %",
        "accuracy %": percent(row.accuracy, PUBLISHED_DIGITS if exact else of_clean),
        INTERVAL.format("accuracy"): percent_interval(row.metrics, ACCURACY),
        "ASR %": percent(row.attack_success_rate, PUBLISHED_DIGITS if exact else of_poisoned),
        INTERVAL.format("ASR"): percent_interval(row.metrics, ATTACK),
        "channels": f"{row.removed}/{row.channels}",
        "detected %": percent(row.detection_rate, of_poisoned),
        INTERVAL.format("detected"): percent_interval(row.metrics, DETECTION),
        "false alarms %": percent(row.false_alarm_rate, of_clean),
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
