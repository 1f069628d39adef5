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
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments import cli, sweep

log = logging.getLogger("experiments.run")  # not __main__, whose messages are not shown


def run(
    *,
    order: str,
    threshold: float,
    layer: str,
    device: str,
    threads: int | None,
    seed: int,
    cache: str,
    verbose: bool,
    dataset: Mapping[str, Any],
    badnet: Mapping[str, Any],
    tracking: Mapping[str, Any],
    params: Mapping[str, object],
    parent: str | None,
) -> str:
    """Run one setting as one MLflow run and return a line that says how it ended.

    Args:
        params: What to log as parameters.
        parent: The sweep that the run belongs to, None for a run that stands alone.
    """
    # TensorFlow and MLflow are imported here and not above, so that --help answers at once.
    from backdoor.cache import Cache
    from backdoor.device import start_tensorflow
    from backdoor.pruning import check_order, check_threshold
    from backdoor.tracking import Store, connect, log_params, log_seconds, tracked_run
    from experiments.prepare import DataSet

    start = time.perf_counter()
    name = f"{order}-{threshold}"
    connect(Store(**tracking))
    with tracked_run(name, params, parent) as run_id, tempfile.TemporaryDirectory() as folder:
        check_order(order)
        check_threshold(threshold)
        device_name = start_tensorflow(device, threads, verbose)
        log_params({"device_name": device_name})

        from experiments.artifacts import log_outcome
        from experiments.stages import Stopwatch, compute

        stage = Stopwatch()
        outcome = compute(
            DataSet(**dataset),
            badnet["path"],
            order,
            threshold,
            layer,
            Cache(cache),
            device_name,
            stage,
        )
        log_outcome(outcome, run_id, Path(folder), order, threshold, seed, stage)
        log_seconds(stage.seconds | {"total": time.perf_counter() - start})
    metrics = outcome.metrics()
    return (
        f"{name}  accuracy {metrics['goodnet_accuracy']:.2%}  "
        f"ASR {metrics['goodnet_attack_success_rate']:.2%}  "
        f"{outcome.k}/{outcome.network.channels} channels  {time.perf_counter() - start:.1f} s"
    )


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    number = sweep.position(HydraConfig.get())
    params = {
        key: value
        for key, value in cli.flat(config).items()
        if not key.startswith("dataset.sha256.")
    }
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    plain.pop("experiment", None)
    try:
        line = run(**plain, params=params, parent=os.environ.get(sweep.SWEEP))
    except Exception as error:
        log.error(
            "%s%s-%s failed: %s", number, config.order, config.threshold, cli.one_sentence(error)
        )
        log.debug("", exc_info=error)
        raise
    log.info("%s%s", number, line)


def main() -> int:
    with sweep.closing_sweep() as outcome:
        outcome["code"] = cli.call(job)
    return outcome["code"]


if __name__ == "__main__":
    sys.exit(main())
