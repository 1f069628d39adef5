"""Where a run stands in its sweep, which the sweep tells its jobs by their environment."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments.launch.arguments import repeated

# Environment variables
SWEEP_ID, RUNS_IN_ALL = "BACKDOOR_SWEEP", "BACKDOOR_RUNS"
ONLY, FOLDER = "BACKDOOR_ONLY", "BACKDOOR_FOLDER"


@dataclass(frozen=True)
class Position:
    """Which run of which sweep it is: sweep is None for a run alone, numbers begin with 1.

    Attributes:
        log: The run's log file.
        command: By which the run alone can be repeated.
    """

    sweep: str | None
    number: int
    log: str
    command: str

    @property
    def prefix(self) -> str:
        return f"[{self.number}/{os.environ[RUNS_IN_ALL]}] " if self.sweep else ""

    @property
    def wanted(self) -> bool:
        """Whether it is to run; when a sweep's lost runs are started again, only those are."""
        only = os.environ.get(ONLY)
        return not only or str(self.number) in only.split(",")


def position_of(hydra_config: DictConfig) -> Position:
    """Return the position of the job that runs."""
    sweep = os.environ.get(SWEEP_ID)
    name = hydra_config.job.name
    file = Path(hydra_config.runtime.output_dir) / f"{name}.log"
    number = hydra_config.job.num + 1 if sweep else 1
    return Position(sweep, number, str(file.resolve()), repeated(name, hydra_config.overrides.task))


def hand_to_jobs(config: DictConfig, sweep: str, runs: int, only: Sequence[int]) -> None:
    """Have all jobs of a multirun told their sweep, on whichever machine they run.

    Args:
        only: The numbers of those that are to run; none are all.
    """
    handed = {
        SWEEP_ID: sweep,
        RUNS_IN_ALL: runs,
        ONLY: ",".join(map(str, only)),
        FOLDER: Path.cwd(),  # Ray's workers start in folders of their own
    }
    for name, value in handed.items():
        config.hydra.overrides.hydra.append(f"+hydra.job.env_set.{name}='{value}'")
    outputs = Path(config.hydra.sweep.dir).resolve()
    config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{outputs}'")
