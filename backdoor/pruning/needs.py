"""What an order needs, beside its function, so that whoever compares orders sees it."""

from collections.abc import Callable
from typing import Any, TypeVar

NOTHING, WEIGHTS, PICTURES, CLASSES = "nothing", "weights", "clean pictures", "their classes"
SUSPECT, POISONED = "a suspected class", "poisoned pictures"

Function = TypeVar("Function", bound=Callable[..., Any])


def needs(*what: str) -> Callable[[Function], Function]:
    """Say what a score needs."""

    def mark(function: Function) -> Function:
        vars(function)["needs"] = what
        return function

    return mark


def needs_of(function: Any) -> tuple[str, ...]:
    """Return what a score needs; of a function that does not say so, nothing is known."""
    return tuple(getattr(function, "needs", ()))
