"""Serve MLflow's pages, and say at which address the newest sweep stands as a table.

python -m experiments.ui
python -m experiments.ui sweep=ID port=5001
"""

import sys

import hydra
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.settings import store_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="ui")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    from experiments.launch.serve_pages import serve  # MLflow, which --help needs not

    with cli.answering("ui"):
        serve(config.sweep, store_of(config), config.host, config.port)


def main() -> int:
    return cli.call(job, "ui")


if __name__ == "__main__":
    sys.exit(main())
