"""Runs in MLflow: what is logged, under which names, and how it is read back."""

import json
import logging
import os
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 take minutes to say no

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from backdoor.pictures.picture_set import sha256
from backdoor.tracking.liveness import alive, dead
from backdoor.tracking.store import Store, without_password

SWEEP = "sweep"
COMPLETE = "complete"
ERROR = "error"
LOG = "log"
ALIVE = "alive"
RESULT = "result"
GOODNET = "goodnet.sha256"
AXES = "axes"
DIED = "its process died (killed, out of memory, or the machine went down)"
INTERRUPTED = "interrupted (Ctrl-C)"
LONGEST_TAG = 5000
ATTEMPTS = 3
SECONDS_TO_ANSWER = 10
MOST_PER_BATCH = 1000  # metrics, by MLflow's REST API


def connect(store: Store, verbose: bool = False) -> mlflow.MlflowClient:
    """Make `store` the current one; create database and experiment where there are none.

    Two processes that create one SQLite database corrupt it, so that is done under a lock.

    Raises:
        ConnectionError: The server does not answer, or the database cannot be used.
        OSError: Its folder cannot be written.
    """
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store.address)
    database = store.database
    if database is None:
        _reach(store)
        try:
            mlflow.set_experiment(store.experiment)
        except (mlflow.MlflowException, SQLAlchemyError, ImportError) as error:
            raise _unreachable(store, error) from error
        return mlflow.MlflowClient()
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        ours = {each.name for each in database.parent.iterdir()} <= {".gitignore"}
        if store.uri is None and ours:  # what will be in it is the user's alone
            database.parent.chmod(0o700)
    try:
        with closing(sqlite3.connect(database, timeout=60)) as file:
            file.execute("BEGIN IMMEDIATE")  # MLflow would try for minutes
        with FileLock(f"{database}.lock"):
            client = mlflow.MlflowClient()
            if client.get_experiment_by_name(store.experiment) is None:
                artifacts = database.parent / "artifacts"
                client.create_experiment(store.experiment, artifacts.as_uri())
        mlflow.set_experiment(store.experiment)
    except (mlflow.MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise ConnectionError(
            f"tracking: expected a database that can be read and written at {database}, got {error}"
        ) from error
    return client


def read_only(store: Store) -> mlflow.MlflowClient:
    """Return a client that looks at a store without creating anything in it.

    Raises:
        ConnectionError: Nobody listens there.
    """
    _reach(store)
    return mlflow.MlflowClient(store.address)


def _reach(store: Store) -> None:
    """Try whether somebody listens; MLflow tries for minutes to open a database server."""
    address = urlsplit(store.address)
    if address.hostname and address.port:
        try:
            there = (address.hostname, address.port)
            socket.create_connection(there, SECONDS_TO_ANSWER).close()
        except OSError as error:
            raise _unreachable(store, error) from error


def _unreachable(store: Store, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"tracking.uri: expected an MLflow server or database at {store.shown}, got "
        f"{without_password(str(error))}"
    )


def start_sweep(
    store: Store, name: str, axes: Mapping[str, Sequence[str]], runs: int, token: str = ""
) -> str:
    """Create the parent run of a sweep and return its id.

    Args:
        axes: What is swept over which values, so that a report can tell what is missing.
        runs: How many runs are to come.
        token: Under which the sweep shows that it is alive.
    """
    client = connect(store)
    experiment = client.get_experiment_by_name(store.experiment)
    tags = {"kind": "sweep", AXES: json.dumps(axes), "runs": str(runs), ALIVE: token}
    run = client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    return str(run.info.run_id)


def finish_sweep(store: Store, sweep: str, killed: bool) -> tuple[Run, list[Run]]:
    """Close the parent run; return it and the runs under it. One without runs is deleted."""
    client = connect(store)
    runs = runs_of(client, store, sweep)
    parent = client.get_run(sweep)
    failed = len(complete_positions(sweep, runs)) < int(parent.data.tags["runs"])
    client.set_terminated(sweep, "KILLED" if killed else "FAILED" if failed else "FINISHED")
    if not runs:
        client.delete_run(sweep)
    return parent, runs


def in_sweep(sweep: str) -> str:
    """Return the tag that the runs of a sweep have; its value is their positions in the sweep.

    A tag for each sweep, since a run that is complete belongs to every later sweep that asks for
    its result. Several numbers where one result was asked for several times (`device=cpu,gpu`).
    """
    return f"{SWEEP}.{sweep}"


def positions_in(sweep: str, run: Run) -> list[int]:
    """Return which of the sweep's runs it is, from 1."""
    return [int(each) for each in run.data.tags.get(in_sweep(sweep), "").split(",") if each]


def complete_positions(sweep: str, runs: Sequence[Run]) -> set[int]:
    """Return which of the sweep's runs have a complete one."""
    return {each for run in runs if is_complete(run) for each in positions_in(sweep, run)}


def mark_dead(
    client: mlflow.MlflowClient, store: Store, folder: Path, reason: str = DIED
) -> list[str]:
    """Mark runs KILLED whose process died without saying so; return their names.

    Args:
        folder: Where runs show that they are alive; others are not judged.
    """
    marked = []
    for file in dead(folder):
        for run in _search(client, store, f"tags.{ALIVE} = '{file.stem}'"):
            file.unlink(missing_ok=True)  # what is not found is a run of another store
            if run.info.status == "RUNNING":
                client.set_tag(run.info.run_id, ERROR, reason)
                client.set_terminated(run.info.run_id, "KILLED")
                marked.append(str(run.info.run_name))
    return marked


def complete_results(client: mlflow.MlflowClient, store: Store) -> dict[str, str]:
    """Return the newest complete run of each result."""
    query = f"tags.{COMPLETE} = 'true' and tags.{RESULT} LIKE '%'"
    found = _search(client, store, query)
    return {run.data.tags[RESULT]: run.info.run_id for run in found if is_complete(run)}


def complete_run(client: mlflow.MlflowClient, store: Store, result: str) -> str | None:
    """Return the newest complete run of a result, None where there is none."""
    found = _search(client, store, f"tags.{RESULT} = '{result}' and tags.{COMPLETE} = 'true'")
    return next((run.info.run_id for run in reversed(found) if is_complete(run)), None)


def join_sweep(client: mlflow.MlflowClient, run_id: str, sweep: str, position: int) -> None:
    """Have a complete run belong to this sweep, too, at this position."""
    positions = {*positions_in(sweep, client.get_run(run_id)), position}
    client.set_tag(run_id, in_sweep(sweep), ",".join(map(str, sorted(positions))))


@contextmanager
def tracked_run(
    name: str,
    params: Mapping[str, Any],
    folder: Path,
    sweep: str | None = None,
    position: int = 1,
    log: str = "",
) -> Iterator[str]:
    """Run the body as an MLflow run: FINISHED, FAILED with its message, KILLED on interrupt.

    Args:
        folder: Where the run shows that it is alive.
        position: Which of the sweep's runs it is, from 1.
        log: Its log file.
    """
    token = uuid.uuid4().hex
    tags = {"kind": "run", LOG: log, ALIVE: token, **_code_version()}
    with (
        alive(folder, token),  # before it can be seen as running
        mlflow.start_run(run_name=name, parent_run_id=sweep, tags=tags) as run,
    ):
        run_id = run.info.run_id
        try:
            mlflow.set_tag(in_sweep(sweep or run_id), position)
            mlflow.log_params(params)
            yield run_id
            mlflow.set_tag(COMPLETE, "true")
        except BaseException as error:
            reason = without_password(str(error)) or type(error).__name__
            mlflow.set_tag(ERROR, reason[:LONGEST_TAG])
            mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
            raise


def log_params(params: Mapping[str, object]) -> None:
    """Add parameters to the current run."""
    mlflow.log_params(dict(params))


def set_tag(name: str, value: object) -> None:
    """Tag the current run."""
    mlflow.set_tag(name, value)


def log_seconds(seconds: Mapping[str, float]) -> None:
    """Log how long each stage of the current run took."""
    mlflow.log_metrics({f"seconds/{stage}": value for stage, value in seconds.items()})


def log_curves(run_id: str, curves: Mapping[str, NDArray[Any]]) -> None:
    """Log each curve's value at k as the metric's value at step k, in few calls."""
    now = int(time.time() * 1000)
    metrics = [
        Metric(name, float(value), now, step)
        for name, curve in curves.items()
        for step, value in enumerate(curve)
    ]
    for start in range(0, len(metrics), MOST_PER_BATCH):
        mlflow.MlflowClient().log_batch(run_id, metrics[start : start + MOST_PER_BATCH])


def log_data_set(run_id: str, name: str, path: Path, digest: str, pictures: int) -> None:
    """Log a file of pictures as an input of the run; `digest` is its SHA-256."""
    source = json.dumps({"uri": path.resolve().as_uri()})
    profile = json.dumps({"pictures": pictures, "sha256": digest})
    # MLflow takes digests of at most 36 characters; the whole one is in the profile.
    data_set = Dataset(path.name, digest[:36], "local", source, profile=profile)
    tags = [InputTag("mlflow.data.context", name)]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            mlflow.MlflowClient().log_inputs(run_id, [DatasetInput(data_set, tags)])
        except mlflow.MlflowException:
            # Of two runs that log the same file at the same time, MLflow 3.17 refuses one; when
            # that tries again, it finds the file there.
            if attempt == ATTEMPTS:
                raise
        else:
            return


def log_goodnet(goodnet: Any) -> None:
    """Log the Keras model G, for `mlflow.pyfunc`, `mlflow models serve` and Keras, and its SHA-256.

    Signature and requirements are stated: left to MLflow, they are found out by importing the model
    in another process, which takes 8 to 22 s.
    """
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *goodnet.input_shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, goodnet.output_shape[-1]))]),
    )
    requirements = [f"{name}=={version(name)}" for name in ("tensorflow", "keras", "numpy")]
    logged = mlflow.tensorflow.log_model(
        goodnet, name="goodnet", signature=signature, pip_requirements=requirements
    )
    mlflow.set_tag(GOODNET, goodnet_digest(logged.model_uri))


def goodnet_digest(model_uri: str) -> str:
    """Return the SHA-256 of a logged GoodNet's file.

    Raises:
        OSError, MlflowException: It is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=folder))
        return sha256(next(found.rglob("*.keras"), found / "model.keras"))


def runs_of(client: mlflow.MlflowClient, store: Store, sweep: str) -> list[Run]:
    """Return the runs of a sweep, oldest first; a run that stands alone is a sweep of its own."""
    return _search(client, store, f"tags.`{in_sweep(sweep)}` LIKE '%'")


def newest_sweep(client: mlflow.MlflowClient, store: Store) -> str | None:
    """Return the newest sweep that has a complete run, or None where there is none.

    A run that stands alone counts only where there is no sweep.
    """
    for sweep in reversed(_search(client, store, "tags.kind = 'sweep'")):
        if any(map(is_complete, runs_of(client, store, sweep.info.run_id))):
            return str(sweep.info.run_id)
    alone = _search(client, store, f"tags.{COMPLETE} = 'true' and tags.kind = 'run'")
    return str(alone[-1].info.run_id) if alone else None


def curve_of(client: mlflow.MlflowClient, run: Run, name: str) -> list[float]:
    """Return a curve's values at k = 0, 1, ..."""
    history = client.get_metric_history(run.info.run_id, name)
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def is_complete(run: Run) -> bool:
    """Tell whether the run has finished and logged all that it had to."""
    return bool(run.info.status == "FINISHED" and run.data.tags.get(COMPLETE) == "true")


def _search(client: mlflow.MlflowClient, store: Store, query: str) -> list[Run]:
    """Return all runs that the query finds, oldest first."""
    experiment = client.get_experiment_by_name(store.experiment)
    found: list[Run] = []
    token = None
    while experiment:
        page = client.search_runs(
            [experiment.experiment_id],
            query,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            break
    return found


def _code_version() -> dict[str, str]:
    from backdoor import __version__

    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        described = "unknown"
    return {"backdoor.version": __version__, "backdoor.commit": described}
