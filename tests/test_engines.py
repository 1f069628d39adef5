"""The engines for real: Slurm, Ray, MLflow servers. Not part of make test: make test-engines.

What is not installed or does not run here is skipped, and the reason shown.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from test_conf import installed
from test_scale import TWO_BY_TWO, numbers, runs_in
from test_sweep import SMALL, command, environment, started

from backdoor.tracking.connect import connect
from backdoor.tracking.store import Store

pytestmark = pytest.mark.engines
BIN = Path(sys.executable).parent
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("basic")
    done = command(folder, "experiments.run", *TWO_BY_TWO, *SMALL)
    assert done.returncode == 0, done.stderr
    return numbers(folder)


@pytest.fixture(scope="module")
def slurm():
    if not installed("hydra_submitit_launcher"):
        pytest.skip("the extra 'slurm' is not installed")
    if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no Slurm runs here")


@pytest.fixture(scope="module")
def ray():
    if not installed("hydra_ray_launcher"):
        pytest.skip("the extra 'ray' is not installed")


@pytest.fixture
def ray_cluster(ray, tmp_path_factory):
    """A cluster that was started in another folder."""
    start = [BIN / "ray", "start", "--head", "--port=6391", "--num-cpus=2"]
    subprocess.run(start, check=True, cwd=tmp_path_factory.mktemp("cluster"), env=environment())
    yield
    subprocess.run([BIN / "ray", "stop", "--force"], check=True)


def swept(folder, launcher, *arguments):
    """Sweep from nothing in this folder; give the numbers and what was said."""
    done = command(
        folder, "experiments.run", *TWO_BY_TWO, f"hydra/launcher={launcher}", *SMALL, *arguments
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for position in range(1, 5):
        assert f"[{position}/4] " in done.stderr
    return numbers(folder)


def test_slurm_gives_the_same_numbers(basic, slurm, tmp_path):
    assert swept(tmp_path, "slurm") == basic
    hosts = {Path(run.data.tags["log"]).parts[-2] for run in runs_in(tmp_path)}
    assert hosts == {"0", "1", "2", "3"}


def test_a_killed_slurm_job_costs_itself_alone(basic, slurm, tmp_path):
    process = started(tmp_path, *TWO_BY_TWO, "hydra/launcher=slurm", *SMALL)
    while not list(tmp_path.glob(".cache/running/*.alive"))[1:]:
        time.sleep(0.2)
    query = ["squeue", "-h", "-t", "running", "-o", "%A"]
    victim = subprocess.run(query, capture_output=True, text=True).stdout.split()[0]
    subprocess.run(["scancel", "--signal=KILL", "--full", victim], check=True)
    out, error = process.communicate()
    assert process.returncode == 1, out + error
    finished = [run for run in runs_in(tmp_path) if run.info.status == "FINISHED"]
    assert {run.info.run_name for run in finished} == set(basic)
    done = command(tmp_path, "experiments.run", *TWO_BY_TWO, "hydra/launcher=slurm", *SMALL)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path) == basic


def test_ctrl_c_takes_the_jobs_out_of_the_queue(slurm, tmp_path):
    process = started(tmp_path, *TWO_BY_TWO, "hydra/launcher=slurm", *SMALL)
    while not list(tmp_path.glob(".cache/running/*.alive"))[1:]:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert process.returncode == 130, out + error
    time.sleep(3)
    assert not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout
    found = connect(Store(None, str(tmp_path / "mlruns"), "backdoor")).search_runs(["1"])
    assert {run.info.status for run in found} == {"KILLED"}


def test_ray_gives_the_same_numbers(basic, ray, tmp_path):
    assert swept(tmp_path, "ray") == basic


def test_a_ray_cluster_gives_the_same_numbers(basic, ray_cluster, tmp_path):
    assert swept(tmp_path, "ray_cluster") == basic


def test_a_killed_ray_worker_costs_nothing_but_time(basic, ray, tmp_path):
    process = started(tmp_path, *TWO_BY_TWO, "hydra/launcher=ray", *SMALL)
    for line in process.stderr:
        if "[1/4]" in line:
            worker = int(line.partition("pid=")[2].partition(")")[0])
            os.kill(worker, signal.SIGKILL)
            break
    out, error = process.communicate()
    assert process.returncode == 1, out + error
    done = {run.info.run_name for run in runs_in(tmp_path) if run.info.status == "FINISHED"}
    assert done == set(basic)


@pytest.fixture
def postgres(tmp_path):
    if POSTGRES is None:
        pytest.skip("no PostgreSQL is installed")
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data = Path("/tmp") / f"postgres-{os.getpid()}"
    port = free_port()
    subprocess.run([*as_postgres, POSTGRES / "initdb", "-A", "trust", data], check=True)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k /tmp"
    control = [*as_postgres, POSTGRES / "pg_ctl", "-D", data, "-w", "-l", f"{data}.log"]
    subprocess.run([*control, "-o", options, "start"], check=True)
    yield f"postgresql://{'postgres' if as_postgres else ''}@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], check=True)
    shutil.rmtree(data, ignore_errors=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request, tmp_path):
    backend = f"sqlite:///{tmp_path / 'server.db'}"
    if request.param == "postgresql":
        backend = request.getfixturevalue("postgres")
    port = free_port()
    command = [BIN / "mlflow", "server", "--backend-store-uri", backend, "--workers", "2"]
    command += ["--artifacts-destination", tmp_path / "artifacts", "--port", str(port)]
    process = subprocess.Popen(
        command, env=environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/health").close()
            break
        except OSError:
            time.sleep(0.5)
    yield address
    process.terminate()
    process.wait()


def test_a_server_takes_what_many_write_at_once(server):
    load = [sys.executable, str(Path(__file__).with_name("load.py")), server]
    done = subprocess.run(load, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(server, done.stdout)
    assert json.loads(done.stdout)["runs"] == 200


def test_a_sweep_into_a_server_gives_the_same_numbers_and_its_report(basic, server, tmp_path):
    arguments = [f"tracking.uri={server}", "hydra/launcher=local"]
    done = command(tmp_path, "experiments.run", *TWO_BY_TWO, *SMALL, *arguments)
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path, server) == basic
    report = command(tmp_path, "experiments.report", f"tracking.uri={server}")
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "report/figure1.png").exists()
