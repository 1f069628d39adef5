"""What configs compute: `${cores:4}`, `${built_from:${dataset.draw}}`, `${where:${given},file}`."""

import hashlib
import json
import os

from omegaconf import OmegaConf

from backdoor.attacks.made import make
from backdoor.pictures.sources import origin_of
from backdoor.versions import version_of


def built_from(*settings: object) -> str:
    """Name a folder after what is built in it, so that other settings get another folder."""
    plain = [
        OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for value in settings
    ]
    for value in plain:  # a control is the same whatever it would have been poisoned with
        if isinstance(value, dict) and value.get("trigger", "") is None:
            value |= {"rate": 0, "target": 0}
        if isinstance(value, dict) and value.get("root"):  # other files there are other pictures
            value["origin"] = origin_of(value["root"])
    return hashlib.sha256(json.dumps([version_of(make), *plain]).encode()).hexdigest()[:8]


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def where(given: object, value: object) -> object:
    """Return the value where something is given, else nothing."""
    return None if given is None else value


OmegaConf.register_new_resolver("built_from", built_from, replace=True)
OmegaConf.register_new_resolver("cores", lambda most: min(most, cores()), replace=True)
OmegaConf.register_new_resolver("where", where, replace=True)
