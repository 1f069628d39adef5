"""The jobs: run, prepare, report, benchmark. Wiring only; the work is done in `backdoor`."""

import hashlib
import json

from omegaconf import OmegaConf

from backdoor import __version__


def _settings_id(*settings: object) -> str:
    """Name a folder after what is built in it, so that other settings get another folder."""
    plain = [
        OmegaConf.to_container(each, resolve=True) if OmegaConf.is_config(each) else each
        for each in settings
    ]
    return hashlib.sha256(json.dumps([__version__, *plain]).encode()).hexdigest()[:8]


OmegaConf.register_new_resolver("settings_id", _settings_id, replace=True)
