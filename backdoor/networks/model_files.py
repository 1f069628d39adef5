"""Open a network that a stranger made: in a process of its own, within limits, checked."""

import logging
import tempfile
from pathlib import Path

import keras

from backdoor.networks.archives import kind_of
from backdoor.networks.opening import opened, read_parts
from backdoor.networks.sandbox import SANDBOX, Limits

log = logging.getLogger(__name__)


def load_badnet(
    path: str | Path,
    trust: bool = False,
    limits: Limits | None = Limits(),  # noqa: B008, it is frozen
) -> keras.Model:
    """Load a network that Keras 2 or 3 has saved, or an HDF5 file of DeepID's weights alone.

    Args:
        trust: Check nothing and run what code the file holds; for one's own files alone.
        limits: What opening it may take; None opens it in this process, with all checks, as what
            was made here.

    Raises:
        UserError: There is no such file, or it is no network, holds what is not on the list of safe
            layers, reaches out of itself or beyond a limit.
    """
    path = Path(path)
    suffix = kind_of(path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not trust:
            if limits is None:
                return opened(path, str(path))
            SANDBOX.open(path, folder, limits)
            return read_parts(folder, path)
        log.warning("%s: trusted by badnet.trust=true; whatever code it holds is run", path)
        file = folder / f"network{suffix}"  # Keras goes by the name
        file.symlink_to(path.resolve())
        return keras.models.load_model(file, compile=False, safe_mode=False)
