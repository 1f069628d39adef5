"""Have the data set's files in place: draw the embedded one on first use, verify published ones."""

import sys

import hydra
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.data import badnet_path, draw_or_verify, open_bed
from experiments.launch.settings import settings_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    settings = settings_of(config)
    draw_or_verify(settings)
    for name, pictures in open_bed(settings).sets.items():
        print(f"{name}: {len(pictures)} pictures in {pictures.path}")
    print(f"network: {badnet_path(settings)}")


if __name__ == "__main__":
    sys.exit(cli.call(job))
