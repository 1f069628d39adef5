"""Reach the store of tracked runs, or say in one sentence that it cannot be reached."""

import logging
import os
import re
import socket
import sqlite3
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 take minutes to say no

import mlflow
from filelock import FileLock
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from backdoor.errors import UserError
from backdoor.tracking.moved import ARTIFACTS, follow
from backdoor.tracking.store import Store, said_by_mlflow

RETRIES, FEW, MANY = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2", "7"  # some seconds, four minutes
SECONDS_TO_ANSWER = 10
BUSY = re.compile("busy_timeout = 20000")
SECONDS_TO_WAIT = 300  # for who writes to an SQLite file, and for a server that has answered before

log = logging.getLogger(__name__)
_answered: set[str] = set()  # servers, of which a restart is waited for


@event.listens_for(Engine, "before_cursor_execute", retval=True)  # type: ignore[untyped-decorator]
def _wait_longer(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> tuple[str, Any]:
    """Have MLflow 3.17, which gives up after 20 s, wait as long as we do for who writes."""
    return BUSY.sub(f"busy_timeout = {int(1000 * SECONDS_TO_WAIT)}", statement), parameters


def connect(store: Store, verbose: bool = False, patient: bool = False) -> mlflow.MlflowClient:
    """Make `store` the current one; create database and experiment where there are none.

    From then on a server that is gone is waited for, until `hurry`.

    Args:
        patient: It is known to have answered, so wait for it now.

    Raises:
        ConnectionError: The server does not answer, or the database cannot be used.
        OSError: Its folder cannot be written.
    """
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # raises it, too
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store.address)
    if store.database is not None:
        return _open_database(store, store.database)
    if patient:
        _answered.add(store.address)
    _reach(store)
    try:
        mlflow.set_experiment(store.experiment)
        _answered.add(store.address)
        _retry(MANY)
    except (mlflow.MlflowException, SQLAlchemyError, ImportError) as error:
        raise _unreachable(store, error) from error
    return mlflow.MlflowClient()


def hurry() -> None:
    """Wait for no server any more: it was waited for, or the user wants an end."""
    _answered.clear()
    _retry(FEW)


def read_only(store: Store) -> mlflow.MlflowClient:
    """Return a client that looks at a store without creating anything in it.

    Raises:
        ConnectionError: Nobody listens there, or it is no MLflow server or database.
        UserError: It is no address.
    """
    _reach(store)
    try:
        with _alone(store.database):
            client = mlflow.MlflowClient(store.address)
            client.get_experiment_by_name(store.experiment)
    except (mlflow.MlflowException, SQLAlchemyError, ImportError) as error:
        raise _unreachable(store, error) from error
    return client


def _open_database(store: Store, database: Path) -> mlflow.MlflowClient:
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        ours = {file.name for file in database.parent.iterdir()} <= {".gitignore"}
        if store.uri is None and ours:  # what will be in it is the user's alone
            database.parent.chmod(0o700)
    try:
        with closing(sqlite3.connect(database, timeout=SECONDS_TO_WAIT)) as file:
            file.execute("BEGIN IMMEDIATE")  # MLflow would try for minutes
        with _alone(database):
            client = mlflow.MlflowClient()
            if client.get_experiment_by_name(store.experiment) is None:
                artifacts = database.parent / ARTIFACTS
                client.create_experiment(store.experiment, artifacts.as_uri())
            follow(database, store.experiment, SECONDS_TO_WAIT)
        mlflow.set_experiment(store.experiment)
    except (mlflow.MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise ConnectionError(
            f"tracking: expected a database that can be read and written at {database}, got {error}"
        ) from error
    return client


def _alone(database: Path | None) -> AbstractContextManager[object]:
    """Hold others off: two processes that create the tables of one SQLite database fail.

    Where nothing can be written, nothing is created.
    """
    if database is None or not os.access(database.parent, os.W_OK):
        return nullcontext()
    return FileLock(f"{database}.lock")


def _reach(store: Store) -> None:
    """Try whether somebody listens; MLflow tries for minutes to open a database server.

    Who has answered before is waited for.
    """
    try:
        address = urlsplit(store.address)
        there = address.hostname, address.port
    except ValueError as error:
        raise UserError(f"tracking.uri: expected an address, got {store.shown}: {error}") from error
    deadline = time.monotonic() + (SECONDS_TO_WAIT if store.address in _answered else 0)
    while all(there):
        try:
            socket.create_connection(there, SECONDS_TO_ANSWER).close()
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                raise _unreachable(store, error) from error
            log.info("%s does not answer: waiting for it", store.shown)
            time.sleep(min(SECONDS_TO_ANSWER, max(0, deadline - time.monotonic())))


def _retry(times: str) -> None:
    if os.environ[RETRIES] in (FEW, MANY):  # else the user has said how often
        os.environ[RETRIES] = times


def _unreachable(store: Store, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"tracking.uri: expected an MLflow server or database at {store.shown}, got "
        f"{said_by_mlflow(error)}"
    )
