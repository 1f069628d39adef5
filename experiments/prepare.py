"""Have the data set's files in place: draw the embedded one on first use, verify published ones."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.data import badnet_path, make_or_verify, open_bed
from experiments.launch.settings import RunSettings, settings_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    os.chdir(HydraConfig.get().runtime.cwd)
    with cli.answering("prepare"):
        settings = settings_of(config, RunSettings)
        make_or_verify(settings)
        for name, pictures in open_bed(settings).sets.items():
            print(f"{name}: {len(pictures)} pictures in {pictures.path}")
        print(f"network: {badnet_path(settings)}")


def main() -> int:
    return cli.call(job, "prepare")


if __name__ == "__main__":
    sys.exit(main())
