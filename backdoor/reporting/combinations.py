"""The runs of a sweep, sorted into what may be compared."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run

from backdoor.pictures.test_bed import SETS
from backdoor.tracking.record import (
    LAYER,
    NETWORK,
    ORDER,
    SCALE,
    SCALED,
    SEED,
    TARGET,
    THRESHOLD,
    Record,
    axes_of,
    data_tag,
    is_complete,
)
from backdoor.tracking.sweeps import positions_in

Cell = tuple[str, float]  # order and threshold
SAME_TAGS = (NETWORK, LAYER, SCALED, *(data_tag(name, "sha256") for name in SETS))
SAME_PARAMS = (TARGET, SCALE, SEED)


@dataclass(frozen=True, eq=False)
class Combination:
    """The runs of one network, layer, data and seed: only these may stand in one table.

    Attributes:
        title: What the sweep varied besides order and threshold; empty where that is nothing.
        records: The newest complete run of each order and threshold.
        superseded: Older complete runs of the same order and threshold.
        missing: Orders and thresholds of the sweep without a complete run.
    """

    title: str
    records: Mapping[Cell, Record]
    superseded: Sequence[Run]
    missing: Sequence[Cell]

    @property
    def orders(self) -> list[str]:
        return sorted({order for order, _ in [*self.records, *self.missing]})


def combinations(client: mlflow.MlflowClient, sweep: Run, runs: Sequence[Run]) -> list[Combination]:
    """Sort a sweep's runs by what they were run on; what has no complete run is all missing.

    Args:
        sweep: The parent run, which says what was asked for.
        runs: The runs under it, oldest first.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for run in sorted(runs, key=lambda run: positions_in(sweep.info.run_id, run)):
        record = Record(client, run)
        groups.setdefault(tuple(varied(sweep, record).items()), []).append(record)
    combined = []
    for values, group in groups.items():
        title = ", ".join(f"{key}={value}" for key, value in values)
        asked = _asked_for(sweep, [record.run for record in group])
        complete: dict[tuple[str, ...], dict[Cell, list[Record]]] = {}
        for record in group:
            if not is_complete(record.run):
                continue
            cell = (record.order, record.threshold)
            complete.setdefault(_identity(record), {}).setdefault(cell, []).append(record)
        for same in complete.values() or [{}]:
            newest = {cell: records[-1] for cell, records in same.items()}
            superseded = [record.run for records in same.values() for record in records[:-1]]
            missing = sorted(asked - set(same))
            combined.append(Combination(title, newest, superseded, missing))
    return combined


def varied(sweep: Run, record: Record) -> dict[str, str]:
    """Return the run's values of what the sweep varied besides order and threshold."""

    def value(key: str) -> str:
        names = (key, f"{key}.name")  # of a swept config group (dataset=faces,lab3), the choice's
        shown = record.run.data.params
        # A run that this sweep took over may show other parameters in front.
        known = shown if any(name in shown for name in names) else record.params
        return next((known[name] for name in names if name in known), "")

    return {key: value(key) for key in axes_of(sweep) if key not in (ORDER, THRESHOLD)}


def _identity(record: Record) -> tuple[str, ...]:
    tags = [record.run.data.tags.get(name, "") for name in SAME_TAGS]
    return (*tags, *(record.params[name] for name in SAME_PARAMS))


def _asked_for(sweep: Run, runs: Sequence[Run]) -> set[Cell]:
    axes = axes_of(sweep)
    orders = axes.get(ORDER) or {run.data.params[ORDER] for run in runs}
    thresholds = axes.get(THRESHOLD) or {run.data.params[THRESHOLD] for run in runs}
    return {
        (order, float(threshold))
        for order, threshold in itertools.product(orders, thresholds)
        if _is_number(threshold)
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
