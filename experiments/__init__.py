"""The jobs: run, prepare, report, benchmark. Wiring only; the work is done in `backdoor`."""

import hashlib
import json
import os

from omegaconf import OmegaConf

from backdoor import __version__


def _settings_id(*settings: object) -> str:
    """Name a folder after what is built in it, so that other settings get another folder."""
    plain = [
        OmegaConf.to_container(each, resolve=True) if OmegaConf.is_config(each) else each
        for each in settings
    ]
    return hashlib.sha256(json.dumps([__version__, *plain]).encode()).hexdigest()[:8]


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


OmegaConf.register_new_resolver("settings_id", _settings_id, replace=True)
OmegaConf.register_new_resolver("cores", lambda most: min(most, cores()), replace=True)
