"""Orders by name: a score a channel, the lowest goes first."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pruning.evidence import Evidence, PoisonedEvidence
from backdoor.pruning.needs import NOTHING, PICTURES, POISONED, SUSPECT, needs_of
from backdoor.pruning.oracles import ORACLES
from backdoor.pruning.scores import SCORES, Scores
from backdoor.versions import SEARCH, version_of

POOLING, CONVOLUTION = "pool", "conv"  # ranked by what the pooling layer gives, or by what it gets


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


def check_rank_at(order: str, rank_at: str) -> None:
    """Refuse to rank by what goes into the pooling layer where an order looks at something else.

    Raises:
        UserError: The order does not rank by activations alone.
    """
    if rank_at == CONVOLUTION and not set(needed(order)) <= {NOTHING, PICTURES, POISONED}:
        raise UserError(
            f"rank_at: expected {POOLING} for the order {order!r}, which does not rank by "
            f"activations alone, got {rank_at}"
        )


def version_of_order(order: str) -> str:
    """Return name and version of an order's score, as part of a key; of no order, its name."""
    score = SCORES.get(order) or ORACLES.get(order)
    if score is None:
        return order
    return ":".join([order, version_of(score), *([SEARCH] if suspects(order) else [])])


def is_oracle(order: str) -> bool:
    """Tell whether an order looks at poisoned pictures."""
    return order in ORACLES


def needed(order: str) -> tuple[str, ...]:
    """Return what an order needs; of a name that stands for no order, nothing is known."""
    return needs_of(SCORES.get(order) or ORACLES.get(order))


def suspects(order: str) -> bool:
    """Tell whether an order asks which class is under suspicion."""
    return SUSPECT in needed(order)


def described(order: str) -> str:
    """Return the order's name for titles; no oracle is shown without being called one."""
    return f"{order} (an oracle, which sees poisoned pictures)" if is_oracle(order) else order


def labelled(order: str) -> str:
    """Return the order's name for a legend or a panel, as short as that allows."""
    return f"{order} (oracle)" if is_oracle(order) else order


def rank_channels(
    order: str, evidence: Evidence, poisoned: Callable[[], PoisonedEvidence]
) -> NDArray[np.int64]:
    """Return the channels, first to go first, shape (C,).

    Args:
        poisoned: Gives what the poisoned validation pictures show; asked for by oracles alone.

    Raises:
        KeyError: There is no such order.
        UserError: The network lacks what the order looks at.
    """
    if order in SCORES:
        return by_score(SCORES[order](evidence))
    return by_score(ORACLES[order](evidence, poisoned()))


def by_score(scores: Scores) -> NDArray[np.int64]:
    """Return the channels, lowest score first.

    The sort is stable, so that channels which tie (dead ones, at exactly zero) go by their number.
    """
    return np.argsort(scores, kind="stable")
