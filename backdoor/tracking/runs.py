"""Runs in MLflow: how one begins and ends, and how they are found again."""

import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from backdoor import __version__
from backdoor.text import plain
from backdoor.tracking.connect import hurry
from backdoor.tracking.front import front_params
from backdoor.tracking.kinds import RUN
from backdoor.tracking.liveness import alive, dead
from backdoor.tracking.record import (
    ALIVE,
    COMMAND,
    COMMIT,
    COMPLETE,
    CONFIG_FILE,
    ERROR,
    KIND,
    LOG,
    RESULT,
    VERSION,
    axes_of,
    in_sweep,
    is_complete,
)
from backdoor.tracking.store import Store, without_password

DIED = "its process died (killed, out of memory, or the machine went down)"
LONGEST_TAG = 5000


@contextmanager
def tracked_run(
    name: str,
    params: Mapping[str, Any],
    folder: Path,
    sweep: str | None = None,
    position: int = 1,
    log: str = "",
    kind: str = RUN,
    command: str = "",
) -> Iterator[str]:
    """Run the body as an MLflow run: FINISHED, FAILED with its message, KILLED on interrupt.

    Args:
        folder: Where the run shows that it is alive.
        position: Which of the sweep's runs it is, from 1.
        log: Its log file.
        kind: `kinds.RUN` or `kinds.CHECK`.
        command: By which it can be repeated.
    """
    token = uuid.uuid4().hex
    tags = {KIND: kind, LOG: log, ALIVE: token, COMMAND: command, **_code_version()}
    with (
        alive(folder, token),  # before it can be seen as running
        mlflow.start_run(run_name=name, parent_run_id=sweep, tags=tags) as run,
    ):
        run_id = run.info.run_id
        try:
            mlflow.set_tag(in_sweep(sweep or run_id), position)
            swept = axes_of(mlflow.get_run(sweep)) if sweep else ()
            mlflow.log_params(front_params(params, swept))
            mlflow.log_dict(dict(params), CONFIG_FILE)
            yield run_id
            mlflow.set_tag(COMPLETE, "true")
        except BaseException as error:
            if not isinstance(error, Exception) or isinstance(error, mlflow.MlflowException):
                hurry()
            reason = without_password(str(error)) or type(error).__name__
            # What cannot be told any more, as on a full disk, must not hide the error itself.
            with suppress(mlflow.MlflowException):
                mlflow.set_tag(ERROR, plain(reason, LONGEST_TAG))
            with suppress(mlflow.MlflowException):
                mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
            raise


def mark_dead(
    client: mlflow.MlflowClient, store: Store, folder: Path, reason: str = DIED
) -> list[str]:
    """Mark runs KILLED whose process died without saying so; return their names.

    Args:
        folder: Where runs show that they are alive; others are not judged.
    """
    marked = []
    for file in dead(folder):
        for run in search(client, store, f"tags.{ALIVE} = '{file.stem}'"):
            file.unlink(missing_ok=True)  # a file whose run is not there is of another store
            if run.info.status == "RUNNING":
                client.set_tag(run.info.run_id, ERROR, reason)
                client.set_terminated(run.info.run_id, "KILLED")
                marked.append(str(run.info.run_name))
    return marked


def complete_results(client: mlflow.MlflowClient, store: Store) -> dict[str, str]:
    """Return the newest complete run of each result."""
    runs = search(client, store, f"tags.{COMPLETE} = 'true' and tags.{RESULT} LIKE '%'")
    return {run.data.tags[RESULT]: run.info.run_id for run in runs if is_complete(run)}


def complete_run(client: mlflow.MlflowClient, store: Store, result: str) -> str | None:
    """Return the newest complete run of a result, None where there is none."""
    runs = search(client, store, f"tags.{RESULT} = '{result}' and tags.{COMPLETE} = 'true'")
    return next((run.info.run_id for run in reversed(runs) if is_complete(run)), None)


def search(client: mlflow.MlflowClient, store: Store, query: str) -> list[Run]:
    """Return all runs that an MLflow filter matches, oldest first."""
    experiment = client.get_experiment_by_name(store.experiment)
    runs: list[Run] = []
    token = None
    while experiment:
        page = client.search_runs(
            [experiment.experiment_id],
            query,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            break
    return runs


def _code_version() -> dict[str, str]:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        described = "unknown"
    return {VERSION: __version__, COMMIT: described}
