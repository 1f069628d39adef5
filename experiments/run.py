"""One run: prune a BadNet in an order until a threshold, evaluate the GoodNet, track it all.

python -m experiments.run order=asc threshold=2
python -m experiments.run -m order=asc,desc threshold=2,4,10
"""

import os
import re
import sys
import warnings

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.launch import cli
from experiments.launch.ahead import hash_ahead
from experiments.launch.callback import closing_sweep
from experiments.launch.position import FOLDER, position_of
from experiments.launch.settings import RunSettings, settings_of
from experiments.launch.work import RUN


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    position = position_of(HydraConfig.get())
    # Paths are those of the folder in which the command was typed, on any machine.
    os.chdir(os.environ.get(FOLDER) or HydraConfig.get().runtime.cwd)
    if config.dry_run or not position.wanted:
        return
    if position.sweep is None:  # in a sweep the mistake is tracked, and the other runs go on
        with cli.answering("run"):
            RUN.look(settings := settings_of(config, RunSettings))
            hash_ahead(settings)

    from experiments.launch.job import run_job  # MLflow, which --help needs not

    run_job(config, HydraConfig.get().launcher, position, RUN)


def main() -> int:
    # conf/hydra/launcher/ray.yaml has the name of the plugin's own config, and is to have it.
    warnings.filterwarnings("ignore", r"\s*.*is validated against ConfigStore schema", UserWarning)
    if any(re.fullmatch(r"\+*dry_run=(true|1|yes|on)", word.lower()) for word in sys.argv):
        sys.argv.append("--multirun")  # where nothing has been written when the runs are known
    return closing_sweep(lambda: cli.call(job, "run", sweeps=True))


if __name__ == "__main__":
    sys.exit(main())
