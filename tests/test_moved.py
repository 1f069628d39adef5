"""A moved or copied folder of tracked runs keeps its artifacts."""

import shutil

import mlflow
import pytest

from backdoor.tracking.connect import connect
from backdoor.tracking.store import Store


@pytest.fixture(params=["mlruns", "100 %_of it"])
def tracked(tmp_path, request):
    """A folder with a run that has an artifact, and the run's id."""
    folder = tmp_path / request.param
    connect(Store(None, str(folder), "backdoor"))
    with mlflow.start_run() as run:
        mlflow.log_text("here", "note.txt")
    return folder, run.info.run_id


def note_of(folder, run_id):
    client = connect(Store(None, str(folder), "backdoor"))
    return mlflow.artifacts.load_text(f"{client.get_run(run_id).info.artifact_uri}/note.txt")


def test_a_moved_folder_keeps_its_artifacts(tracked, tmp_path):
    folder, run_id = tracked
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    assert note_of(elsewhere, run_id) == "here"


def test_a_copy_has_artifacts_of_its_own(tracked, tmp_path):
    folder, run_id = tracked
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "artifacts" / run_id / "artifacts" / "note.txt").write_text("of the copy")
    assert note_of(copy, run_id) == "of the copy"
    assert note_of(folder, run_id) == "here"
    with mlflow.start_run() as new:  # the store in use is the original again
        pass
    assert str(folder.as_uri()) in new.info.artifact_uri


def test_new_runs_of_a_copy_are_kept_with_it(tracked, tmp_path):
    folder, _ = tracked
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    connect(Store(None, str(copy), "backdoor"))
    with mlflow.start_run() as new:
        mlflow.log_text("new", "note.txt")
    assert (copy / "artifacts" / new.info.run_id / "artifacts" / "note.txt").exists()


def test_a_database_without_its_artifacts_is_left_as_it_is(tracked, tmp_path):
    folder, run_id = tracked
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "mlflow.db", alone)
    assert note_of(alone, run_id) == "here"
