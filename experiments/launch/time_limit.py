"""A limit on the seconds of a run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class _TimeIsUpError(BaseException):
    """Not an Exception, so that nothing on the way takes it for a failure that it can handle."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Give the body up after that many seconds.

    Raises:
        TimeoutError: The time is over.
    """
    if seconds is None:
        yield
        return

    def give_up(*_: object) -> None:
        raise _TimeIsUpError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsUpError as up:
        sentence = f"time_limit: expected the run to end within {seconds:g} s, it did not"
        raise TimeoutError(sentence) from up  # the log shows where it was
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
