"""A multirun as one MLflow run with its runs nested under it, on any of Hydra's launchers."""

import importlib.util
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from backdoor.errors import UserError
from experiments.launch import cli
from experiments.launch.ahead import hash_ahead, open_ahead
from experiments.launch.composing import remember_composed
from experiments.launch.ending import INTERRUPTED, own_temporary_folder
from experiments.launch.plan import Plan, planned, task_of
from experiments.launch.position import hand_to_jobs
from experiments.launch.settings import Settings, settings_of
from experiments.launch.work import WORKS, Work

if TYPE_CHECKING:
    from experiments.launch.sweep import OpenSweep

IN_THIS_PROCESS = "basic"  # the launcher
LAUNCHERS = {"hydra_plugins.hydra_ray_launcher": "ray"}  # extras by the package of the launcher

log = logging.getLogger(__name__)

_open: list["OpenSweep"] = []  # the one that this process has started
_lost: list[int] = []  # numbers of runs that are started once more


class SweepCallback(Callback):  # type: ignore[misc]
    """Create the parent run before the first job starts and hand its id to all jobs.

    Args:
        command: That of which several are run.
    """

    def __init__(self, command: str) -> None:
        self.work = WORKS[command]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            _check_launcher(config.hydra.launcher)
            remember_composed()
            plan = planned(config)
            settings = _looked_at(plan, config, self.work)
            here = config.hydra.runtime.choices["hydra/launcher"] == IN_THIS_PROCESS
            if here and not config.dry_run:
                hash_ahead(settings)

            from experiments.launch.sweep import announce, start  # MLflow, which --help needs not

            if not _lost:
                announce(plan, config, self.work)
            if config.dry_run:
                raise SystemExit(0)
            if here:
                open_ahead(settings)
            if not _open:
                _open.append(start(plan, config, self.work))
        except Exception as error:
            # Hydra turns an exception here into a warning and would run all jobs without a parent.
            print(f"error: {cli.one_sentence(error)}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        hand_to_jobs(config, _open[0].id, _open[0].runs, _lost)


def closing_sweep(call: Callable[[], int]) -> int:
    """Call, close the sweep that this has opened, if any, print its runs, and return the exit code.

    Runs that a dead worker has taken with it are started once more. Hydra's own `on_multirun_end`
    is not called when a job has failed.
    """
    if {"--help", "-h", "--version"} & set(sys.argv):  # which leave nothing
        return call()
    with own_temporary_folder():
        return _closing(call)


def _closing(call: Callable[[], int]) -> int:
    code = INTERRUPTED
    _lost.clear()
    try:
        code = call()
        if code == 1 and _open:
            _lost.extend(_open[0].lost_runs())
            if _lost:
                log.info("a worker died: %d runs are started once more", len(_lost))
                code = call()
    except Exception as error:  # the store is gone, as everything else is answered by the call
        code = _said(error)
    finally:
        while _open:
            try:
                code = _open.pop().finish(code, worker_died=bool(_lost))
            except Exception as error:
                code = _said(error)
    return code


def _said(error: Exception) -> int:
    """Say what is wrong and return the exit code."""
    if cli.tracebacks_wanted():
        raise error
    print(f"error: {cli.one_sentence(error)}", file=sys.stderr)
    return cli.exit_code(error)


def _looked_at(plan: Plan, config: DictConfig, work: Work) -> Settings:
    """Return settings of a run that can be right, and refuse a sweep that has none.

    One that has some goes on without the others.
    """
    mistakes = []
    for job in plan.jobs:
        try:
            settings = settings_of(task_of(config, job), work.settings)
            work.look(settings)
            return settings
        except cli.USER_MISTAKES as error:
            mistakes.append(error)
    raise mistakes[0]


def _check_launcher(launcher: DictConfig) -> None:
    for package, extra in LAUNCHERS.items():
        if launcher._target_.startswith(f"{package}.") and not importlib.util.find_spec(package):
            raise UserError(cli.missing_extra(extra))
