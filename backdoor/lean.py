"""Import Keras without the packages that it looks for and this project never has it use."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("sklearn", "pandas", "matplotlib")  # a third of the time that importing Keras takes


@contextmanager
def lean_imports() -> Iterator[None]:
    """Have imports find none of those packages, unless loaded already, and collect no garbage.

    Keras does without them as long as the process lives: its wrappers for scikit-learn say that it
    is not installed. Who imports the packages themselves afterwards finds them.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # with which Python finds no module
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if collecting:
            gc.enable()
