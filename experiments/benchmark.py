"""Measure the numeric work of the six runs against the lab's loop and against one plain pass.

python -m experiments.benchmark
python -m experiments.benchmark quick=true
python -m experiments.benchmark network=vgg16
"""

import sys
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from backdoor.device import start_tensorflow
from experiments.benchmarks.settings import Benchmark
from experiments.launch import cli

QUICK = {"people": 48, "pictures": 16, "repeats": 1}


@hydra.main(version_base="1.3", config_path="../conf/benchmark", config_name="benchmark")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    with cli.answering("benchmark"):
        settings = Benchmark(**plain | (QUICK if plain["quick"] else {}))
        start_tensorflow()

        from experiments.benchmarks.run import benchmark  # Keras, now that it may start

        benchmark(settings)


def main() -> int:
    return cli.call(job, "benchmark")


if __name__ == "__main__":
    sys.exit(main())
