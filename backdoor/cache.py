"""Results on disk under what they depend on, computed once however many jobs ask at once."""

import functools
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from backdoor.progress import progress

log = logging.getLogger(__name__)
Result = TypeVar("Result", bound=NDArray[Any] | str)
Key = tuple[str | int | float, ...]
Parts = Iterable[NDArray[Any]]

DIGEST = hashlib.sha256
CHECKSUM = DIGEST().digest_size  # bytes, at the beginning of a file
ENTRY = "[0-9a-f]" * 2 * CHECKSUM  # as files are called, but for how they end
COMPLETE, PARTIAL = ".npy", ".partial"
BLOCK = 2**24  # bytes; between two a thread that reads asks for Python's lock
GIBIBYTE = 2**30
LARGE_FILE = 2**28  # bytes, of which the reading is shown


class Cache:
    """Arrays and texts, each in a file with its checksum, and a lock for each.

    The lock of a holder that died is free again, and what it had not finished is not there: files
    are written beside and renamed. One that was damaged since is computed again.

    Args:
        limit: Gibibytes; what was used longest ago goes as soon as more is held. None is no limit.
    """

    def __init__(self, folder: str | Path, limit: float | None = None) -> None:
        self.folder, self.limit = Path(folder), limit

    def __call__(self, what: str, key: Key, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns, or returned before under the same `what` and `key`."""
        file = self._file(what, key)
        with FileLock(self.lock(file.stem)):
            values = _read(file)
            if values is None:
                values = np.asarray(compute())
                self._write(file, values.dtype, values.shape, lambda: [values])
        return cast(Result, values if values.ndim else values.item())

    def large(
        self, what: str, key: Key, shape: tuple[int, ...], compute: Callable[[], Parts]
    ) -> NDArray[np.float32]:
        """Return the parts that `compute` yields as one array, which stays on disk.

        It may be larger than memory: each part is written as it comes, and what is read of the
        array is read then.

        Args:
            shape: Of the whole array; the parts follow each other along the first axis.
        """
        file = self._file(what, key)
        with FileLock(self.lock(file.stem)):
            values = _read(file, mapped=True)
            if values is None:
                values = self._write(file, np.dtype(np.float32), shape, compute)
        return values

    def __str__(self) -> str:
        """Return where it is and how much it holds."""
        size = sum(size for _, size, _ in self._held()) / GIBIBYTE
        return f"{self.folder}, {size:.2f} " + (
            "GiB" if self.limit is None else f"of {self.limit:g} GiB"
        )

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

    def _file(self, what: str, key: Key) -> Path:
        entry = DIGEST(json.dumps([what, *key]).encode()).hexdigest()
        return self.folder / what / f"{entry}{COMPLETE}"

    def _write(
        self,
        file: Path,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        compute: Callable[[], Parts],
    ) -> NDArray[Any]:
        """Write an array and return it as it is on disk."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(PARTIAL)
        try:
            with partial.open("wb", buffering=0) as stream:  # so that closing it writes nothing
                _write(stream, dtype, shape, compute())
            values = _mapped(partial)  # before another process may remove it for want of room
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(file)
        self._make_room(file)
        return values

    def _make_room(self, newest: Path) -> None:
        """Remove what was used longest ago until no more than the limit is held.

        And what those left half written who were killed. Who has mapped a file keeps what it has.
        """
        for partial in self.folder.glob(f"*/{ENTRY}{PARTIAL}"):
            with suppress(Timeout, OSError), FileLock(self.lock(partial.stem), timeout=0):
                partial.unlink()
        if self.limit is None:
            return
        held = sorted(self._held())
        over = sum(size for _, size, _ in held) - self.limit * GIBIBYTE
        for _, size, file in held:
            if over <= 0:
                return
            if file != newest:
                with suppress(OSError):  # gone already, or another user's
                    file.unlink()
                    over -= size

    def _held(self) -> list[tuple[int, int, Path]]:
        """Return when each file was used last, its bytes, and where it is."""
        held = []
        for file in self.folder.glob(f"*/{ENTRY}{COMPLETE}"):
            with suppress(OSError):  # another process removed it
                state = file.stat()
                held.append((state.st_mtime_ns, state.st_size, file))
        return held


class NoCache:
    """Computes everything anew."""

    def __call__(self, what: str, key: Key, compute: Callable[[], Result]) -> Result:
        """Return what `compute` returns."""
        return compute()

    def large(
        self, what: str, key: Key, shape: tuple[int, ...], compute: Callable[[], Parts]
    ) -> NDArray[np.float32]:
        """Return the parts that `compute` yields as one array."""
        return joined(shape, compute())

    def digest(self, *paths: Path) -> str:
        """Return the SHA-256 of files and folders."""
        return sha256(*paths)


def joined(shape: tuple[int, ...], parts: Parts) -> NDArray[np.float32]:
    """Return parts that follow each other along the first axis as one array, in memory."""
    values, start = np.empty(shape, np.float32), 0
    for part in parts:
        values[start : start + len(part)] = part
        start += len(part)
    return values


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


def _write(stream: FileIO, dtype: np.dtype[Any], shape: tuple[int, ...], parts: Parts) -> None:
    """Write the checksum of what follows, and an array as NumPy writes it."""
    header = io.BytesIO()
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        header, {"descr": described, "fortran_order": False, "shape": shape}
    )
    digest, rows = DIGEST(header.getvalue()), 0
    _put(stream, bytes(CHECKSUM) + header.getvalue())
    for part in parts:
        values = np.ascontiguousarray(part, dtype)
        rows += len(values)
        data = values.reshape(-1).view(np.uint8).data
        digest.update(data)
        _put(stream, data)
    if shape and rows != shape[0]:
        raise RuntimeError(f"expected {shape[0]} rows to keep, got {rows}")
    stream.seek(0)
    _put(stream, digest.digest())


def _put(stream: FileIO, data: bytes | memoryview) -> None:
    left = memoryview(data)
    try:
        while len(left):  # a system writes so much at once
            left = left[stream.write(left) :]
    except OSError as error:
        error.filename = stream.name  # as of a full disk
        raise


def _read(file: Path, mapped: bool = False) -> NDArray[Any] | None:
    """Return what the file holds, None where there is none or its checksum differs."""
    try:
        with file.open("rb") as stream:
            expected = stream.read(CHECKSUM)
            if hashlib.file_digest(stream, DIGEST).digest() == expected:
                with suppress(OSError):  # another user's
                    os.utime(file)  # it is in use
                stream.seek(CHECKSUM)
                return _mapped(file) if mapped else np.load(stream, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        pass  # what nobody but us can have written, and we did not
    log.warning("%s: expected what was written there, found it damaged: computing it again", file)
    return None


def _mapped(file: Path) -> NDArray[Any]:
    """Return the array in a file that `_write` wrote, of which nothing is read yet."""
    with file.open("rb") as stream:
        stream.seek(CHECKSUM)
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        return np.asarray(np.memmap(stream, dtype, "r", stream.tell(), shape))
