"""A server is waited for once it has answered, and what is wrong with it is one sentence."""

import os
import socket
import threading
import time
from contextlib import closing

import mlflow
import pytest
from filelock import FileLock, Timeout

from backdoor.tracking import connect as module
from backdoor.tracking.connect import FEW, MANY, RETRIES, connect, hurry, read_only
from backdoor.tracking.store import Store, said_by_mlflow


def listening(port=0):
    there = socket.create_server(("127.0.0.1", port))
    return there, there.getsockname()[1]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """One that nobody asks anything; its port is free again."""
    monkeypatch.setenv(RETRIES, FEW)
    monkeypatch.setattr(mlflow, "set_experiment", lambda name: None)
    monkeypatch.setattr(module, "SECONDS_TO_ANSWER", 0.1)
    there, port = listening()
    there.close()
    yield Store(f"http://127.0.0.1:{port}", str(tmp_path), "backdoor"), port
    hurry()
    mlflow.set_tracking_uri(None)


def come_back(port, seconds):
    def listen():
        time.sleep(seconds)
        there, _ = listening(port)
        with closing(there):
            there.accept()[0].close()

    thread = threading.Thread(target=listen)
    thread.start()
    return thread


def test_who_has_never_answered_is_not_waited_for(server):
    store, _ = server
    begun = time.monotonic()
    with pytest.raises(ConnectionError, match=f"expected an MLflow server .* at {store.uri}, got"):
        connect(store)
    assert time.monotonic() - begun < 2


def test_a_server_that_is_started_again_is_waited_for(server):
    store, port = server
    there, _ = listening(port)
    with closing(there):
        connect(store)
    assert os.environ[RETRIES] == MANY
    thread = come_back(port, 0.4)
    connect(store)
    thread.join()
    hurry()
    assert os.environ[RETRIES] == FEW
    with pytest.raises(ConnectionError, match="refused"):
        connect(store)


def test_a_job_of_a_sweep_knows_that_its_server_has_answered(server):
    store, port = server
    thread = come_back(port, 0.4)
    connect(store, patient=True)
    thread.join()


def test_the_wait_has_an_end(server, monkeypatch):
    store, _ = server
    monkeypatch.setattr(module, "SECONDS_TO_WAIT", 0.3)
    begun = time.monotonic()
    with pytest.raises(ConnectionError, match="refused"):
        connect(store, patient=True)
    assert 0.3 <= time.monotonic() - begun < 5


def test_how_often_to_try_is_left_to_who_has_said_so(server, monkeypatch):
    store, port = server
    monkeypatch.setenv(RETRIES, "4")
    there, _ = listening(port)
    with closing(there):
        connect(store)
    assert os.environ[RETRIES] == "4"


def test_of_a_request_that_failed_the_cause_is_said():
    long = (
        "API request to http://me:secret@host:5000/api/2.0/mlflow/runs/get failed with exception "
        "HTTPConnectionPool(host='host', port=5000): Max retries exceeded with url: /api/2.0/"
        "mlflow/runs/get?run_id=9b0 (Caused by ResponseError('too many 500 error responses'))"
    )
    found = said_by_mlflow(mlflow.MlflowException(long))
    assert found == "http://***@host:5000: ResponseError('too many 500 error responses')"
    assert said_by_mlflow(ValueError("token=abc")) == "token=***"


@pytest.mark.parametrize("opened", [connect, read_only])
def test_tables_are_created_by_one_at_a_time(opened, tmp_path, monkeypatch):
    """Two that create those of one SQLite database fail."""
    store, client, held = Store(None, str(tmp_path), "backdoor"), mlflow.MlflowClient, []

    def looked_at(*address):
        with pytest.raises(Timeout):
            FileLock(f"{store.database}.lock").acquire(timeout=0)
        held.append(address)
        return client(*address)

    monkeypatch.setattr(mlflow, "MlflowClient", looked_at)
    assert opened(store).search_experiments()
    assert len(held) == 1


def test_who_may_not_write_reads_without_a_lock(tmp_path, monkeypatch):
    store = Store(None, str(tmp_path), "backdoor")
    connect(store)
    store.database.with_name("mlflow.db.lock").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert read_only(store).get_experiment_by_name("backdoor")
    assert not store.database.with_name("mlflow.db.lock").exists()
