"""Say whether a network carries a backdoor, from clean pictures alone.

python -m experiments.check badnet.path=model.keras dataset.clean=pictures/
python -m experiments.check -m badnet.path=a.keras,b.keras dataset.clean=pictures/
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.ahead import hash_ahead
from experiments.launch.callback import closing_sweep
from experiments.launch.networks import with_networks
from experiments.launch.position import FOLDER, position_of
from experiments.launch.settings import CheckSettings, settings_of
from experiments.launch.work import CHECK


@hydra.main(version_base="1.3", config_path="../conf", config_name="check")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    position = position_of(HydraConfig.get())
    os.chdir(os.environ.get(FOLDER) or HydraConfig.get().runtime.cwd)
    if config.dry_run or not position.wanted:
        return
    if position.sweep is None:
        with cli.answering("check"):
            CHECK.look(settings := settings_of(config, CheckSettings))
            hash_ahead(settings)

    from experiments.launch.checked import run_check  # MLflow, which --help needs not

    run_check(config, HydraConfig.get().launcher, position)


def main() -> int:
    sys.argv[1:] = with_networks(sys.argv[1:])
    return closing_sweep(lambda: cli.call(job, "check", sweeps=True))


if __name__ == "__main__":
    sys.exit(main())
