"""What is begun while this process loads MLflow and TensorFlow, which keeps one core busy."""

import threading
from contextlib import suppress
from pathlib import Path

from backdoor.cache import LARGE_FILE
from backdoor.networks.sandbox import SANDBOX
from backdoor.pictures.readers import files_behind
from experiments.launch.data import badnet_path, made_here
from experiments.launch.settings import Settings


def open_ahead(settings: Settings) -> None:
    """Have the process that opens strangers' networks load Keras, and open this one."""
    path = badnet_path(settings)
    if not (settings.badnet.trust or made_here(path, settings)):
        SANDBOX.start(path, settings.badnet.limits)


def hash_ahead(settings: Settings) -> None:
    """Have a thread take the SHA-256 of the network and of large files of pictures.

    Of small files it would ask for Python's lock all the time. Whoever asks the cache for one that
    is being taken waits until it is there. The thread ends with the process.
    """
    threading.Thread(target=_hash, args=(settings,), name="hash", daemon=True).start()


def _hash(settings: Settings) -> None:
    with suppress(Exception):  # whatever is wrong, who needs the files will say
        sets = [path for path in settings.dataset.files.values() if path and _is_large(path)]
        for paths in (*map(files_behind, sets), [badnet_path(settings)]):
            settings.kept.digest(*paths)


def _is_large(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > LARGE_FILE
