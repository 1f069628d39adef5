"""Rebuild tables and figures of a sweep from its tracked runs alone.

python -m experiments.report
python -m experiments.report sweep=ID
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import hydra
from omegaconf import DictConfig, OmegaConf

from backdoor.tracking.store import Store
from experiments.launch import cli

NUMBERED = ("asc", "desc")  # Tables 1 and 2; other orders follow
OWN_FILES = ("table[0-9]*.*", "figure[12]*.*", "class_distribution*.*", "report.md")


def report(sweep: str | None, folder: str, store: Store) -> None:
    """Write tables and figures of a sweep to `folder`, print the tables, log all to the sweep.

    Raises:
        ValueError: The store has no such sweep, or none that has a complete run.
    """
    from backdoor.reporting.combinations import combinations
    from backdoor.tracking.runs import connect, is_complete, newest_sweep, runs_of

    client = connect(store)
    name = sweep or newest_sweep(client, store)
    runs = runs_of(client, store, name) if name else []
    if not name or not any(map(is_complete, runs)):
        asked = f"sweep={sweep}" if sweep else "the newest sweep"
        raise ValueError(
            f"{asked}: expected one with complete runs in {store.shown}, found none; "
            f"start one with make sweep"
        )
    parent = client.get_run(name)
    found = combinations(parent, runs)
    with tempfile.TemporaryDirectory() as partial:
        text = [f"# Sweep {parent.info.run_name}\n"]
        for number, combination in enumerate(found, start=1):
            suffix = f"-{number}" if len(found) > 1 else ""
            text += _write(client, combination, Path(partial), suffix)
        never = int(parent.data.tags.get("runs", len(runs))) - len(runs)
        text += [f"{never} runs of the sweep were never started.\n"] if never > 0 else []
        (Path(partial) / "report.md").write_text("\n".join(text))
        client.log_artifacts(name, partial, "report")
        _replace(Path(folder), Path(partial))
    print("\n".join(line for line in text if not line.startswith("![")))
    print(f"report: {Path(folder).resolve()}, and in MLflow with the run {name}")


def _replace(folder: Path, made: Path) -> None:
    """Put the files made in the place of an earlier report's, of which none stays behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in OWN_FILES:
        for old in folder.glob(pattern):
            old.unlink()
    for file in made.iterdir():
        shutil.copy(file, folder)


def _write(client: Any, combination: Any, folder: Path, suffix: str) -> list[str]:
    """Write one combination's tables and figures and return them as Markdown paragraphs."""
    text = [f"## {combination.title}\n"] if combination.title else []
    others = [order for order in combination.orders if order not in NUMBERED]
    for number, order in enumerate([*NUMBERED, *others], start=1):
        if order in combination.orders:
            text += _write_table(combination, order, number, folder, suffix)
    text += [
        f"{each.info.run_name}: {each.info.run_id} was superseded by a newer run.\n"
        for each in combination.superseded
    ]
    text += _check(client, combination)
    if combination.runs:
        text += _write_figures(client, combination, folder, suffix)
    return text


def _check(client: Any, combination: Any) -> list[str]:
    """Check what is printed against the artifacts it came from; return what could not be checked.

    Raises:
        RuntimeError: They differ.
    """
    from mlflow.exceptions import MlflowException

    from backdoor.reporting.combinations import check_artifacts

    lost = []
    for run in combination.runs.values():
        with tempfile.TemporaryDirectory() as downloads:
            try:
                check_artifacts(client, run, Path(downloads))
            except (BadZipFile, ValueError, KeyError) as error:
                raise RuntimeError(
                    f"run {run.info.run_id}: expected artifacts that can be read, got "
                    f"{cli.one_sentence(error)}"
                ) from error
            except (OSError, MlflowException) as error:
                reason = cli.one_sentence(error)
                lost.append(f"{run.info.run_name}: its artifacts are lost, so its numbers could ")
                lost[-1] += f"not be checked: {reason}\n"
    return lost


def _write_table(combination: Any, order: str, number: int, folder: Path, suffix: str) -> list[str]:
    from backdoor.reporting.tables import result_table

    rows, compare = combination.rows(order), combination.published
    for style in ("md", "csv", "tex"):
        (folder / f"table{number}{suffix}.{style}").write_text(result_table(rows, compare, style))
    missing = [f"{order}-{row.threshold:g}" for row in rows if not row.run]
    note = [f"Missing: {', '.join(missing)}.\n"] if missing else []
    title = f"### Table {number}: the GoodNet on the test sets, channels removed in order {order}\n"
    return [title, result_table(rows, compare, "md"), *note]


def _write_figures(client: Any, combination: Any, folder: Path, suffix: str) -> list[str]:
    from matplotlib.figure import Figure
    from mlflow.exceptions import MlflowException

    from backdoor.reporting.combinations import class_counts_of, panels, samples_of
    from backdoor.reporting.figures import draw_class_distribution, draw_curves, draw_samples

    order, threshold = max(combination.runs, key=lambda setting: (setting[0] == "asc", setting[1]))
    run = combination.runs[order, threshold]
    classes = int(run.data.tags["network.classes"])
    with tempfile.TemporaryDirectory() as downloads:
        drawings: dict[str, Callable[[], Figure]] = {
            "figure1": lambda: draw_samples(samples_of(client, run, Path(downloads)), classes),
            "figure2": lambda: draw_curves(panels(client, combination), "GoodNet"),
            "class_distribution": lambda: draw_class_distribution(
                class_counts_of(client, run, Path(downloads))
            ),
        }
        titles = {
            "figure1": f"Figure 1: clean and poisoned pictures, B' with {order} to {threshold:g} %",
            "figure2": "Figure 2: accuracy and attack success rate against channels removed",
            "class_distribution": "Class distribution",
        }
        text = []
        for name, draw in drawings.items():
            try:
                figure = draw()
            except (OSError, MlflowException) as error:
                text.append(f"{titles[name]}: missing, {cli.one_sentence(error)}\n")
                continue
            for kind in ("png", "svg"):
                figure.savefig(folder / f"{name}{suffix}.{kind}", dpi=150)
            text.append(f"![{titles[name]}]({name}{suffix}.png)\n")
    return text


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    tracking: Any = OmegaConf.to_container(config.tracking, resolve=True)
    report(config.sweep, config.folder, Store(**tracking))


if __name__ == "__main__":
    sys.exit(cli.call(job))
