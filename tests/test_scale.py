"""Sweeps on several processes: the same numbers, each walk once, what is complete runs no more."""

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from test_conf import CONF
from test_sweep import SETS, SMALL, command, started

from backdoor.cache import Cache
from backdoor.tracking.connect import connect
from backdoor.tracking.liveness import alive, dead
from backdoor.tracking.record import Record
from backdoor.tracking.runs import mark_dead, tracked_run
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import newest_sweep, runs_of
from experiments.launch.cli import params_of
from experiments.launch.job import result_of
from experiments.launch.settings import RunSettings, settings_of
from experiments.launch.time_limit import time_limit

TWO_BY_TWO = ["-m", "order=asc,desc", "threshold=2,30"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def basic(folder):
    return command(folder, "experiments.run", *TWO_BY_TWO, *SMALL)


def runs_in(folder, uri=None):
    store = Store(uri, str(folder / "mlruns"), "backdoor")
    client = connect(store)
    return runs_of(client, store, newest_sweep(client, store))


def numbers(folder, uri=None):
    """What the newest sweep's runs have logged, times left out."""
    client = connect(Store(uri, str(folder / "mlruns"), "backdoor"))
    return {
        run.info.run_name: {
            name: value
            for name, value in Record(client, run).metrics.items()
            if not name.startswith(("seconds/", "system/"))
        }
        for run in runs_in(folder, uri)
    }


@pytest.fixture(scope="module")
def first(folder, basic):
    return numbers(folder)


def test_a_sweep_says_before_it_starts_what_is_to_run(basic):
    assert basic.returncode == 0, basic.stderr
    expected = "4 runs over order=asc,desc threshold=2,30: 0 complete already; launcher basic; "
    assert basic.stderr.startswith(expected)


def test_joblib_gives_the_same_numbers_and_walks_once(folder, first, tmp_path):
    """From an empty cache, with its own store and data drawn anew."""
    done = command(tmp_path, "experiments.run", *TWO_BY_TWO, "hydra/launcher=local", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "launcher local" in done.stderr
    assert numbers(tmp_path) == first
    assert len([x for x in done.stderr.splitlines() if x.startswith("Walk ") and "..." in x]) == 8
    assert len([x for x in done.stderr.splitlines() if x.startswith("Head ") and "..." in x]) == 4
    assert all(f"[{n}/4] " in done.stderr for n in range(1, 5))


def test_what_is_complete_is_not_run_again_but_shown_and_reported(folder, basic, first):
    again = command(folder, "experiments.run", "-m", "order=asc,desc", "threshold=2,30,50", *SMALL)
    assert again.returncode == 0, again.stderr
    assert "6 runs over order=asc,desc threshold=2,30,50: 4 complete already" in again.stderr
    assert again.stderr.count("complete already: ") == 4
    assert again.stdout.count(" EARLIER ") == 4
    assert set(numbers(folder)) == {*first, "asc-50", "desc-50"}
    assert len({run.data.tags["result"] for run in runs_in(folder)}) == 6
    report = command(folder, "experiments.report")
    assert report.returncode == 0, report.stderr
    assert "Missing" not in report.stdout
    assert all(run.info.run_id in report.stdout for run in runs_in(folder))


def test_force_runs_all_and_gives_the_same(folder, first):
    before = {run.info.run_id for run in runs_in(folder)}
    done = command(folder, "experiments.run", *TWO_BY_TWO, *SMALL, "force=true")
    assert done.returncode == 0, done.stderr
    assert not before & {run.info.run_id for run in runs_in(folder)}
    assert numbers(folder) == first


def test_other_pictures_network_or_settings_are_another_result(tmp_path):
    files = {name: tmp_path / f"{name}.h5" for name in SETS}
    for path in [*files.values(), tmp_path / "net.keras"]:
        path.write_bytes(b"as it was")
    cache = Cache(tmp_path / "cache")

    def result(*overrides):
        data = [f"dataset.{name}={path}" for name, path in files.items()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            network = f"badnet.path={tmp_path / 'net.keras'}"
            config = compose("config", ["dataset=files", network, *data, *overrides])
        return result_of(settings_of(config, RunSettings), params_of(config), cache)

    first = result()
    same = ["device=cpu", "threads=1", "cache=other", "verbose=true", "tracking.folder=other"]
    assert result(*same, "force=true", "dry_run=true", "time_limit=9") == first
    others = [result(each) for each in ("order=desc", "threshold=4", "seed=1", "layer=pool_1")]
    for path in (files["clean_test"], tmp_path / "net.keras"):
        path.write_bytes(b"otherwise")
        others.append(result())
    assert len({first, *others}) == 7
    files["clean_valid"].unlink()
    assert result() is None


def test_a_dry_run_shows_the_runs_and_writes_nothing(folder, basic, tmp_path):
    for where, complete in ((tmp_path, 0), (folder, 1)):
        before = sorted(where.rglob("*"))
        done = command(where, "experiments.run", "dry_run=true", "threshold=2,3", *SMALL)
        assert done.returncode == 0, done.stderr
        assert sorted(where.rglob("*")) == before
        assert "[1/2] threshold=2" in done.stdout
        assert "[2/2] threshold=3" in done.stdout
        assert done.stdout.count("complete already") == complete


def test_a_run_out_of_time_fails_alone_with_its_reason_and_its_log(folder, basic):
    done = command(
        folder, "experiments.run", *TWO_BY_TWO, *SMALL, "time_limit=0.01", "seed=7", "order=desc"
    )
    assert done.returncode == 1
    assert "failed: time_limit: expected the run to end within 0.01 s" in done.stderr
    (log,) = {line for line in done.stdout.splitlines() if line.startswith("log of desc-30: ")}
    assert "TimeoutError" in Path(log.partition(": ")[2]).read_text()
    assert "error: 2 of 2 runs failed; the same command runs those again" in done.stderr


def test_a_time_limit_is_not_taken_for_an_error_on_the_way():
    @time_limit(0.01)
    def tries_what_there_is():
        with suppress(Exception):
            time.sleep(60)

    with pytest.raises(TimeoutError, match="time_limit"):
        tries_what_there_is()


def children(process):
    """The processes started by it, and by those."""
    found = subprocess.run(
        ["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    parent = {}
    names = {}
    for line in found.stdout.splitlines():
        pid, ppid, name = line.split(None, 2)
        parent[int(pid)], names[int(pid)] = int(ppid), name
    below = {process}
    for _ in range(4):
        below |= {pid for pid, above in parent.items() if above in below}
    return {pid: names[pid] for pid in below - {process}}


def running(folder):
    """How many runs stand as RUNNING, asked of the file itself: who writes to it may be stopped."""
    query = "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE status = 'RUNNING' "
    query += "AND key = 'kind' AND value = 'run'"
    address = f"file:{folder}/mlruns/mlflow.db?mode=ro"
    try:
        with closing(sqlite3.connect(address, timeout=0, uri=True)) as database:
            return database.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # locked by one that is stopped
        return 0


def killed_in_a_run(process, folder):
    """Kill joblib's workers if they are in the middle of a run: not between two, nor starting."""
    workers = [p for p, name in children(process.pid).items() if "popen_loky" in name]
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    found = running(folder)
    for each in workers:
        os.kill(each, signal.SIGKILL if found else signal.SIGCONT)
    return found


def test_a_killed_worker_loses_nothing_that_it_had_not_begun(folder, basic):
    """Joblib's workers are killed in the middle; what was lost is run again."""
    arguments = ["-m", "hydra/launcher=local", "order=asc,desc", "threshold=3,5,8"]
    process = started(folder, *arguments, "hydra.launcher.n_jobs=2", *SMALL, "seed=3")
    for line in process.stderr:
        if line.startswith("[") and killed_in_a_run(process, folder):
            break
    out, rest = process.communicate()
    assert process.returncode == 1, out + rest
    assert "a worker died: " in rest
    assert "its process died" in out
    done = {run.info.run_name for run in runs_in(folder) if run.info.status == "FINISHED"}
    assert done == {f"{order}-{t}" for order in ("asc", "desc") for t in (3, 5, 8)}
    again = command(folder, "experiments.run", *arguments, *SMALL, "seed=3", "dry_run=true")
    assert "6 complete already" in again.stderr


def test_a_killed_sweep_is_marked_at_the_next_start_and_finished_by_it(folder, basic):
    arguments = ["-m", "order=asc,desc", "threshold=2,30", *SMALL, "seed=4"]
    process = started(folder, *arguments)
    for line in process.stderr:
        if line.startswith("[2/4]"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    store = Store(None, str(folder / "mlruns"), "backdoor")
    client = connect(store)
    running = {each.info.run_id for each in client.search_runs(["1"], "status = 'RUNNING'")}
    assert running
    again = command(folder, "experiments.run", *arguments)
    assert again.returncode == 0, again.stderr
    assert "marked KILLED, its process is dead: order=asc,desc threshold=2,30" in again.stderr
    assert "2 complete already" in again.stderr
    for each in running:
        assert client.get_run(each).info.status == "KILLED"
        assert "its process died" in client.get_run(each).data.tags["error"]


def test_one_result_asked_for_twice_is_computed_once_and_counts_twice(folder, basic):
    done = command(folder, "experiments.run", "-m", "threads=1,2", *SMALL, "seed=6")
    assert done.returncode == 0, done.stderr
    (run,) = runs_in(folder)
    (sweep,) = (key for key, value in run.data.tags.items() if value == "1,2")
    assert sweep.startswith("sweep.")


def test_a_live_run_is_left_alone_and_a_dead_one_is_not(tmp_path):
    store = Store(None, str(tmp_path / "mlruns"), "backdoor")
    client = connect(store)
    with tracked_run("live", {}, tmp_path / "running") as live:
        assert mark_dead(client, store, tmp_path / "running") == []
        assert client.get_run(live).info.status == "RUNNING"
    assert client.get_run(live).info.status == "FINISHED"
    dead_run = client.create_run("1", run_name="dead", tags={"alive": "token"}).info.run_id
    (tmp_path / "running/token.alive").touch()
    (tmp_path / "running/of-another-store.alive").touch()
    assert mark_dead(client, store, tmp_path / "running") == ["dead"]
    assert client.get_run(dead_run).info.status == "KILLED"
    assert mark_dead(client, store, tmp_path / "running") == []
    assert [each.stem for each in dead(tmp_path / "running")] == ["of-another-store"]


def test_a_run_shows_that_it_is_alive_for_as_long_as_it_is(tmp_path):
    with alive(tmp_path, "a"):
        assert list(dead(tmp_path)) == []
    assert list(tmp_path.glob("*")) == []


def test_two_sweeps_of_the_same_at_once_compute_it_once(folder, basic):
    arguments = ["-m", "order=asc,desc", "threshold=2,30", *SMALL, "seed=5"]
    both = [started(folder, *arguments) for _ in range(2)]
    results = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], results
    computed = sum(line.count(" channels  ") for _, error in results for line in error.splitlines())
    assert computed == 4
    assert all(out.count("\nasc-") + out.count("\ndesc-") == 4 for out, _ in results)


def test_ctrl_c_ends_a_joblib_sweep_in_order(folder, basic):
    process = started(
        folder, "-m", "hydra/launcher=local", "threshold=2,30", *SMALL, "dataset.draw.seed=8"
    )
    for line in process.stderr:
        if line.startswith("Drawing"):
            break
    for each in [process.pid, *children(process.pid)]:  # as a terminal does
        os.kill(each, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    store = Store(None, str(folder / "mlruns"), "backdoor")
    time.sleep(0.5)
    assert not connect(store).search_runs(["1"], "status = 'RUNNING'")
    for each in (folder / ".cache/locks").glob("*.lock"):
        with FileLock(each, timeout=5):
            pass
