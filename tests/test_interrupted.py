"""Killed at any point, a run leaves nothing that a later one takes for whole."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_scale import children, numbers, runs_in
from test_sweep import SMALL, command, environment, started

from backdoor.tracking.connect import connect
from backdoor.tracking.runs import complete_results
from backdoor.tracking.store import Store

# As `kill -9` at that point: before or after a function's call, or in the middle of a file.
KILLED = """
import importlib, os, signal, sys
from functools import reduce

module, path, when = sys.argv.pop(1).split(":")
*parents, name = path.split(".")
owner = reduce(getattr, parents, importlib.import_module(module))
original = getattr(owner, name)

def killed(*args, **kwargs):
    if when == "after":
        original(*args, **kwargs)
    if when == "half":
        args[0].write(b"half of it")
        args[0].flush()
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
from experiments import run
sys.exit(run.main())
"""
POINTS = {
    "before the head": "backdoor.pruning.kept:activations_of:before",
    "a cache file half written": "backdoor.cache:_write:half",
    "a cache file not yet renamed": "pathlib:Path.replace:before",
    "in the walk": "backdoor.pruning.fast_walk:_walk_back:before",
    "the walk done, not kept": "backdoor.pruning.any_walk:linear_walk:after",
    "the GoodNet not saved": "keras:Model.save:before",
    "the GoodNet saved, not logged": "mlflow.pyfunc:log_model:before",
    "the GoodNet logged": "mlflow.pyfunc:log_model:after",
    "the curves not logged": "mlflow:MlflowClient.log_batch:before",
    "the artifacts not logged": "mlflow:log_artifacts:before",
    "the artifacts logged": "mlflow:log_artifacts:after",
    "all but the end": "experiments.launch.job:log_metrics:after",
}
RUN = ["order=asc", "threshold=30"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def drawn(folder):
    """What a run that nobody disturbed gives, and where its data are."""
    (folder / "reference").mkdir()
    root = [*SMALL, f"dataset.made={folder / 'faces'}"]
    done = command(folder / "reference", "experiments.run", "-m", *RUN, *root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("name", POINTS)
def test_what_a_killed_run_leaves_is_not_taken_for_whole(name, folder, drawn):
    """All are killed in one folder, so that each finds what those before it left."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, POINTS[name], *RUN, *drawn],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = Store(None, str(folder / "mlruns"), "backdoor")
    assert complete_results(connect(store), store) == {}


def test_after_all_that_the_numbers_are_those_of_an_undisturbed_run(folder, drawn):
    done = command(folder, "experiments.run", "-m", *RUN, *drawn)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("marked KILLED") == 1
    assert numbers(folder) == numbers(folder / "reference")
    report = command(folder, "experiments.report")
    assert report.returncode == 0, report.stderr
    assert not list((folder / ".cache/running").iterdir())


def test_data_half_drawn_are_drawn_again(tmp_path, folder, drawn):
    for stage in ("Drawing", "Training"):
        process = started(tmp_path, *RUN, *SMALL)
        for line in process.stderr:
            if line.startswith(stage):
                break
        for each in [process.pid, *children(process.pid)]:
            os.kill(each, signal.SIGKILL)
        process.communicate()
        assert not [each for each in (tmp_path / "data").iterdir() if each.suffix == ""]
    done = command(tmp_path, "experiments.run", "-m", *RUN, *SMALL)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path) == numbers(folder / "reference")


def test_a_damaged_cache_is_computed_again_and_that_is_said(folder, drawn):
    damaged = [each for each in (folder / ".cache").rglob("*.npy") if each.parent.name == "walk"]
    assert len(damaged) == 4
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    done = command(folder, "experiments.run", "-m", *RUN, *drawn, "force=true")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("found it damaged: computing it again") == 4
    assert numbers(folder) == numbers(folder / "reference")


@pytest.fixture
def full(tmp_path):
    """A disk with room for little."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_the_runs_that_need_it(folder, drawn, full):
    done = command(folder, "experiments.run", "-m", *RUN, f"cache={full},.cache", "seed=2", *drawn)
    assert done.returncode == 1
    assert "[1/2] asc-30 failed: " in done.stderr
    said = next(x for x in done.stderr.splitlines() if "[1/2]" in x)
    assert "got No space left on device" in said
    assert "[2/2] asc-30  accuracy" in done.stderr
    assert [run.info.status for run in runs_in(folder)] == ["FAILED", "FINISHED"]


TAMPERED = {
    "channels.json": (f'{{"removed": [1], "order": {[*range(60)]}}}', "channels_removed"),
    "goodnet.keras": ("another network", "goodnet.sha256"),
    "repaired.keras": ("another network", "repaired.sha256"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_report_of_artifacts_that_are_others_is_an_error(name, folder, drawn):
    content, said = TAMPERED[name]
    store = folder / "reference/mlruns"
    files = list(store.rglob(name))
    assert files
    for file in files:
        kept = file.read_bytes()
        file.write_text(content)
        done = command(folder / "reference", "experiments.report")
        file.write_bytes(kept)
        assert done.returncode == 1
        assert f"expected {said} " in done.stderr
        assert "found" in done.stderr
        assert not (folder / "reference/report").exists()


def test_the_store_is_the_user_s_alone_and_holds_no_password(folder, drawn):
    assert Path(folder / "mlruns").stat().st_mode & 0o077 == 0
    uri = "http://user:secret-word@127.0.0.1:9"
    done = command(folder, "experiments.run", f"tracking.uri={uri}", *RUN, *drawn)
    assert done.returncode == 1
    assert "http://***@127.0.0.1:9" in done.stderr
    assert "secret-word" not in done.stderr + done.stdout
    for log in (folder / "outputs").rglob("*.log"):
        assert "secret-word" not in log.read_text()
