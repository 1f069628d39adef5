"""Runs in MLflow: what is logged, under which names, and how it is read back."""

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

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

from backdoor.store import Store

SWEEP = "sweep"
COMPLETE = "complete"
ERROR = "error"
AXES = "axes"
LONGEST_TAG = 5000
MOST_PER_BATCH = 1000  # metrics, by MLflow's REST API


def connect(store: Store, verbose: bool = False) -> mlflow.MlflowClient:
    """Make `store` the current one; create database and experiment where there are none.

    Two processes that create one SQLite database corrupt it, so that is done under a lock.

    Raises:
        ConnectionError: The server does not answer.
    """
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store.address)
    database = store.database
    if database is None:
        try:
            mlflow.set_experiment(store.experiment)
        except mlflow.MlflowException as error:
            raise ConnectionError(
                f"tracking.uri: expected an MLflow server at {store.address}, got {error}"
            ) from error
        return mlflow.MlflowClient()
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        client = mlflow.MlflowClient()
        if client.get_experiment_by_name(store.experiment) is None:
            artifacts = database.parent / "artifacts"
            client.create_experiment(store.experiment, artifacts.as_uri())
    mlflow.set_experiment(store.experiment)
    return client


def start_sweep(store: Store, name: str, axes: Mapping[str, Sequence[str]], runs: int) -> str:
    """Create the parent run of a sweep and return its id.

    Args:
        axes: What is swept over which values, so that a report can tell what is missing.
        runs: How many runs are to come.
    """
    client = connect(store)
    experiment = client.get_experiment_by_name(store.experiment)
    tags = {"kind": "sweep", AXES: json.dumps(axes), "runs": str(runs)}
    run = client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    return str(run.info.run_id)


def finish_sweep(store: Store, sweep: str, killed: bool) -> tuple[Run, list[Run]]:
    """Close the parent run; return it and the runs under it. One without runs is deleted."""
    client = connect(store)
    runs = runs_of(client, store, sweep)
    parent = client.get_run(sweep)
    failed = len(list(filter(is_complete, runs))) < int(parent.data.tags["runs"])
    client.set_terminated(sweep, "KILLED" if killed else "FAILED" if failed else "FINISHED")
    if not runs:
        client.delete_run(sweep)
    return parent, runs


@contextmanager
def tracked_run(name: str, params: Mapping[str, Any], sweep: str | None) -> Iterator[str]:
    """Run the body as an MLflow run: FINISHED, FAILED with its message, KILLED on interrupt."""
    tags = {"kind": "run", **_code_version()}
    with mlflow.start_run(run_name=name, parent_run_id=sweep, tags=tags) as run:
        try:
            mlflow.set_tag(SWEEP, sweep or run.info.run_id)
            mlflow.log_params(params)
            yield run.info.run_id
            mlflow.set_tag(COMPLETE, "true")
        except BaseException as error:
            mlflow.set_tag(ERROR, (str(error) or type(error).__name__)[:LONGEST_TAG])
            if not isinstance(error, Exception):
                mlflow.end_run("KILLED")
            raise


def log_params(params: Mapping[str, object]) -> None:
    """Add parameters to the current run."""
    mlflow.log_params(dict(params))


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
    mlflow.MlflowClient().log_inputs(run_id, [DatasetInput(data_set, tags)])


def log_goodnet(goodnet: Any) -> None:
    """Log the Keras model G, for `mlflow.pyfunc`, `mlflow models serve` and Keras.

    Signature and requirements are stated: left to MLflow, they are found out by importing the model
    in another process, which takes 8 to 22 s.
    """
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *goodnet.input_shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, goodnet.output_shape[-1]))]),
    )
    requirements = [f"{name}=={version(name)}" for name in ("tensorflow", "keras", "numpy")]
    mlflow.tensorflow.log_model(
        goodnet, name="goodnet", signature=signature, pip_requirements=requirements
    )


def runs_of(client: mlflow.MlflowClient, store: Store, sweep: str) -> list[Run]:
    """Return the runs of a sweep, oldest first; a run that stands alone is a sweep of its own."""
    query = f"tags.{SWEEP} = '{sweep}' and tags.kind = 'run'"
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            _experiments(client, store),
            query,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def newest_sweep(client: mlflow.MlflowClient, store: Store) -> str | None:
    """Return the sweep of the newest complete run, or None where there is none.

    A run that stands alone counts only where there is no sweep.
    """
    complete = f"tags.{COMPLETE} = 'true' and tags.kind = 'run'"
    for query in (f"{complete} and tags.`mlflow.parentRunId` LIKE '%'", complete):
        newest = client.search_runs(
            _experiments(client, store), query, max_results=1, order_by=["start_time DESC"]
        )
        if newest:
            return str(newest[0].data.tags[SWEEP])
    return None


def curve_of(client: mlflow.MlflowClient, run: Run, name: str) -> list[float]:
    """Return a curve's values at k = 0, 1, ..."""
    history = client.get_metric_history(run.info.run_id, name)
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def is_complete(run: Run) -> bool:
    """Tell whether the run has finished and logged all that it had to."""
    return bool(run.info.status == "FINISHED" and run.data.tags.get(COMPLETE) == "true")


def _experiments(client: mlflow.MlflowClient, store: Store) -> list[str]:
    experiment = client.get_experiment_by_name(store.experiment)
    return [experiment.experiment_id] if experiment else []


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
