"""What MLflow's pages show first: the table of a sweep's runs, figures of the sweep, notes."""

import json
from collections.abc import Mapping, Sequence

import mlflow
from mlflow.entities import Metric, Run, RunTag

from backdoor.tracking.check_record import KNOWN_ATTACK, SCORE, VERDICT
from backdoor.tracking.kinds import CHECK, CHECKS, RUN, SWEEP
from backdoor.tracking.record import (
    ACCURACY,
    ATTACK,
    BADNET,
    DATA_SET,
    DETECTION,
    FALSE_ALARMS,
    KIND,
    ORDER,
    REMOVED,
    THRESHOLD,
    axes_of,
    in_sweep,
    is_complete,
)
from backdoor.tracking.registry import worth
from backdoor.tracking.store import Store

LOCAL_PAGES = "http://127.0.0.1:5000"
MOST_ORDERS = 2  # whose figures a sweep shows: at most MOST_METRICS in all
LEAST_WIDTH, LETTER = 40, 8  # pixels
NOTE = "mlflow.note.content"  # shown as the description of a run
# A tag of an experiment that MLflow's button "Share" writes: what the table of runs is to show.
LONGEST_NOTE = 8000  # letters, of which MLflow cuts off the rest
VIEW = "mlflow.sharedViewState."
METRICS = {
    SWEEP: (ACCURACY, ATTACK, DETECTION, FALSE_ALARMS, REMOVED),
    CHECKS: (SCORE, KNOWN_ATTACK),
}
PARAMS = {SWEEP: (ORDER, THRESHOLD), CHECKS: (BADNET, DATA_SET)}
TAGS = {SWEEP: (), CHECKS: (VERDICT,)}
ALONE = {RUN: SWEEP, CHECK: CHECKS}  # a run that stands alone is shown as a sweep of one
GROUPS = ("dataset", "attack", "network", "badnet", "tracking")  # their name is a parameter


def share_table(client: mlflow.MlflowClient, sweep: Run) -> None:
    """Have the experiment's page show this sweep's runs, what was chosen and what came out first.

    Of no effect but on MLflow's pages; `table_of` opens them so.
    """
    kind = sweep.data.tags[KIND]
    kind = ALONE.get(kind, kind)
    swept = [f"{key}.name" if key in GROUPS else key for key in axes_of(sweep)]
    columns = [
        *(f"params.`{key}`" for key in dict.fromkeys([*PARAMS[kind], *swept])),
        *(f"tags.`{key}`" for key in TAGS[kind]),
        *(f"metrics.`{key}`" for key in METRICS[kind]),
    ]
    view = {
        "searchFilter": f"tags.`{in_sweep(sweep.info.run_id)}` LIKE '%'",
        "orderByKey": columns[0],  # by start they would be hidden under their parent
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _width(column) for column in columns},
        "hideEmptyCharts": True,
    }
    client.set_experiment_tag(sweep.info.experiment_id, VIEW + sweep.info.run_id, json.dumps(view))


def _width(column: str) -> int:
    """Return pixels in which the column's name is legible."""
    return LEAST_WIDTH + LETTER * len(column.partition("`")[2])


def is_server(store: Store) -> bool:
    """Tell whether a server keeps the store, which shows the pages, too."""
    return store.database is None and store.address.startswith("http")


def pages_of(store: Store) -> str:
    """Return where MLflow's pages show the store, once they are served."""
    return store.shown.rstrip("/") if is_server(store) else LOCAL_PAGES


def page_of(run: Run) -> str:
    """Return the address of a run's page, behind that of MLflow's pages."""
    return f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def table_of(sweep: Run) -> str:
    """Return the address of the table of a sweep's runs, behind that of MLflow's pages."""
    return (
        f"/#/experiments/{sweep.info.experiment_id}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={sweep.info.run_id}"
    )


def summarise(client: mlflow.MlflowClient, sweep: Run, runs: Sequence[Run], note: str) -> None:
    """Give a parent run figures of its own and a note, and share the table of its runs.

    Of the best orders the run with the highest defence effectiveness rating, or, without poisoned
    pictures, the highest accuracy; and how many runs are complete.
    """
    complete = [run for run in runs if is_complete(run)]
    figures: dict[str, float] = {
        "runs_complete": len(complete),
        "runs_failed": len(runs) - len(complete),
    }
    best = sorted(_best(complete).items(), key=lambda entry: -worth(entry[1]))
    for order, run in best[:MOST_ORDERS]:
        for name in METRICS[SWEEP]:
            if name in run.data.metrics:
                figures[f"best of {order}/{name}"] = run.data.metrics[name]
    metrics = [Metric(name, value, 0, 0) for name, value in figures.items()]
    client.log_batch(sweep.info.run_id, metrics, [], [RunTag(NOTE, note[:LONGEST_NOTE])])
    share_table(client, sweep)


def _best(complete: Sequence[Run]) -> Mapping[str, Run]:
    """Return the best run of each order; of checks, which have none, nothing."""
    best: dict[str, Run] = {}
    for run in complete:
        order = run.data.params.get(ORDER)
        if order and (order not in best or worth(run) > worth(best[order])):
            best[order] = run
    return best
