"""Which tracked runs are alive: each holds a file lock, which ends with its process, however."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alive(folder: Path, token: str) -> Iterator[None]:
    """Show what has this token as alive while the body runs.

    Args:
        folder: On a file system that all hosts of the sweep share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starting, file = folder / f"{token}.starting", folder / f"{token}.alive"
    with FileLock(starting):
        starting.rename(file)  # locked before it can be seen
        yield
        file.unlink(missing_ok=True)  # not after an exception: who reads it asks for the status


def dead(folder: Path) -> Iterator[Path]:
    """Yield the file of each run that ended without saying so; its name is the token.

    Only runs that were started with this folder are judged. To forget a run, remove its file.
    """
    for file in sorted(folder.glob("*.alive")):
        try:
            with FileLock(file, blocking=False):
                yield file
        except Timeout:
            continue
