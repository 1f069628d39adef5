"""A multirun as one MLflow run with its runs nested under it, on any of Hydra's launchers."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from backdoor.store import Store
from experiments import cli

SWEEP, RUNS = "BACKDOOR_SWEEP", "BACKDOOR_RUNS"

log = logging.getLogger(__name__)
_open_sweeps: list[tuple[Store, str, int]] = []


class SweepCallback(Callback):  # type: ignore[misc]
    """Create the parent run before the first job starts and hand its id to all jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from backdoor.tracking import start_sweep

        try:
            axes, runs = planned(config)
            store = Store(**OmegaConf.to_container(config.tracking, resolve=True))  # type: ignore[arg-type]
            sweep = start_sweep(store, sweep_name(axes), axes, runs)
        except Exception as error:
            # Hydra turns an exception here into a warning and would run all jobs without a parent.
            print(f"error: {cli.one_sentence(error)}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        for name, value in ((SWEEP, sweep), (RUNS, runs)):
            config.hydra.overrides.hydra.append(f"+hydra.job.env_set.{name}='{value}'")
        _open_sweeps.append((store, sweep, runs))
        log.info("%d runs, tracked in %s", runs, store.address)


def planned(config: DictConfig) -> tuple[dict[str, list[str]], int]:
    """Return what a multirun sweeps over and how many runs that makes.

    As in Hydra's sweeper: its own parameters, then the command line; the last of a key counts.
    """
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    overrides: list[Override] = OverridesParser.create().parse_overrides(
        [*given, *config.hydra.overrides.task]
    )
    runs = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    last = {each.get_key_element(): each for each in overrides}
    axes = {
        key: [str(value) for value in each.sweep_string_iterator()]
        for key, each in last.items()
        if each.is_sweep_override()
    }
    return axes, len(runs)


def position(hydra_config: DictConfig) -> str:
    """Return which of the sweep's runs this job is, as `[3/6] `; nothing for a single run."""
    if SWEEP not in os.environ:
        return ""
    return f"[{hydra_config.job.num + 1}/{os.environ[RUNS]}] "


def sweep_name(axes: dict[str, list[str]]) -> str:
    """Name a sweep after what it varies: `order=asc,desc threshold=2,4,10`."""
    return " ".join(f"{key}={','.join(values)}" for key, values in axes.items()) or "one run"


def closing_sweep(call: Callable[[], int]) -> int:
    """Call, close the sweep that this has opened, if any, print its runs, and return the exit code.

    Hydra's own `on_multirun_end` is not called when a job has failed.
    """
    code = cli.KILLED_BY_SIGINT
    try:
        code = call()
    finally:
        while _open_sweeps:
            code = _finish(*_open_sweeps.pop(), code)
    return code


def _finish(store: Store, sweep: str, planned_runs: int, code: int) -> int:
    from backdoor.results import runs_table
    from backdoor.tracking import finish_sweep, is_complete

    parent, runs = finish_sweep(store, sweep, killed=code == cli.KILLED_BY_SIGINT)
    if not runs:
        return code
    print(f"\n{runs_table(parent, runs)}\n")
    print(f"compare: {_ui(store)}, tick Expand rows, filter by   tags.sweep = '{sweep}'")
    print(f"tables and figures: python -m experiments.report sweep={sweep}")
    incomplete = planned_runs - sum(map(is_complete, runs))
    if incomplete and not code:
        print(f"error: {incomplete} of {planned_runs} runs failed", file=sys.stderr)
        return 1
    return code


def _ui(store: Store) -> str:
    if store.uri is None:
        return "make ui"
    return f"mlflow ui --backend-store-uri {store.address}" if store.database else store.address
