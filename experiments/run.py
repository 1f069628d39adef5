"""One run: prune a BadNet in an order until a threshold, evaluate the GoodNet, track it all.

python -m experiments.run order=asc threshold=2
python -m experiments.run -m order=asc,desc threshold=2,4,10
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments import cli, sweep
from experiments.setting import Setting, setting_of

log = logging.getLogger("experiments.run")  # not __main__, whose messages are not shown


def run(setting: Setting, params: Mapping[str, object], parent: str | None) -> str:
    """Run one setting as one MLflow run and return a line that says how it ended.

    Args:
        params: What to log as parameters.
        parent: The sweep that the run belongs to, None for a run that stands alone.
    """
    # TensorFlow and MLflow are imported here and not above, so that --help answers at once.
    from backdoor.cache import Cache
    from backdoor.device import start_tensorflow
    from backdoor.pruning import check_order, check_threshold
    from backdoor.tracking import connect, log_params, log_seconds, tracked_run

    start = time.perf_counter()
    connect(setting.tracking, setting.verbose)
    with (
        tracked_run(setting.name, params, parent) as run_id,
        tempfile.TemporaryDirectory() as folder,
    ):
        check_order(setting.order)
        check_threshold(setting.threshold)
        device_name = start_tensorflow(setting.device, setting.threads, setting.verbose)
        log_params({"device_name": device_name})

        from experiments.artifacts import log_outcome
        from experiments.stages import Stopwatch, compute

        stage = Stopwatch()
        outcome = compute(setting, Cache(setting.cache), device_name, stage)
        log_outcome(outcome, setting, run_id, Path(folder), stage)
        log_seconds(stage.seconds | {"total": time.perf_counter() - start})
    metrics = outcome.metrics()
    return (
        f"{setting.name}  accuracy {metrics['goodnet_accuracy']:.2%}  "
        f"ASR {metrics['goodnet_attack_success_rate']:.2%}  "
        f"{outcome.k}/{outcome.network.channels} channels  {time.perf_counter() - start:.1f} s"
    )


def refuse(config: DictConfig, error: Exception, parent: str | None) -> None:
    """Track a run whose config could not be read, so that a sweep shows that and why it failed."""
    from backdoor.store import Store
    from backdoor.tracking import connect, tracked_run

    connect(Store(**OmegaConf.to_container(config.tracking, resolve=True)))  # type: ignore[arg-type]
    name = f"{config.order}-{config.threshold}"
    with tracked_run(name, cli.flat(config, resolve=False), parent):
        raise error


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    parent = os.environ.get(sweep.SWEEP)
    try:
        try:
            setting, params = setting_of(config), cli.flat(config)
        except cli.USER_MISTAKES as error:
            refuse(config, error, parent)
        known = {key: value for key, value in params.items() if ".sha256." not in key}
        line = run(setting, known, parent)
    except Exception as error:
        log.debug("", exc_info=error)
        if config.verbose:
            raise
        sentence = cli.one_sentence(error)
        if parent is None:
            print(f"error: {sentence}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        # The sweep goes on; that this run has failed stands in MLflow.
        place = sweep.position(HydraConfig.get())
        log.error("%s%s-%s failed: %s", place, config.order, config.threshold, sentence)
    else:
        log.info("%s%s", sweep.position(HydraConfig.get()), line)


def main() -> int:
    return sweep.closing_sweep(lambda: cli.call(job))


if __name__ == "__main__":
    sys.exit(main())
