"""Say which of many unlabelled pictures a GoodNet takes for backdoored.

python -m experiments.screen goodnet=runs:/ID/goodnet pictures=FOLDER
"""

import sys

import hydra
from omegaconf import DictConfig

from backdoor.device import start_tensorflow
from experiments.launch import cli
from experiments.launch.screen_settings import ScreenSettings
from experiments.launch.settings import settings_of


@hydra.main(version_base="1.3", config_path="../conf", config_name="screen")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    with cli.answering("screen"):
        settings = settings_of(config, ScreenSettings)
        start_tensorflow(settings.device, settings.threads, settings.verbose)

        from experiments.launch.screened import run_screening  # Keras, now that it may start

        alarm = run_screening(settings)
    if alarm:
        raise SystemExit(cli.ALARM)


def main() -> int:
    return cli.call(job, "screen")


if __name__ == "__main__":
    sys.exit(main())
