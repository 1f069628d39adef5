"""The configs of many jobs in a tenth of the time: what they share is composed once.

Hydra reads and merges every file anew for each job, twice: when it looks whether all jobs can be
composed, and when it starts each.
"""

import copy
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException


class JobConfigs:
    """A loader's `load_sweep_config`, which remembers.

    A job's plain values are set in a copy of what its other overrides give (groups, additions,
    deletions, Hydra's own), as Hydra sets them. What is remembered stays in this process: a job
    that runs in another one is composed there.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._groups = frozenset(loader.list_groups(""))
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_composed": {}}

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        overrides = OverridesParser.create().parse_overrides(list(sweep_overrides))
        plain = [override for override in overrides if self._is_plain(override)]
        others = [str(override.input_line) for override in overrides if override not in plain]
        config = copy.deepcopy(self._once(master_config, others))
        try:
            for override in plain:
                _set(config, override)
        except OmegaConfBaseException:  # no key of a plain value: Hydra knows what it is
            return self._anew(master_config, sweep_overrides)
        job, asked = config.hydra.job, [item for item in overrides if not item.is_hydra_override()]
        config.hydra.overrides.task = [item.input_line for item in asked]
        named = job.config.override_dirname
        lines = sorted(
            str(item.input_line) for item in asked if item.key_or_group not in named.exclude_keys
        )
        job.override_dirname = named.item_sep.join(lines).replace("=", named.kv_sep)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _is_plain(self, override: Override) -> bool:
        special = override.is_add() or override.is_delete() or override.is_sweep_override()
        if special or override.package is not None or override.is_hydra_override():
            return False
        return override.key_or_group not in self._groups

    def _once(self, master_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        key = (*master_config.hydra.overrides.hydra, *overrides)
        if key not in self._composed:
            self._composed[key] = self._anew(master_config, overrides)
        return self._composed[key]

    def _anew(self, master_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        anew: DictConfig = type(self._loader).load_sweep_config(
            self._loader, master_config, list(overrides)
        )
        return anew


def _set(config: DictConfig, override: Override) -> None:
    key = override.key_or_group
    if OmegaConf.is_dict(OmegaConf.select(config, key)):  # or a group that was not listed
        raise ConfigKeyError(key)
    OmegaConf.update(config, key, override.value(), merge=True)


def remember_composed() -> None:
    """Have the loader of this process compose what jobs share once."""
    loader = GlobalHydra.instance().config_loader()
    if "load_sweep_config" not in vars(loader):
        setattr(loader, "load_sweep_config", JobConfigs(loader))  # noqa: B010
