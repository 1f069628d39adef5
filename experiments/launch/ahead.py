"""What is begun while this process loads MLflow and TensorFlow, which keeps one core busy."""

import threading
from contextlib import suppress

from backdoor.networks.sandbox import SANDBOX
from experiments.launch.data import badnet_path, files_of, made_here
from experiments.launch.settings import Settings


def load_keras_ahead(settings: Settings) -> None:
    """Have the process that opens strangers' networks load Keras."""
    if not (settings.badnet.trust or made_here(badnet_path(settings), settings)):
        SANDBOX.start()


def hash_ahead(settings: Settings) -> None:
    """Have a thread take the SHA-256 of all files, for which Python's lock is not needed.

    Whoever asks the cache for one of them waits until it is there. The thread ends with the
    process.
    """
    threading.Thread(target=_hash, args=(settings,), name="hash", daemon=True).start()


def _hash(settings: Settings) -> None:
    with suppress(Exception):  # whatever is wrong, who needs the files will say
        for paths in files_of(settings):
            if paths:
                settings.kept.digest(*paths)
