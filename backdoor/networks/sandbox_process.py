"""The process that `sandbox` starts: a line in asks for a file to be opened, a line out answers.

It ends when its input does, so with whoever started it, and when nothing was asked for a while.
"""

import json
import os
import resource
import select
import signal
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from backdoor.errors import UserError
from backdoor.lean import lean_imports
from backdoor.networks.sandbox import DIED, MEMORY, REFUSED, SOLVED, TIME

with lean_imports():  # somebody waits for this process
    import keras

    from backdoor.networks.opening import opened, write_parts

IDLE = 60  # seconds
GIBIBYTE = 2**30
LONGEST = 2**16  # bytes of an answer
INPUT = 0
STATM = Path("/proc/self/statm")


def main() -> None:
    """Answer requests until the input ends."""
    keras.config.disable_traceback_filtering()  # by the traceback it is found which layer it was
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    while select.select([INPUT], [], [], IDLE)[0]:
        line = _line()
        if not line:
            return
        os.write(answers, json.dumps(_in_a_fork(json.loads(line))).encode() + b"\n")


def _line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(INPUT, LONGEST)
        if not more:
            return b""
        line += more
    return line


def _in_a_fork(request: dict[str, Any]) -> dict[str, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _open(request, writing)
    os.close(writing)
    if INPUT in select.select([reading, INPUT], [], [])[0]:  # nobody waits any more
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise SystemExit
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read(LONGEST)
    _, status = os.waitpid(child, 0)
    if answer:
        found: dict[str, str] = json.loads(answer)
        return found
    return {
        "what": TIME if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else DIED
    }


def _open(request: dict[str, Any], writing: int) -> NoReturn:
    """Open the file within its limits, answer, and end this process whatever comes of it."""
    # The system ends a process that handles no SIGALRM, whatever it is busy with.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    _limit_memory(request["gibibytes"])
    tempfile.tempdir = request["folder"]  # where this process began may be gone
    try:
        write_parts(opened(Path(request["path"]), request["shown"]), Path(request["folder"]))
        answer = {"what": SOLVED}
    except UserError as error:
        answer = {"what": REFUSED, "why": str(error)}
    except MemoryError:
        answer = {"what": MEMORY}
    except Exception as error:  # as where it cannot be handed on
        why = f"{request['shown']}: expected a network that Keras can save, got {error!r}"
        answer = {"what": REFUSED, "why": str(UserError(why))}
    os.write(writing, json.dumps(answer).encode())
    os._exit(0)


def _limit_memory(gibibytes: float) -> None:
    """Limit this process where the system tells what it holds, as Linux does."""
    if not STATM.exists():
        return
    held = resource.getpagesize() * int(STATM.read_text().split()[0])
    most = held + int(gibibytes * GIBIBYTE)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
