"""A check's end: the sentence, where the evidence is, the exit code; of many, a table."""

from pathlib import Path

import mlflow
from mlflow.entities import Run
from omegaconf import DictConfig

from backdoor.tracking.check_record import PAGE, VERDICT, code_of
from experiments.launch.job import run_job
from experiments.launch.position import Position
from experiments.launch.work import CHECK


def run_check(config: DictConfig, launcher: DictConfig, position: Position) -> None:
    """Check a network; alone, print the sentence and leave with its exit code."""
    run = run_job(config, launcher, position, CHECK)
    if run is None:
        return
    page = copied_page(run, Path(config.folder))
    if position.sweep is None:
        print(run.data.tags[VERDICT])
        print(f"evidence: {page}")
        raise SystemExit(code_of([run]))


def copied_page(run: Run, folder: Path) -> Path:
    """Copy a run's page to a folder, under the network's name, and return where it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{PAGE}")
    name = run.info.run_name.removeprefix("check ")
    page = folder / f"{Path(name).name}-{run.info.run_id[:8]}.html"
    page.write_text(text)
    return page
