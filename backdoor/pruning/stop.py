"""Where pruning stops: rules that look at clean validation pictures and a threshold alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.versions import version

if TYPE_CHECKING:
    from backdoor.evaluation import Labels  # which loads SciPy, and --help needs not


@version(1)
def channels_to_remove(correct: NDArray[np.int64], total: int, threshold: float | str) -> int:
    """Return the fewest channels, at least one, whose removal costs `threshold` points of accuracy.

    Counts are compared, not rates: in floating point 0.95 - 0.92 < 0.03.

    Args:
        correct: Clean validation pictures right at k = 0..C, shape (C + 1,).
        total: Clean validation pictures.
        threshold: Percentage points of accuracy given up: 2 is two points; reached is enough.

    Raises:
        UserError: The threshold is no number in (0, 100], or no k gives up that much.
    """
    fewest_lost = math.ceil(check_threshold(threshold) * total / 100)
    lost = correct[0] - correct
    enough = np.flatnonzero(lost[1:] >= fewest_lost)
    if not len(enough):
        worst = 100 * int(lost.max()) / total
        raise UserError(
            f"threshold: expected a loss of accuracy that pruning reaches, got {threshold} points; "
            f"the largest drop is {worst:.2f} points"
        )
    return int(enough[0]) + 1


@version(1)
def first(labels: Labels, truth: Labels, threshold: float | str) -> int:
    """Return the first k, at least 1, that costs `threshold` points of accuracy.

    Raises:
        UserError: No k costs that much.
    """
    return channels_to_remove((labels == truth).sum(axis=1), len(truth), threshold)


@version(1)
def before(labels: Labels, truth: Labels, threshold: float | str) -> int:
    """Return the last k up to which no more than `threshold` points of accuracy are lost."""
    correct = (labels == truth).sum(axis=1)
    return _last_within(correct[0] - correct, len(truth), threshold)


@version(1)
def false_alarms(labels: Labels, truth: Labels, threshold: float | str) -> int:
    """Return the last k up to which G answers N to at most `threshold` per cent of the pictures."""
    return _last_within((labels != labels[0]).sum(axis=1), len(truth), threshold)


STOPS: dict[str, Callable[[Labels, Labels, float | str], int]] = {
    "first": first,
    "before": before,
    "false_alarms": false_alarms,
}
"""Each takes the labels (C + 1, n) of the clean validation pictures at every k, their classes (n,)
and a threshold, and returns k."""


def check_stop(stop: str) -> str:
    """Return the name of a rule; refuse one that stands for none.

    Raises:
        UserError: The message lists the choices.
    """
    if stop not in STOPS:
        raise UserError(f"stop: expected one of {', '.join(STOPS)}, got {stop!r}")
    return stop


def _last_within(spent: NDArray[np.int64], total: int, threshold: float | str) -> int:
    too_much = np.flatnonzero(100 * spent > math.floor(check_threshold(threshold) * total))
    return int(too_much[0]) - 1 if len(too_much) else len(spent) - 1


def check_threshold(threshold: float | str) -> Fraction:
    """Return the threshold exactly as written.

    Raises:
        UserError: It is no number of percentage points in (0, 100].
    """
    try:
        points = Fraction(Decimal(str(threshold)))
    except (InvalidOperation, ValueError, OverflowError):
        points = Fraction(0)
    if not 0 < points <= 100:
        raise UserError(
            f"threshold: expected percentage points above 0 and at most 100, got {threshold}"
        )
    return points
