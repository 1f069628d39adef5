"""Progress of long work: a bar on a terminal, plain lines elsewhere; and how long it took.

Lines, too, of a thread that works beside the main one, whose own would be written into the bar.
"""

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items and show how many of `total` are done.

    Args:
        what: What is being done; nothing is shown where it is empty.
    """
    if not what:
        yield from items
        return
    if sys.stderr.isatty() and threading.current_thread() is threading.main_thread():
        yield from tqdm(items, desc=what, total=total, leave=False)
        return
    log.info("%s ...", what)
    start = time.perf_counter()
    yield from items
    log.info("%s: %.1f s", what, time.perf_counter() - start)


class Stopwatch:
    """Seconds of each stage; those of a stage within another count for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[stage] += elapsed - self._inner.pop()
            self._inner[-1] += elapsed
