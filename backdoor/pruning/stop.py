"""Where pruning stops."""

import math
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.versions import version


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
        worst = 100 * int(lost[1:].max()) / total
        raise UserError(
            f"threshold: expected a loss of accuracy that pruning reaches, got {threshold} points; "
            f"the largest drop is {worst:.2f} points"
        )
    return int(enough[0]) + 1


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
