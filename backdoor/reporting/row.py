"""One run as a line of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backdoor.evaluation import HIGH, LOW
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST
from backdoor.tracking.record import (
    ACCURACY,
    ATTACK,
    DETECTION,
    FALSE_ALARMS,
    REMOVED,
    TOTAL,
    Record,
)


@dataclass(frozen=True)
class Row:
    """One run's line; rates are fractions. Without `run` it is missing and the rest is empty.

    Attributes:
        attack_success_rate, detection_rate, poisoned: None without poisoned pictures.
        clean, poisoned: How many pictures the test sets have.
        metrics: All that was measured, by MLflow's names.
    """

    order: str
    threshold: float
    accuracy: float = 0.0
    attack_success_rate: float | None = None
    detection_rate: float | None = None
    false_alarm_rate: float = 0.0
    removed: int = 0
    channels: int = 0
    clean: int = 0
    poisoned: int | None = None
    run: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def row_of(record: Record) -> Row:
    """Return what the tables show of a complete run."""
    metrics = record.metrics
    return Row(
        order=record.order,
        threshold=record.threshold,
        accuracy=metrics[ACCURACY],
        attack_success_rate=record.metric(ATTACK),
        detection_rate=record.metric(DETECTION),
        false_alarm_rate=metrics[FALSE_ALARMS],
        removed=record.count(REMOVED),
        channels=record.count(TOTAL),
        clean=record.size_of(CLEAN_TEST),
        poisoned=record.size_of(POISONED_TEST) or None,
        run=record.run.info.run_id,
        metrics=metrics,
    )


def points(number: float) -> str:
    """Return so many percentage points in words."""
    return f"{number:g} point" if number == 1 else f"{number:g} points"


def percent(rate: float | None, digits: int) -> str:
    """Return a rate in per cent; nothing where it was not measured."""
    return "" if rate is None else f"{100 * rate:.{digits}f}"


def percent_interval(metrics: Mapping[str, float], name: str) -> str:
    """Return the ends of a rate's interval in per cent; nothing where there is none."""
    if name + LOW not in metrics:
        return ""
    return f"{100 * metrics[name + LOW]:.1f} to {100 * metrics[name + HIGH]:.1f}"
