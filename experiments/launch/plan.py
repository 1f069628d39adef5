"""What a multirun is going to run, by Hydra's public parts.

Hydra's own sweeper, which decides it, is private; tests/test_plan.py compares the two.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Plan:
    """What a multirun is asked for.

    Attributes:
        axes: What is swept over which values.
        jobs: The overrides of each run.
    """

    axes: Mapping[str, Sequence[str]]
    jobs: Sequence[Sequence[str]]

    @property
    def name(self) -> str:
        """The sweep, named after what it varies: `order=asc,desc threshold=2,4,10`."""
        varied = (f"{key}={','.join(values)}" for key, values in self.axes.items())
        return " ".join(varied) or "one run"

    def title(self, job: Sequence[str]) -> str:
        """Return what tells a job from the others."""
        return " ".join(item for item in job if item.partition("=")[0] in self.axes)


def planned(config: DictConfig) -> Plan:
    """Return what a multirun sweeps over and the runs that makes.

    As in Hydra's sweeper: its own parameters, then the command line; the last of a key counts.
    """
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    axes: dict[str, list[str]] = {}
    choices: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*given, *config.hydra.overrides.task]):
        key = override.get_key_element()
        axes.pop(key, None)
        if override.is_sweep_override():
            axes[key] = [str(value) for value in override.sweep_string_iterator()]
            choices[key] = [f"{key}={value}" for value in axes[key]]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return Plan(axes, [list(job) for job in itertools.product(*choices.values())])


def task_of(config: DictConfig, job: Sequence[str]) -> DictConfig:
    """Return the config that a job of the multirun will get."""
    loader = GlobalHydra.instance().config_loader()
    composed = loader.load_sweep_config(config, list(job))
    return OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
