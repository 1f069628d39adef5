"""A multirun as one MLflow run with its runs nested under it, on any of Hydra's launchers."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments import cli

SWEEP, RUNS = "BACKDOOR_SWEEP", "BACKDOOR_RUNS"

log = logging.getLogger(__name__)


class SweepCallback(Callback):  # type: ignore[misc]
    """Create the parent run before the first job starts and hand its id to all jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from backdoor.tracking import Store, start_sweep

        try:
            overrides = parse_overrides(config)
            runs = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
            store = Store(**config.tracking)
            sweep = start_sweep(store, sweep_name(overrides), axes(overrides), len(runs))
        except Exception as error:
            # Hydra turns an exception here into a warning and would run all jobs without a parent.
            print(f"error: {cli.one_sentence(error)}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        for name, value in ((SWEEP, sweep), (RUNS, len(runs))):
            config.hydra.overrides.hydra.append(f"+hydra.job.env_set.{name}='{value}'")
        _open_sweep.append((store, sweep))
        log.info("%d runs, tracked in %s", len(runs), store.address)


_open_sweep: list[tuple[Any, str]] = []


def parse_overrides(config: DictConfig) -> list[Override]:
    """Return the overrides of a multirun: the sweeper's parameters, then the command line's."""
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    parsed: list[Override] = OverridesParser.create().parse_overrides(
        [*given, *config.hydra.overrides.task]
    )
    return parsed


def position(hydra_config: DictConfig) -> str:
    """Return which of the sweep's runs this job is, as `[3/6] `; nothing for a single run."""
    if SWEEP not in os.environ:
        return ""
    return f"[{hydra_config.job.num + 1}/{os.environ[RUNS]}] "


def axes(overrides: list[Override]) -> dict[str, list[str]]:
    """Return what is swept: `{"order": ["asc", "desc"], "threshold": ["2", "4", "10"]}`."""
    return {
        each.get_key_element(): [str(value) for value in each.sweep_string_iterator()]
        for each in overrides
        if each.is_sweep_override()
    }


def sweep_name(overrides: list[Override]) -> str:
    """Name a sweep after what it varies: `order=asc,desc threshold=2,4,10`."""
    return (
        " ".join(f"{key}={','.join(values)}" for key, values in axes(overrides).items())
        or "one run"
    )


@contextmanager
def closing_sweep() -> Iterator[dict[str, int]]:
    """Close the sweep that the body has opened, if any, and print its runs.

    The body leaves its exit code in the dictionary. Hydra's own `on_multirun_end` is not called
    when a job has failed.
    """
    outcome = {"code": cli.KILLED_BY_SIGINT}
    try:
        yield outcome
    finally:
        for store, sweep in _open_sweep:
            _finish(store, sweep, outcome["code"])
        _open_sweep.clear()


def _finish(store: Any, sweep: str, code: int) -> None:
    from backdoor.results import runs_table
    from backdoor.tracking import finish_sweep

    status = {0: "FINISHED", cli.KILLED_BY_SIGINT: "KILLED"}.get(code, "FAILED")
    runs = finish_sweep(store, sweep, status)
    if runs:
        print(f"\n{runs_table(runs)}\n")
        print(f"compare: make ui, then filter by   tags.sweep = '{sweep}'")
        print(f"tables and figures: python -m experiments.report sweep={sweep}")
