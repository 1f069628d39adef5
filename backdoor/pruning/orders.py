"""Orders by name: a score a channel, the lowest goes first."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pruning.oracles import ORACLES
from backdoor.pruning.scores import SCORES, Evidence, Scores
from backdoor.versions import version_of


def orders() -> list[str]:
    """Return the names of all orders, those that a defender can follow first."""
    return [*SCORES, *ORACLES]


def check_order(order: str) -> None:
    """Refuse a name that stands for no order.

    Raises:
        UserError: The message lists the choices.
    """
    if order not in orders():
        raise UserError(f"order: expected one of {', '.join(orders())}, got {order!r}")


def version_of_order(order: str) -> str:
    """Return name and version of an order's score, as part of a key; of no order, its name."""
    score = SCORES.get(order) or ORACLES.get(order)
    return f"{order}:{version_of(score)}" if score else order


def is_oracle(order: str) -> bool:
    """Tell whether an order looks at poisoned pictures."""
    return order in ORACLES


def described(order: str) -> str:
    """Return the order's name for titles; no oracle is shown without being called one."""
    return f"{order} (an oracle, which sees poisoned pictures)" if is_oracle(order) else order


def rank_channels(
    order: str, evidence: Evidence, poisoned: Callable[[], NDArray[np.float32]]
) -> NDArray[np.int64]:
    """Return the channels, first to go first, shape (C,).

    Args:
        poisoned: Gives the poisoned validation activations; asked for by oracles alone.

    Raises:
        KeyError: There is no such order.
    """
    if order in SCORES:
        return by_score(SCORES[order](evidence))
    return by_score(ORACLES[order](evidence, poisoned()))


def by_score(scores: Scores) -> NDArray[np.int64]:
    """Return the channels, lowest score first.

    The sort is stable, so that channels which tie (dead ones, at exactly zero) go by their number.
    """
    return np.argsort(scores, kind="stable")
