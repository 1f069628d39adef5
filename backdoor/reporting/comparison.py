"""Many orders in one table: what each costs and is worth, how sure that is, what it needs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backdoor.evaluation import HIGH, LOW, Labels, goodnet_labels, mcnemar
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST
from backdoor.pruning.orders import is_oracle, needed, orders
from backdoor.reporting.combinations import Cell
from backdoor.reporting.published import PUBLISHED
from backdoor.reporting.row import Row, percent, percent_interval, row_of
from backdoor.reporting.tables import DEFENCE, KIND, ORACLE, RUN_COLUMN, Line, Table
from backdoor.tracking.record import (
    ACCURACY,
    ATTACK,
    DER,
    DETECTION,
    DETECTION_AT,
    FALSE_ALARMS,
    FLIP_DEPTH,
    ORDER_SECONDS,
    Record,
)

COMPARED = (
    "In brackets: Wilson's 95 % interval, of the AUROC DeLong's. best: the largest DER (defence "
    "effectiveness rating; doing nothing gives 0.5) at its threshold, of the defences and of the "
    "oracles, which see poisoned pictures and are no defence.",
    "AUROC: how well the first k at which a picture's label changes tells poisoned from clean; "
    "under 0.5, poisoned pictures change later.",
)

Tests = Mapping[str, float]  # probabilities by what is compared


def usual_order() -> str:
    """Return the order that the others are compared with, fine-pruning's."""
    return orders()[0]


def needs_comparison(ordered: Iterable[str]) -> bool:
    """Tell whether orders are to be compared: several, and not the published two alone."""
    different = set(ordered)
    return len(different) > 1 and not different <= set(PUBLISHED)


def comparison_notes(ordered: Iterable[str]) -> list[str]:
    """Return what a reader of the comparison has to know."""
    usual = usual_order()
    tested = (
        f"p: McNemar's exact test against {usual} on the same pictures, not corrected for how many "
        f"orders are compared."
    )
    return [*([tested] if usual in ordered else []), *COMPARED]


def comparison_table(
    records: Mapping[Cell, Record], missing: Sequence[Cell], poisoned: bool
) -> Table:
    """Return one table of all orders by threshold, defences first, oracles below a line.

    The best has the largest defence effectiveness rating at its threshold. Each order is compared
    with the usual one by McNemar's exact test on the same test pictures.

    Raises:
        OSError, MlflowException: The labels of a run are lost.
    """
    known = orders()
    rows = {cell: row_of(record) for cell, record in records.items()}
    best = _best(rows)
    lines = []
    for cell in sorted(rows, key=lambda cell: (cell[1], known.index(cell[0]))):
        usual = records.get((usual_order(), cell[1]))
        tests = _tests(usual, records[cell]) if usual and cell[0] != usual_order() else {}
        lines.append(_line(rows[cell], tests, cell in best, poisoned))
    names = [f"{order}-{threshold:g}" for order, threshold in missing]
    return Table("orders", "Orders compared: the GoodNet on the test sets", lines, names)


def _best(rows: Mapping[Cell, Row]) -> set[Cell]:
    """Return the best defence and the best oracle at each threshold."""
    best: dict[tuple[float, bool], Cell] = {}
    for cell, row in rows.items():
        if DER in row.metrics:
            kind = (cell[1], is_oracle(cell[0]))
            if kind not in best or row.metrics[DER] > rows[best[kind]].metrics[DER]:
                best[kind] = cell
    return set(best.values())


def _tests(usual: Record, record: Record) -> Tests:
    """Return how likely chance alone makes the differences of accuracy and of ASR."""
    tests = {"accuracy": mcnemar(_right(usual), _right(record))}
    if record.size_of(POISONED_TEST):
        tests["ASR"] = mcnemar(_hit(usual), _hit(record))
    return tests


def _right(record: Record) -> NDArray[np.bool_]:
    truth: Labels = record.labels[f"{CLEAN_TEST}_truth"]
    return np.asarray(_goodnet(record, CLEAN_TEST) == truth)


def _hit(record: Record) -> NDArray[np.bool_]:
    return np.asarray(_goodnet(record, POISONED_TEST) == record.targets)


def _goodnet(record: Record, name: str) -> Labels:
    badnet, pruned = (record.labels[f"{name}_{what}"] for what in ("badnet", "pruned"))
    return goodnet_labels(badnet, pruned, record.classes)


def _line(row: Row, tests: Tests, best: bool, poisoned: bool) -> Line:
    metrics = row.metrics
    line = {
        "threshold": f"{row.threshold:g} %",
        "order": row.order,
        KIND: ORACLE if is_oracle(row.order) else DEFENCE,
        "channels": f"{row.removed}/{row.channels}",
        "accuracy %": _rate(metrics, ACCURACY),
        "p": _probability(tests.get("accuracy")),
    }
    if poisoned:
        line |= {
            "ASR %": _rate(metrics, ATTACK),
            "p of ASR": _probability(tests.get("ASR")),
            "detected %": _rate(metrics, DETECTION),
        }
    line["false alarms %"] = _rate(metrics, FALSE_ALARMS)
    if poisoned:
        line |= {
            "DER": f"{metrics[DER]:.3f}" if DER in metrics else "",
            "best": (f"best {ORACLE}" if is_oracle(row.order) else "best") if best else "",
            "AUROC": _area(metrics, FLIP_DEPTH),
            **{
                f"detected % at {points} % false alarms": _rate(metrics, name)
                for points, name in DETECTION_AT.items()
            },
        }
    seconds = metrics.get(ORDER_SECONDS)
    return line | {
        "seconds": "" if seconds is None else f"{seconds:.1f}",
        "needs": ", ".join(needed(row.order)),
        RUN_COLUMN: row.run,
    }


def _rate(metrics: Mapping[str, float], name: str) -> str:
    ends = percent_interval(metrics, name)
    return percent(metrics.get(name), 1) + (f" ({ends})" if ends else "")


def _area(metrics: Mapping[str, float], name: str) -> str:
    if name + LOW not in metrics:
        return ""
    return f"{metrics[name]:.2f} ({metrics[name + LOW]:.2f} to {metrics[name + HIGH]:.2f})"


def _probability(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
