"""Told to end by whatever signal, a command tidies up; killed, its workers end, too."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from test_sweep import environment

from backdoor.device import _signals_held
from backdoor.tracking.connect import connect
from backdoor.tracking.store import Store
from experiments.launch.ending import HOST, own_temporary_folder

LONG = ["dataset.draw.classes=20", "dataset.draw.seed=9", "network.epochs=400"]
SECONDS = 30  # of a slow machine


def started(folder, *arguments):
    """Start experiments.run in a folder that holds its temporary files, too.

    It can be interrupted even where the tests run in the background.
    """
    (folder / "temporary").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        cwd=folder,
        env=environment() | {"TMPDIR": str(folder / "temporary")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@contextmanager
def running(folder, *arguments):
    """Whatever becomes of a test, nothing that it started lives on."""
    with started(folder, *arguments) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def until_it_draws(process):
    for line in process.stderr:
        if line.startswith("Drawing"):
            return
    raise AssertionError("it ended before")


def tracked(folder):
    return connect(Store(None, str(folder / "mlruns"), "backdoor")).search_runs(["1"])


def processes_of(session):
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True
    ).stdout
    return [line for line in listed.splitlines() if "Z" not in line.split()[1]]


def none_left(session):
    end = time.monotonic() + SECONDS
    while processes_of(session) and time.monotonic() < end:
        time.sleep(0.2)
    return processes_of(session) == []


@pytest.mark.parametrize("many", [[], ["-m", "threshold=2,4"]])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_that_ends_programs_leaves_nothing_behind(tmp_path, many, number, code):
    with running(tmp_path, *many, *LONG) as process:
        until_it_draws(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert said.splitlines()[-1] == ("interrupted" if code == 130 else f"ended by {number.name}")
    assert {run.info.status for run in tracked(tmp_path)} == {"KILLED"}
    if code != 130:
        reasons = {run.data.tags.get("error") for run in tracked(tmp_path)}
        assert f"ended by {number.name}" in reasons
    assert list((tmp_path / "temporary").iterdir()) == []
    assert none_left(process.pid)


def test_what_is_ignored_stays_ignored(tmp_path):
    """As with nohup."""
    code = """
import os, signal
from experiments.launch.ending import raising_ended
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with raising_ended():
    os.kill(os.getpid(), signal.SIGHUP)
    print("still there")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.stdout == "still there\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_sweep_that_started_them(tmp_path, number):
    launcher = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    with running(tmp_path, "-m", *launcher, "threshold=2,4", *LONG) as process:
        end = time.monotonic() + 4 * SECONDS
        runs = []
        while not runs and time.monotonic() < end:  # until a worker has begun
            time.sleep(0.5)
            if (tmp_path / "mlruns/mlflow.db").exists():
                runs = [run for run in tracked(tmp_path) if "mlflow.parentRunId" in run.data.tags]
        assert runs
        process.send_signal(number)
        process.wait(timeout=SECONDS)
        assert none_left(process.pid)
        process.stderr.close()
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    begun = [run for run in tracked(tmp_path) if "mlflow.parentRunId" in run.data.tags]
    assert "FINISHED" not in {run.info.status for run in begun}
    if number == signal.SIGTERM:
        assert {run.info.status for run in tracked(tmp_path)} == {"KILLED"}


def test_temporary_folders_of_the_dead_are_removed_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with subprocess.Popen(["true"]) as dead:
        pass
    for process in (dead.pid, os.getpid()):
        (tmp_path / f"backdoor-{HOST}-{process}-abc").mkdir()
    (tmp_path / f"backdoor-elsewhere-{dead.pid}-abc").mkdir()
    with own_temporary_folder():
        own = Path(tempfile.gettempdir())
        assert own.parent == tmp_path
        assert os.environ["TMPDIR"] == str(own)
        (own / "file").touch()
    assert not own.exists()
    assert os.environ["TMPDIR"] == str(tmp_path)
    left = {folder.name for folder in tmp_path.iterdir()}
    assert left == {
        f"backdoor-{HOST}-{os.getpid()}-abc",
        f"backdoor-elsewhere-{dead.pid}-abc",
    }
    shutil.rmtree(tmp_path)


def test_a_signal_in_the_middle_of_an_import_is_heard_behind_it():
    """Where a module in C++ is being imported, an exception of a handler would be an abort."""
    after = []
    before = signal.signal(signal.SIGALRM, lambda *_: after.append(finished))
    try:
        finished = False
        with _signals_held():
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGALRM)
            assert not after
            finished = True
        assert after == [True]
        signal.raise_signal(signal.SIGALRM)
        assert after == [True, True]
    finally:
        signal.signal(signal.SIGALRM, before)
