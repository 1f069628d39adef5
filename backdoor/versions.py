"""Results are named after the code that made them: a version number beside each function.

Who changes what such a function returns raises its number, so that nothing is answered from a cache
or taken for complete that the older code made. tests/test_versions.py ties the numbers to results.
"""

from collections.abc import Callable
from typing import Any, TypeVar

# Of code that loads Keras, which those who name a result after it need not load: the search for a
# suspect (attacks/suspicion.py, attacks/inversion.py), the repairs (networks/repair.py) and the
# verdict (verdict.py, its statistics and squares).
SEARCH, REPAIR, VERDICT = "search-2", "repair-1", "verdict-3"
LEFT = "left-2"  # of what a run or check leaves: which artifacts, and what is in them

Function = TypeVar("Function", bound=Callable[..., Any])


def version(number: int) -> Callable[[Function], Function]:
    """Say which version of what it returns a function is."""

    def mark(function: Function) -> Function:
        vars(function)["version"] = number
        return function

    return mark


def version_of(function: Any) -> str:
    """Return name and version of a marked function, as part of a key."""
    return f"{function.__name__}-{function.version}"
