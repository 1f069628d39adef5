"""A check's end: the sentence, where the evidence is, the exit code; of many, a table."""

from pathlib import Path

import mlflow
from mlflow.entities import Run
from omegaconf import DictConfig

from backdoor.tracking.check_record import PAGE, REMEDY, VERDICT, code_of
from backdoor.tracking.goodnets import GOODNET_FILE
from experiments.launch.arguments import command_line, store_words
from experiments.launch.job import run_job
from experiments.launch.position import Position
from experiments.launch.settings import store_of
from experiments.launch.work import CHECK


def run_check(config: DictConfig, launcher: DictConfig, position: Position) -> None:
    """Check a network; alone, print the sentence and leave with its exit code."""
    store = store_of(config)  # now: MLflow will change what it says by default
    run = run_job(config, launcher, position, CHECK)
    if run is None:
        return
    page = copied_page(run, Path(config.folder))
    if position.sweep is None:
        print(run.data.tags[VERDICT])
        print(f"evidence: {page}")
        print(f"tracked: run {run.info.run_id}")
        if REMEDY in run.data.tags:
            goodnet = f"runs:/{run.info.run_id}/{GOODNET_FILE}{run.data.tags[REMEDY]}.keras"
            where = store_words(store)
            screen = f"{command_line('screen')} goodnet={goodnet} pictures=FOLDER{where}"
            print(f"screen new pictures: {screen}")
        raise SystemExit(code_of([run]))


def copied_page(run: Run, folder: Path) -> Path:
    """Copy a run's page to a folder, under the network's name, and return where it lies."""
    folder.mkdir(parents=True, exist_ok=True)
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{PAGE}")
    name = run.info.run_name.removeprefix("check ")
    page = folder / f"{Path(name).name}-{run.info.run_id[:8]}.html"
    page.write_text(text)
    return page
