"""Rebuild tables and figures of a sweep from its tracked runs alone.

python -m experiments.report
python -m experiments.report sweep=ID
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.settings import store_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    from experiments.launch.report_sweep import report  # MLflow, which --help needs not

    with cli.answering("report"):
        report(config.sweep, Path(config.folder), store_of(config))


def main() -> int:
    return cli.call(job, "report")


if __name__ == "__main__":
    sys.exit(main())
