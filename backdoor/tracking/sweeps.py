"""Sweeps in MLflow: a parent run, and the runs that belong to it."""

import itertools
import json
from collections.abc import Mapping, Sequence

import mlflow
from mlflow.entities import Run

from backdoor.tracking.connect import connect
from backdoor.tracking.kinds import RUN, SWEEP
from backdoor.tracking.record import (
    ALIVE,
    AXES,
    COMMAND,
    COMPLETE,
    KIND,
    PARENT,
    RUNS,
    axes_of,
    in_sweep,
    is_complete,
)
from backdoor.tracking.runs import search
from backdoor.tracking.store import Store


def start_sweep(
    store: Store,
    name: str,
    axes: Mapping[str, Sequence[str]],
    runs: int,
    token: str = "",
    kind: str = SWEEP,
    command: str = "",
) -> str:
    """Create the parent run of a sweep and return its id.

    Args:
        axes: What is swept over which values, so that a report can tell what is missing.
        runs: How many runs are to come.
        token: Under which the sweep shows that it is alive.
        kind: `kinds.SWEEP` or `kinds.CHECKS`.
        command: By which it can be repeated.
    """
    client = connect(store)
    experiment = client.get_experiment_by_name(store.experiment)
    tags = {KIND: kind, AXES: json.dumps(axes), RUNS: str(runs), ALIVE: token, COMMAND: command}
    run = client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    return str(run.info.run_id)


def finish_sweep(store: Store, sweep: str, killed: bool) -> tuple[Run, list[Run]]:
    """Close the parent run; return it and the runs under it. One without runs is deleted."""
    client = connect(store)
    runs = runs_of(client, store, sweep)
    parent = client.get_run(sweep)
    failed = len(complete_positions(sweep, runs)) < int(parent.data.tags[RUNS])
    client.set_terminated(sweep, "KILLED" if killed else "FAILED" if failed else "FINISHED")
    if not runs:
        client.delete_run(sweep)
    return parent, runs


def positions_in(sweep: str, run: Run) -> list[int]:
    """Return which of the sweep's runs it is, from 1."""
    return [int(number) for number in run.data.tags.get(in_sweep(sweep), "").split(",") if number]


def complete_positions(sweep: str, runs: Sequence[Run]) -> set[int]:
    """Return which of the sweep's runs have a complete one."""
    return {number for run in runs if is_complete(run) for number in positions_in(sweep, run)}


def untracked(sweep: Run, runs: Sequence[Run]) -> list[str]:
    """Return what tells each run of a sweep from the others that left no trace in the store."""
    there = {number for run in runs for number in positions_in(sweep.info.run_id, run)}
    keys, values = axes_of(sweep).keys(), axes_of(sweep).values()
    asked = (zip(keys, chosen, strict=True) for chosen in itertools.product(*values))
    titles = [" ".join(f"{key}={value}" for key, value in one) for one in asked]
    return [title for number, title in enumerate(titles, start=1) if number not in there]


def join_sweep(client: mlflow.MlflowClient, run_id: str, sweep: str, position: int) -> None:
    """Have a complete run belong to this sweep, too, at this position."""
    positions = {*positions_in(sweep, client.get_run(run_id)), position}
    client.set_tag(run_id, in_sweep(sweep), ",".join(map(str, sorted(positions))))


def runs_of(client: mlflow.MlflowClient, store: Store, sweep: str) -> list[Run]:
    """Return the runs of a sweep, oldest first; a run that stands alone is a sweep of its own."""
    return search(client, store, f"tags.`{in_sweep(sweep)}` LIKE '%'")


def newest_shown(client: mlflow.MlflowClient, store: Store) -> str | None:
    """Return the newest sweep, of runs or checks, or the newest run or check that stands alone."""
    alone = (run for run in search(client, store, "") if PARENT not in run.data.tags)
    newest = [run.info.run_id for run in alone if KIND in run.data.tags]
    return str(newest[-1]) if newest else None


def newest_sweep(client: mlflow.MlflowClient, store: Store) -> str | None:
    """Return the newest sweep that has a complete run, or None where there is none.

    A run that stands alone counts only where there is no sweep.
    """
    for sweep in reversed(search(client, store, f"tags.{KIND} = '{SWEEP}'")):
        if any(map(is_complete, runs_of(client, store, sweep.info.run_id))):
            return str(sweep.info.run_id)
    alone = search(client, store, f"tags.{COMPLETE} = 'true' and tags.{KIND} = '{RUN}'")
    return str(alone[-1].info.run_id) if alone else None
