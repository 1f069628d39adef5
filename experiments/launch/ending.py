"""How a command ends that is told to: as by Ctrl-C, whichever signal says so, and tidied up."""

import multiprocessing
import os
import platform
import re
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # of Slurm, Kubernetes, systemd; of a closed terminal
BY_SIGNAL = 128  # and its number is the exit code of what a signal has ended
INTERRUPTED = BY_SIGNAL + signal.SIGINT
HOST = re.sub(r"\W", "_", platform.node())  # others may share the folder of temporary files
OWN_FOLDER = re.compile(rf"backdoor-{HOST}-(\d+)-")
SECONDS_BETWEEN_LOOKS, SECONDS_TO_END = 0.5, 3.0
REASONS = {
    INTERRUPTED: "interrupted (Ctrl-C)",
    **{BY_SIGNAL + number: f"ended by {number.name}" for number in SIGNALS},
}  # by exit code


_watching: list[threading.Thread] = []  # of this process


class Ended(KeyboardInterrupt):
    """A signal that asks a program to end."""

    def __init__(self, number: int) -> None:
        self.code = BY_SIGNAL + number
        super().__init__(REASONS[self.code])


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code of a program that was told to end."""
    return interrupt.code if isinstance(interrupt, Ended) else INTERRUPTED


@contextmanager
def raising_ended() -> Iterator[None]:
    """Have signals that end programs raise Ended while the body runs; one is enough.

    What is ignored (nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # what follows is to end, too
        warnings.simplefilter("ignore")  # of what is cut off
        raise Ended(number)

    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_with_its_launcher() -> Iterator[None]:
    """In a worker process of this machine, end when the process dies that has started it.

    A job's body is told so by Ended; whatever becomes of it, the worker ends.
    """
    if not multiprocessing.current_process().name.startswith("Loky"):
        yield
        return
    if not _watching:
        _watching.append(threading.Thread(target=_watch, args=(os.getppid(),), daemon=True))
        _watching[0].start()
    with raising_ended():
        yield


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(BY_SIGNAL + signal.SIGTERM)


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Keep all temporary files, those of child processes, too, in a folder that ends with the body.

    Folders of processes that died are removed first.
    """
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    try:
        _remove_those_of_the_dead(Path(tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix=f"backdoor-{HOST}-{os.getpid()}-")
    except OSError:  # who needs one will say so, in a sentence
        yield
        return
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before[1]
        if before[0] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[0]
        shutil.rmtree(folder, ignore_errors=True)


def _remove_those_of_the_dead(root: Path) -> None:
    for folder in root.glob("backdoor-*-*"):
        named = OWN_FOLDER.match(folder.name)
        with suppress(OSError):
            if named and folder.lstat().st_uid == os.getuid() and not _is_alive(int(named[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True
