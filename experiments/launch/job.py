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
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf

from backdoor.cache import Cache
from backdoor.device import start_tensorflow
from backdoor.errors import UserError
from backdoor.reporting.sentences import NOTES
from backdoor.reporting.terminal import LINES
from backdoor.tracking.connect import connect
from backdoor.tracking.pages import NOTE
from backdoor.tracking.record import DEVICE, RESULT, WHOLE, log_metrics
from backdoor.tracking.registry import register
from backdoor.tracking.resume import result_key, settings_key
from backdoor.tracking.runs import complete_run, mark_dead, tracked_run
from backdoor.tracking.store import without_password
from backdoor.tracking.sweeps import join_sweep
from experiments.launch import cli
from experiments.launch.ahead import open_ahead
from experiments.launch.data import files_of
from experiments.launch.ending import ending_with_its_launcher
from experiments.launch.position import Position
from experiments.launch.resolvers import cores
from experiments.launch.settings import Settings, alive_folder, settings_of, store_of
from experiments.launch.time_limit import time_limit
from experiments.launch.work import Work

log = logging.getLogger("experiments.run")  # by which conf/hydra/job_logging shows it

Params = Mapping[str, object]


def run_job(config: DictConfig, launcher: DictConfig, position: Position, work: Work) -> Run | None:
    """Do what a config says, show the line that it ends with, and return its MLflow run.

    In a sweep, a failure is shown and tracked and nothing is raised, so that the others go on, and
    nothing is returned.

    Args:
        launcher: Of the sweep, which says how many cores a job has.
    """
    try:
        with ending_with_its_launcher():
            run, line = _run(config, launcher, position, work)
    except Exception as error:
        log.debug("%s", without_password(traceback.format_exc()))
        if config.verbose or cli.tracebacks_wanted():
            raise
        sentence = cli.one_sentence(error)
        if position.sweep is None:
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        log.error("%s%s failed: %s", position.prefix, work.title(config), sentence)
        return None
    log.info("%s%s", position.prefix, line)
    return run


def result_of(settings: Settings, params: Params, cache: Cache) -> str | None:
    """Return the name of what the settings give; None while a file is not there."""
    try:
        return result_key(params, files_of(settings), cache)
    except UserError:  # the run itself will say what is wrong
        return None


def _run(
    config: DictConfig, launcher: DictConfig, position: Position, work: Work
) -> tuple[Run, str]:
    try:
        settings, params = settings_of(config, work.settings), cli.params_of(config)
    except cli.USER_MISTAKES as error:
        _refuse(config, error, position, work)
    if settings.threads is None:
        settings = dataclasses.replace(settings, threads=_cores_of_a_job(launcher))
    if position.sweep is None:  # whose settings have been looked at
        open_ahead(settings)
    client = connect(settings.tracking, settings.verbose, patient=position.sweep is not None)
    cache = settings.kept
    if position.sweep is None:
        mark_dead(client, settings.tracking, alive_folder(settings.cache))
    # Who asks for what another process is computing waits for it, and finds it complete.
    with FileLock(cache.lock(f"run-{settings_key(params)}")):
        result = None if settings.force else result_of(settings, params, cache)
        earlier = result and complete_run(client, settings.tracking, result)
        if earlier:
            if position.sweep:
                join_sweep(client, earlier, position.sweep, position.number)
            run = client.get_run(earlier)
            said = f"{settings.name} complete already: {earlier} (force=true runs it again)"
        else:
            run = client.get_run(_tracked(settings, params, position, cache, work))
            said = LINES[work.kind](client, run)
    if settings.register:
        version = register(client, run, settings.register)
        said = f"{said}  models:/{settings.register}/{version}"
    return run, said


def _tracked(
    settings: Settings, params: Params, position: Position, cache: Cache, work: Work
) -> str:
    """Compute and log what the settings say; return the id of its MLflow run."""
    start, client = time.perf_counter(), mlflow.MlflowClient()
    run = tracked_run(
        settings.name,
        params,
        alive_folder(settings.cache),
        position.sweep,
        position.number,
        position.log,
        work.kind,
        position.command,
    )
    with run as run_id, time_limit(settings.time_limit), tempfile.TemporaryDirectory() as folder:
        if settings.badnet.trust and position.sweep:
            raise UserError("badnet.trust: expected false in a sweep, got true; use a single run")
        work.look(settings)
        open_ahead(settings)
        device_name = start_tensorflow(settings.device, settings.threads, settings.verbose)
        mlflow.log_param(DEVICE, device_name)

        from experiments.launch.bodies import BODIES  # Keras, now that it may start

        measured = BODIES[work.kind](settings, run_id, cache, Path(folder))
        log_metrics(measured | {WHOLE: time.perf_counter() - start})
        mlflow.set_tag(NOTE, NOTES[work.kind](client, client.get_run(run_id)))
        mlflow.set_tag(RESULT, result_of(settings, params, cache))
    return run_id


def _refuse(config: DictConfig, error: Exception, position: Position, work: Work) -> NoReturn:
    """Track a run whose config could not be read, so that a sweep shows that and why it failed."""
    connect(store_of(config), patient=position.sweep is not None)
    params, folder = cli.params_of(config, resolve=False), alive_folder(config.cache)
    where = (folder, position.sweep, position.number, position.log)
    with tracked_run(work.title(config), params, *where, work.kind, position.command):
        raise error


def _cores_of_a_job(launcher: DictConfig) -> int | None:
    """Return the cores that the launcher gives a job, None where it does not say."""
    if "n_jobs" in launcher:  # joblib
        return max(1, cores() // max(1, int(launcher.n_jobs)))
    given = OmegaConf.select(launcher, "ray.remote.num_cpus") or launcher.get("cpus_per_task")
    return int(given) if given else None
