"""One run: prune a BadNet in an order until a threshold, evaluate the GoodNet, track it all.

python -m experiments.run order=asc threshold=2
python -m experiments.run -m order=asc,desc threshold=2,4,10
"""

import dataclasses
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from backdoor.tracking.store import without_password
from experiments import cores
from experiments.launch import cli, sweep
from experiments.launch.settings import Setting, alive_folder, setting_of
from experiments.launch.sweep import Place

if TYPE_CHECKING:
    from backdoor.cache import Cache

log = logging.getLogger("experiments.run")  # not __main__, whose messages are not shown


def run(setting: Setting, params: Mapping[str, object], place: Place) -> str:
    """Run one setting as one MLflow run, or find it complete; return a line that says which.

    Args:
        params: What to log as parameters.
    """
    # TensorFlow and MLflow are imported where they are needed, so that --help answers at once.
    from filelock import FileLock

    from backdoor.cache import Cache
    from backdoor.reporting.combinations import run_line
    from backdoor.tracking.resume import result_id, settings_id
    from backdoor.tracking.runs import complete_run, connect, join_sweep, mark_dead

    client = connect(setting.tracking, setting.verbose)
    cache = Cache(setting.cache)
    if place.sweep is None:
        mark_dead(client, setting.tracking, alive_folder(setting.cache))
    # Who asks for what another process is computing waits for it, and finds it complete.
    with FileLock(cache.lock(f"run-{settings_id(params)}")):
        result = None if setting.force else result_id(setting, params, cache)
        earlier = result and complete_run(client, setting.tracking, result)
        if earlier:
            if place.sweep:
                join_sweep(client, earlier, place.sweep, place.position)
            return f"{setting.name} complete already: {earlier} (force=true runs it again)"
        return run_line(client.get_run(_tracked(setting, params, place, cache)))


def _tracked(setting: Setting, params: Mapping[str, object], place: Place, cache: "Cache") -> str:
    """Compute and log one setting; return the id of its MLflow run."""
    from backdoor.device import start_tensorflow
    from backdoor.pruning.walk import check_order, check_threshold
    from backdoor.tracking.resume import result_id
    from backdoor.tracking.runs import RESULT, log_params, log_seconds, set_tag, tracked_run

    start = time.perf_counter()
    with (
        tracked_run(
            setting.name,
            params,
            alive_folder(setting.cache),
            place.sweep,
            place.position,
            place.log,
        ) as run_id,
        time_limit(setting.time_limit),
        tempfile.TemporaryDirectory() as folder,
    ):
        if setting.badnet.trust and place.sweep:
            raise ValueError("badnet.trust: expected false in a sweep, got true; use a single run")
        check_order(setting.order)
        check_threshold(setting.threshold)
        device_name = start_tensorflow(setting.device, setting.threads, setting.verbose)
        log_params({"device_name": device_name})

        from backdoor.detection import Stopwatch, compute
        from backdoor.tracking.record import log_outcome

        stage = Stopwatch()
        outcome = compute(setting, cache, device_name, stage)
        log_outcome(outcome, setting, run_id, Path(folder), stage)
        log_seconds(stage.seconds | {"total": time.perf_counter() - start})
        set_tag(RESULT, result_id(setting, params, cache))
    return run_id


class _TimeIsUpError(BaseException):
    """Not an Exception, so that nothing on the way takes it for a failure that it can handle."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Give the body up after that many seconds.

    Raises:
        TimeoutError: The time is over.
    """
    if seconds is None:
        yield
        return

    def give_up(*_: object) -> None:
        raise _TimeIsUpError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsUpError as up:
        sentence = f"time_limit: expected the run to end within {seconds:g} s, it did not"
        raise TimeoutError(sentence) from up  # the log shows where it was
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refuse(config: DictConfig, error: Exception, place: Place) -> None:
    """Track a run whose config could not be read, so that a sweep shows that and why it failed."""
    from backdoor.tracking.runs import connect, tracked_run
    from backdoor.tracking.store import Store

    connect(Store(**OmegaConf.to_container(config.tracking, resolve=True)))  # type: ignore[arg-type]
    name = f"{config.order}-{config.threshold}"
    params, folder = cli.params_of(config, resolve=False), alive_folder(config.cache)
    with tracked_run(name, params, folder, place.sweep, place.position, place.log):
        raise error


def cores_of_a_job(launcher: DictConfig) -> int | None:
    """Return the cores that the launcher gives a job, None where it does not say."""
    if "n_jobs" in launcher:  # joblib
        return max(1, cores() // max(1, int(launcher.n_jobs)))
    given = OmegaConf.select(launcher, "ray.remote.num_cpus") or launcher.get("cpus_per_task")
    return int(given) if given else None


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    place = sweep.place(HydraConfig.get())
    os.chdir(os.environ.get(sweep.FOLDER, "."))  # Ray's workers start in folders of their own
    if config.dry_run or not place.wanted:
        return
    try:
        try:
            setting, params = setting_of(config), cli.params_of(config)
        except cli.USER_MISTAKES as error:
            refuse(config, error, place)
        if setting.threads is None:
            threads = cores_of_a_job(HydraConfig.get().launcher)
            setting = dataclasses.replace(setting, threads=threads)
        line = run(setting, params, place)
    except Exception as error:
        log.debug("%s", without_password(traceback.format_exc()))
        if config.verbose:
            raise
        sentence = cli.one_sentence(error)
        if place.sweep is None:
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        # The sweep goes on; that this run has failed stands in MLflow.
        log.error("%s%s-%s failed: %s", place.prefix, config.order, config.threshold, sentence)
    else:
        log.info("%s%s", place.prefix, line)


def main() -> int:
    # conf/hydra/launcher/ray.yaml has the name of the plugin's own config, and is to have it.
    warnings.filterwarnings("ignore", r"\s*.*is validated against ConfigStore schema", UserWarning)
    if any(re.fullmatch(r"\+*dry_run=(true|1|yes|on)", each.lower()) for each in sys.argv):
        sys.argv.append("--multirun")  # where nothing has been written when the runs are known
    return sweep.closing_sweep(lambda: cli.call(job))


if __name__ == "__main__":
    sys.exit(main())
