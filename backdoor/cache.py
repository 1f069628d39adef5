"""Results on disk under what they depend on, computed once however many jobs ask at once."""

import errno
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from backdoor.progress import progress

log = logging.getLogger(__name__)
Result = TypeVar("Result", bound=NDArray[Any] | str)
Key = tuple[str | int | float, ...]

DIGEST = hashlib.sha256
CHECKSUM = DIGEST().digest_size  # bytes, at the beginning of a file
BLOCK = 2**20  # bytes
LARGE_FILE = 2**28  # bytes, of which the reading is shown


class Cache:
    """Arrays and texts, each in a file with its checksum, and a lock for each.

    The lock of a holder that died is free again, and what it had not finished is not there: files
    are written beside and renamed. One that was damaged since is computed again.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __call__(self, what: str, key: Key, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns, or returned before under the same `what` and `key`."""
        entry = DIGEST(json.dumps([what, *key]).encode()).hexdigest()
        file = self.folder / what / f"{entry}.npy"
        with FileLock(self.lock(entry)):
            values = _read(file)
            if values is None:
                values = np.asarray(compute())
                _write(file, values)
        return cast(Result, values if values.ndim else values.item())

    def digest(self, *paths: Path) -> str:
        """Return the SHA-256 of files and folders, read again only when a file changed."""
        states = [(str(file), file.stat()) for path in paths for file in _files_of(path)]
        changed = [f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in states]
        key = (str(paths[0].resolve()), DIGEST("\n".join(changed).encode()).hexdigest())
        return self("sha256", key, lambda: sha256(*paths))

    def lock(self, name: str) -> Path:
        """Return the lock file of that name, of which all processes with this cache hold one."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return locks / f"{name}.lock"


class NoCache:
    """Computes everything anew."""

    def __call__(self, what: str, key: Key, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns."""
        return compute()

    def digest(self, *paths: Path) -> str:
        """Return the SHA-256 of files and folders."""
        return sha256(*paths)


def sha256(*paths: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; of a large file, show that it is read.

    That of several files, or of a folder's, is the SHA-256 of their names and SHA-256.
    """
    if len(paths) == 1 and not Path(paths[0]).is_dir():
        return _of_file(Path(paths[0]))
    digest = DIGEST()
    files = [(Path(path), file) for path in paths for file in _files_of(Path(path))]
    entries: Iterable[tuple[Path, Path]] = files
    if sum(file.stat().st_size for _, file in files) > LARGE_FILE:
        entries = progress(files, f"SHA-256 of {Path(paths[0]).name}", len(files))
    for path, file in entries:
        name = file.relative_to(path) if file != path else file.name
        digest.update(f"{name} {_of_file(file)}\n".encode())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    digest, size = DIGEST(), path.stat().st_size
    with path.open("rb") as file:
        blocks: Iterable[bytes] = iter(functools.partial(file.read, BLOCK), b"")
        if size > LARGE_FILE:
            blocks = progress(blocks, f"SHA-256 of {path.name}", -(-size // BLOCK))
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    """Return a folder's files, sorted; a file by itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def _write(file: Path, values: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    try:
        with partial.open("w+b") as stream:
            stream.write(bytes(CHECKSUM))
            np.save(stream, values, allow_pickle=False)
            stream.seek(CHECKSUM)
            checksum = hashlib.file_digest(stream, DIGEST).digest()
            stream.seek(0)
            stream.write(checksum)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno is None:  # of a full disk, NumPy says how much it wrote, not why
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
        raise
    partial.replace(file)


def _read(file: Path) -> NDArray[Any] | None:
    """Return what the file holds, None where there is none or its checksum differs."""
    try:
        with file.open("rb") as stream:
            expected = stream.read(CHECKSUM)
            if hashlib.file_digest(stream, DIGEST).digest() == expected:
                stream.seek(CHECKSUM)
                values: NDArray[Any] = np.load(stream, allow_pickle=False)
                return values
    except FileNotFoundError:
        return None
    log.warning("%s: expected what was written there, found it damaged: computing it again", file)
    return None
