"""Results of a sweep, read back from MLflow alone and sorted into what may be compared."""

import csv
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import Run
from tabulate import tabulate

from backdoor.evaluation import evaluate
from backdoor.reporting.figures import UNKNOWN, Panel, Samples
from backdoor.reporting.tables import Row
from backdoor.tracking.runs import (
    AXES,
    ERROR,
    GOODNET,
    curve_of,
    goodnet_digest,
    is_complete,
    positions_in,
)

Setting = tuple[str, float]
PARENT = "mlflow.parentRunId"
SETS = ("clean_valid", "clean_test", "poisoned_valid", "poisoned_test")
SAME_TAGS = ("network.sha256", "network.layer", *(f"data.{name}.sha256" for name in SETS))
SAME_PARAMS = ("dataset.target", "dataset.divide_by", "seed")


@dataclass(frozen=True, eq=False)
class Combination:
    """The runs of one network, layer, data and seed: only these may stand in one table.

    Attributes:
        title: What the sweep varied besides order and threshold; empty where that is nothing.
        runs: The newest complete run of each order and threshold.
        superseded: Older complete runs of the same order and threshold.
        missing: Orders and thresholds of the sweep without a complete run.
    """

    title: str
    runs: Mapping[Setting, Run]
    superseded: Sequence[Run]
    missing: Sequence[Setting]

    @property
    def orders(self) -> list[str]:
        return sorted({order for order, _ in [*self.runs, *self.missing]})

    @property
    def published(self) -> bool:
        """Whether the runs are of the published data and network, as far as the config says."""
        expected = {"dataset.name": "lab3", "badnet.path": "auto"}
        return bool(self.runs) and all(
            expected.items() <= run.data.params.items()
            and run.data.tags["network.layer"] == "pool_3"
            for run in self.runs.values()
        )

    def rows(self, order: str) -> list[Row]:
        """Return the lines of one order's table, the missing ones too."""
        found = [_row(run) for (name, _), run in self.runs.items() if name == order]
        return found + [Row(*setting) for setting in self.missing if setting[0] == order]


def combinations(sweep: Run, runs: Sequence[Run]) -> list[Combination]:
    """Sort a sweep's runs by what they were run on; what has no complete run is all missing.

    Args:
        sweep: The parent run, which says what was asked for.
        runs: The runs under it, oldest first.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: positions_in(sweep.info.run_id, run)):
        groups.setdefault(tuple(_varied(sweep, run).values()), []).append(run)
    found = []
    for group in groups.values():
        title = ", ".join(f"{key}={value}" for key, value in _varied(sweep, group[0]).items())
        asked = _asked_for(sweep, group)
        complete: dict[tuple[str, ...], dict[Setting, list[Run]]] = {}
        for run in filter(is_complete, group):
            complete.setdefault(_identity(run), {}).setdefault(_setting(run), []).append(run)
        for same in complete.values() or [{}]:
            newest = {setting: each[-1] for setting, each in same.items()}
            superseded = [run for each in same.values() for run in each[:-1]]
            found.append(Combination(title, newest, superseded, sorted(asked - set(same))))
    return found


def panels(client: mlflow.MlflowClient, combination: Combination) -> list[Panel]:
    """Return the GoodNet's curves on the test sets, one panel an order that has runs."""
    found = []
    for order in combination.orders:
        stops = {s[1]: run for s, run in combination.runs.items() if s[0] == order}
        if stops:
            run = next(iter(stops.values()))
            found.append(
                Panel(
                    f"order {order}",
                    curve_of(client, run, "test_goodnet_accuracy"),
                    curve_of(client, run, "test_goodnet_attack_success_rate"),
                    {threshold: _row(each).removed for threshold, each in stops.items()},
                )
            )
    return found


def samples_of(client: mlflow.MlflowClient, run: Run, folder: Path) -> Samples:
    """Return the sample pictures of a run; an OSError or MlflowException says they are lost."""
    with np.load(client.download_artifacts(run.info.run_id, "samples.npz", str(folder))) as arrays:
        return Samples(**arrays)


def class_counts_of(client: mlflow.MlflowClient, run: Run, folder: Path) -> dict[str, list[int]]:
    """Return how many pictures each class has in each set; lost as `samples_of` says."""
    path = client.download_artifacts(run.info.run_id, "class_counts.json", str(folder))
    counts: dict[str, list[int]] = json.loads(Path(path).read_text())
    return counts


def check_artifacts(client: mlflow.MlflowClient, run: Run, folder: Path) -> None:
    """Compare a run's metrics with the artifacts they came from: channels, labels, GoodNet.

    Raises:
        RuntimeError: Something else is there than what was tracked; the message says what.
        OSError, MlflowException: An artifact is lost.
    """
    run_id, metrics = run.info.run_id, run.data.metrics

    def check(what: str, expected: object, found: object) -> None:
        if expected != found:
            raise RuntimeError(
                f"run {run_id}: expected {what} {expected}, as tracked, found {found} in its "
                f"artifacts"
            )

    channels = json.loads(
        Path(client.download_artifacts(run_id, "channels.json", str(folder))).read_text()
    )
    check("channels_total", int(metrics["channels_total"]), len(channels["order"]))
    check("channels_removed", int(metrics["channels_removed"]), len(channels["removed"]))
    check("channels", channels["order"][: len(channels["removed"])], channels["removed"])
    with np.load(client.download_artifacts(run_id, "labels.npz", str(folder))) as labels:
        clean, poisoned = (
            (labels[f"{name}_badnet"], labels[f"{name}_pruned"]) for name in SETS if "test" in name
        )
        truth = labels["poisoned_test_truth"]
        for name in ("clean_test", "poisoned_test"):
            pictures = len(labels[f"{name}_badnet"])
            check(f"pictures of {name}", int(run.data.tags[f"data.{name}.pictures"]), pictures)
        recomputed = evaluate(
            clean,
            poisoned,
            labels["clean_test_truth"],
            int(run.data.params["dataset.target"]),
            int(run.data.tags["network.classes"]),
            None if (truth == UNKNOWN).all() else truth,
        )
    for name, value in recomputed.items():
        check(name, metrics.get(name), value)
    curves = Path(client.download_artifacts(run_id, "curve.csv", str(folder)))
    with curves.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("test_goodnet_accuracy", "test_goodnet_attack_success_rate"):
        check(name, curve_of(client, run, name), [float(row[name]) for row in rows])
    model = f"models:/{run.outputs.model_outputs[0].model_id}"
    check("goodnet.sha256", run.data.tags[GOODNET], goodnet_digest(model))


def run_line(run: Run) -> str:
    """Return how a run ended, in one line."""
    if not is_complete(run):
        return f"{run.info.run_name} failed: {_reason(run)}"
    row = _row(run)
    return (
        f"{run.info.run_name}  accuracy {row.accuracy:.2%}  ASR {row.attack_success_rate:.2%}  "
        f"{row.removed}/{row.channels} channels  {run.data.metrics['seconds/total']:.1f} s"
    )


def runs_table(sweep: Run, runs: Sequence[Run]) -> str:
    """Return a table for the terminal of all runs of a sweep, failed ones with their message."""
    lines = []
    for run in sorted(
        runs, key=lambda run: (positions_in(sweep.info.run_id, run), run.info.start_time)
    ):
        done = is_complete(run)
        row = _row(run) if done else None
        status = run.info.status if done or run.info.status != "FINISHED" else "INCOMPLETE"
        earlier = done and run.data.tags.get(PARENT) != sweep.info.run_id
        lines.append(
            {"run": run.info.run_name, **_varied(sweep, run)}
            | {
                "status": "EARLIER" if earlier else status,
                "accuracy %": f"{100 * row.accuracy:.2f}" if row else "",
                "ASR %": f"{100 * row.attack_success_rate:.2f}" if row else "",
                "detected %": f"{100 * row.detection_rate:.2f}" if row else "",
                "false alarms %": f"{100 * row.false_alarm_rate:.2f}" if row else "",
                "channels": f"{row.removed}/{row.channels}" if row else "",
                "id or reason": run.info.run_id if done else _reason(run),
            }
        )
    return str(tabulate(lines, headers="keys", tablefmt="simple", disable_numparse=True))


def _reason(run: Run) -> str:
    return " ".join(run.data.tags.get(ERROR, "").split())


def _setting(run: Run) -> Setting:
    return run.data.params["order"], float(run.data.params["threshold"])


def _identity(run: Run) -> tuple[str, ...]:
    return tuple(
        [run.data.tags[key] for key in SAME_TAGS] + [run.data.params[key] for key in SAME_PARAMS]
    )


def _axes(sweep: Run) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(sweep.data.tags.get(AXES, "{}"))
    return found


def _varied(sweep: Run, run: Run) -> dict[str, str]:
    """Return the run's values of what the sweep varied besides order and threshold."""
    keys = [key for key in _axes(sweep) if key not in ("order", "threshold")]
    # Of a swept config group (dataset=faces,lab3) the choice's name is a parameter.
    return {key: run.data.params.get(key) or run.data.params.get(f"{key}.name", "") for key in keys}


def _asked_for(sweep: Run, runs: Sequence[Run]) -> set[Setting]:
    orders = _axes(sweep).get("order") or {run.data.params["order"] for run in runs}
    thresholds = _axes(sweep).get("threshold") or {run.data.params["threshold"] for run in runs}
    return {
        (order, float(threshold))
        for order, threshold in itertools.product(orders, thresholds)
        if _is_number(threshold)
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _row(run: Run) -> Row:
    metrics, (order, threshold) = run.data.metrics, _setting(run)
    return Row(
        order,
        threshold,
        metrics["goodnet_accuracy"],
        metrics["goodnet_attack_success_rate"],
        metrics["detection_rate"],
        metrics["false_alarm_rate"],
        int(metrics["channels_removed"]),
        int(metrics["channels_total"]),
        int(run.data.tags["data.clean_test.pictures"]),
        int(run.data.tags["data.poisoned_test.pictures"]),
        run.info.run_id,
    )
