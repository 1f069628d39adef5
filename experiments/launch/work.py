"""What a command does once for each choice of its keys: a run, or the check of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from backdoor.tracking import kinds
from experiments.launch.early import check_files, check_run
from experiments.launch.settings import CheckSettings, RunSettings, Settings


@dataclass(frozen=True)
class Work:
    """One of the two.

    Attributes:
        command: Its name, and that of its config.
        settings: What it is told.
        look: Refuses a mistake that can be seen before anything is loaded.
        title: Names it where its config cannot be read.
        kind, kind_of_many: Tags of its MLflow run, and of the parent of several.
    """

    command: str
    settings: type[Settings]
    look: Callable[[Any], None]
    title: Callable[[DictConfig], str]
    kind: str
    kind_of_many: str


RUN = Work(
    "run",
    RunSettings,
    check_run,
    lambda config: f"{config.order}-{config.threshold}",
    kinds.RUN,
    kinds.SWEEP,
)
CHECK = Work(
    "check",
    CheckSettings,
    check_files,
    lambda config: f"check {config.badnet.path}",
    kinds.CHECK,
    kinds.CHECKS,
)
WORKS = {work.command: work for work in (RUN, CHECK)}
