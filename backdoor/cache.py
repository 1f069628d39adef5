"""Results on disk under what they depend on, computed once however many jobs ask at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import joblib
from filelock import FileLock

from backdoor import __version__

Result = TypeVar("Result")
Key = tuple[str | int | float, ...]


class Cache:
    """joblib's Memory with a lock for each entry; the lock of a holder that died is free again."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._stored = joblib.Memory(self.folder, verbose=0).cache(_stored, ignore=["compute"])

    def __call__(self, what: str, key: Key, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns, or returned before under the same `what` and `key`."""
        with FileLock(self.lock(joblib.hash((what, *key)))):
            result: Result = self._stored(what, key, __version__, compute)
        return result

    def lock(self, name: str) -> Path:
        """Return the lock file of that name, of which all processes with this cache hold one."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return locks / f"{name}.lock"


def _stored(what: str, key: Key, version: str, compute: Callable[[], Result]) -> Result:
    return compute()
