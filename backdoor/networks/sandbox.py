"""Files of strangers are opened in a process of their own, which may hold and take so much.

What hangs or eats memory then ends with that process, whatever it was. The process loads Keras
once and forks for each file, so that all but the first are opened at once.
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backdoor.errors import UserError

ROOT = Path(__file__).parents[2]
SOLVED, REFUSED, TIME, MEMORY, DIED = "opened", "refused", "time", "memory", "died"
RESTARTS = 2  # since an idle process ends by itself
Answer = dict[str, str]


@dataclass(frozen=True)
class Limits:
    """What opening a network may take.

    Attributes:
        seconds: By the clock.
        gibibytes: Of memory, beyond what Keras itself holds.
    """

    seconds: float = 60
    gibibytes: float = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < 1e6:
                raise UserError(f"badnet.limits.{name}: expected a number above 0, got {value:g}")


class Sandbox:
    """The process, started when it is asked for; any number of threads may ask."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._first: _First | None = None
        self._lock = threading.Lock()

    def start(self, path: Path | None = None, limits: Limits | None = None) -> None:
        """Have the process begin to load Keras, which takes seconds, and do not wait for it.

        For one thread, before any asks.

        Args:
            path, limits: A network that is opened then, for who will ask for it first. No matter
                where the process has begun before.
        """
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it had nothing to do for a while
        if self._process is None:
            paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS
            }
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backdoor.networks.sandbox_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which then closes its input
            )
            if path is not None and limits is not None:
                self._first = _First(*_as_now(path, limits), tempfile.TemporaryDirectory())
                with suppress(BrokenPipeError):  # who asks for it will see that
                    self._send(_request(path, Path(self._first.folder.name), limits))

    def open(self, path: Path, folder: Path, limits: Limits) -> None:
        """Have the network in a file written into a folder: its architecture and its weights.

        Raises:
            UserError: It was refused, or took more than the limits; the message says which.
        """
        with self._lock:
            answer = self._of_first(path, folder, limits) or self._ask(path, folder, limits)
        _raise_unless_opened(answer, path, limits)

    def _of_first(self, path: Path, folder: Path, limits: Limits) -> Answer | None:
        """Return what has come of the first network, if this is the one, and move it there."""
        first = self._first
        if first is None:
            return None
        if (first.path, first.state, first.limits) != _as_now(path, limits):
            self.close()  # it is busy with what nobody asks for
            return None
        answer, self._first = self._answer(), None
        with first.folder as name:
            if answer and answer["what"] == SOLVED:
                shutil.copytree(name, folder, copy_function=shutil.move, dirs_exist_ok=True)
        return answer

    def _ask(self, path: Path, folder: Path, limits: Limits) -> Answer:
        for _ in range(RESTARTS):
            self.start()
            answer = self._answer(_request(path, folder, limits))
            if answer:
                return answer
        return {"what": DIED}

    def _send(self, line: bytes) -> None:
        assert self._process is not None, "it was started"
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answer(self, request: bytes = b"") -> Answer | None:
        """Send a request, if it was not, and wait for the answer; None of a process that died."""
        assert self._process is not None, "it was started"
        assert self._process.stdout is not None, "it was asked for"
        try:
            self._send(request)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # interrupted: what it would answer later is of no use
            self.close()
            raise
        if not line:
            self.close()
            return None
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, and what it is opening."""
        process, first, self._process, self._first = self._process, self._first, None, None
        if process is None:
            return
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # of what it did not read any more
                if stream is not None:
                    stream.close()
        if first is not None:  # to which nobody writes any more
            first.folder.cleanup()


@dataclass(frozen=True)
class _First:
    """A network that is opened before anybody has asked for it, and where it is written to.

    Attributes:
        state: Of its file as it was then: device, number, bytes, when it was changed.
    """

    path: Path
    state: tuple[int, ...]
    limits: Limits
    folder: tempfile.TemporaryDirectory[str]


def _as_now(path: Path, limits: Limits) -> tuple[Path, tuple[int, ...], Limits]:
    there = path.stat() if path.exists() else None
    state = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns) if there else ()
    return path.resolve(), state, limits


def _request(path: Path, folder: Path, limits: Limits) -> bytes:
    request = {"path": str(path.resolve()), "shown": str(path), "folder": str(folder)}
    return json.dumps(request | asdict(limits)).encode() + b"\n"


def _raise_unless_opened(answer: Answer, path: Path, limits: Limits) -> None:
    what = answer["what"]
    if what == SOLVED:
        return
    if what == REFUSED:
        raise UserError(answer["why"])
    taken = {
        TIME: f"more than {limits.seconds:g} s (badnet.limits.seconds)",
        MEMORY: f"more than {limits.gibibytes:g} GiB of memory (badnet.limits.gibibytes)",
    }
    raise UserError(
        f"{path}: refused to open it: expected a network that can be opened within limits, it took "
        f"{taken[what]}"
        if what in taken
        else f"{path}: refused to open it: the process that opened it died, as for want of memory"
    )


SANDBOX = Sandbox()
atexit.register(SANDBOX.close)
