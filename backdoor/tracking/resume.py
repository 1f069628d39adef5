"""What need not be run again: a run is named after all that determines its result."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from backdoor import __version__
from backdoor.cache import Cache
from backdoor.pictures.picture_set import sha256
from experiments.launch.settings import SETS, Setting
from experiments.prepare import badnet_path

# Where and how a run is computed, and what is done with it; not what comes out.
WITHOUT_EFFECT = ("device", "threads", "cache", "verbose", "force", "dry_run", "time_limit")


def settings_id(params: Mapping[str, object]) -> str:
    """Return a hash of the settings that have an effect on the result."""
    effective = {
        key: value
        for key, value in params.items()
        if key not in WITHOUT_EFFECT and not key.startswith("tracking.")
    }
    return _hash([__version__, effective])


def result_id(setting: Setting, params: Mapping[str, object], cache: Cache) -> str | None:
    """Return a hash of the settings and of the network's and the pictures' files.

    None while one of the files is not there, as before data are drawn.
    """
    try:
        files = [badnet_path(setting.dataset, setting.badnet.path)]
        files += [setting.dataset.files[name] for name in SETS]
        return _hash([settings_id(params), *(digest(path, cache) for path in files)])
    except (OSError, ValueError):
        return None


def digest(path: Path, cache: Cache) -> str:
    """Return the file's SHA-256, read again only when its size or time of change differs."""
    state = path.stat()
    return cache(
        "sha256", (str(path.resolve()), state.st_size, state.st_mtime_ns), lambda: sha256(path)
    )


def _hash(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
