"""One run as one MLflow run: found complete, or computed and tracked."""

import dataclasses
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import mlflow
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from backdoor.cache import Cache
from backdoor.device import start_tensorflow
from backdoor.errors import UserError
from backdoor.reporting.terminal import run_line
from backdoor.tracking.connect import connect
from backdoor.tracking.record import DEVICE, RESULT, log_seconds
from backdoor.tracking.resume import result_key, settings_key
from backdoor.tracking.runs import complete_run, mark_dead, tracked_run
from backdoor.tracking.store import without_password
from backdoor.tracking.sweeps import join_sweep
from experiments.launch import cli
from experiments.launch.data import files_of
from experiments.launch.early import check_early
from experiments.launch.position import Position
from experiments.launch.resolvers import cores
from experiments.launch.settings import Settings, alive_folder, settings_of, store_of
from experiments.launch.time_limit import time_limit

log = logging.getLogger("experiments.run")  # by which conf/hydra/job_logging shows it

Params = Mapping[str, object]


def run_job(config: DictConfig, launcher: DictConfig, position: Position) -> None:
    """Run what a config says and show the line that it ends with.

    In a sweep, a failure is shown and tracked and nothing is raised, so that the others go on.

    Args:
        launcher: Of the sweep, which says how many cores a job has.
    """
    try:
        line = _run(config, launcher, position)
    except Exception as error:
        log.debug("%s", without_password(traceback.format_exc()))
        if config.verbose or cli.tracebacks_wanted():
            raise
        sentence = cli.one_sentence(error)
        if position.sweep is None:
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        log.error("%s%s-%s failed: %s", position.prefix, config.order, config.threshold, sentence)
    else:
        log.info("%s%s", position.prefix, line)


def result_of(settings: Settings, params: Params, cache: Cache) -> str | None:
    """Return the name of what the settings give; None while a file is not there."""
    try:
        return result_key(params, files_of(settings), cache)
    except UserError:  # the run itself will say what is wrong
        return None


def _run(config: DictConfig, launcher: DictConfig, position: Position) -> str:
    try:
        settings, params = settings_of(config), cli.params_of(config)
    except cli.USER_MISTAKES as error:
        _refuse(config, error, position)
    if settings.threads is None:
        settings = dataclasses.replace(settings, threads=_cores_of_a_job(launcher))
    client = connect(settings.tracking, settings.verbose)
    cache = Cache(settings.cache)
    if position.sweep is None:
        mark_dead(client, settings.tracking, alive_folder(settings.cache))
    # Who asks for what another process is computing waits for it, and finds it complete.
    with FileLock(cache.lock(f"run-{settings_key(params)}")):
        result = None if settings.force else result_of(settings, params, cache)
        earlier = result and complete_run(client, settings.tracking, result)
        if earlier:
            if position.sweep:
                join_sweep(client, earlier, position.sweep, position.number)
            return f"{settings.name} complete already: {earlier} (force=true runs it again)"
        run_id = _tracked(settings, params, position, cache)
        return run_line(client, client.get_run(run_id))


def _tracked(settings: Settings, params: Params, position: Position, cache: Cache) -> str:
    """Compute and log what the settings say; return the id of its MLflow run."""
    start = time.perf_counter()
    run = tracked_run(
        settings.name,
        params,
        alive_folder(settings.cache),
        position.sweep,
        position.number,
        position.log,
    )
    with run as run_id, time_limit(settings.time_limit), tempfile.TemporaryDirectory() as folder:
        if settings.badnet.trust and position.sweep:
            raise UserError("badnet.trust: expected false in a sweep, got true; use a single run")
        check_early(settings)
        device_name = start_tensorflow(settings.device, settings.threads, settings.verbose)
        mlflow.log_param(DEVICE, device_name)

        from experiments.launch.body import detect_and_record  # Keras, now that it may start

        seconds = detect_and_record(settings, run_id, cache, Path(folder))
        log_seconds(seconds | {"total": time.perf_counter() - start})
        mlflow.set_tag(RESULT, result_of(settings, params, cache))
    return run_id


def _refuse(config: DictConfig, error: Exception, position: Position) -> NoReturn:
    """Track a run whose config could not be read, so that a sweep shows that and why it failed."""
    connect(store_of(config))
    params, folder = cli.params_of(config, resolve=False), alive_folder(config.cache)
    name = f"{config.order}-{config.threshold}"
    with tracked_run(name, params, folder, position.sweep, position.number, position.log):
        raise error


def _cores_of_a_job(launcher: DictConfig) -> int | None:
    """Return the cores that the launcher gives a job, None where it does not say."""
    if "n_jobs" in launcher:  # joblib
        return max(1, cores() // max(1, int(launcher.n_jobs)))
    given = OmegaConf.select(launcher, "ray.remote.num_cpus") or launcher.get("cpus_per_task")
    return int(given) if given else None
