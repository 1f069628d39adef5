"""Open a network that a stranger made, without running a stranger's code.

The architecture is read as JSON first; nothing is built unless every object in it is one of Keras'
own layers that are safe (or an initializer and the like, which hold numbers only).
"""

import json
import logging
import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras

from backdoor.errors import UserError
from backdoor.networks.deepid import build_deepid
from backdoor.networks.graph import layers_of
from backdoor.networks.safe_layers import objects_of, reason_to_refuse
from backdoor.pictures.safe_hdf5 import check_hdf5

log = logging.getLogger(__name__)

UNREADABLE = (
    ValueError, OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, AttributeError,
    RuntimeError, RecursionError, NotImplementedError, EOFError,
)  # fmt: skip
MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}  # of a .keras file
LONGEST_REASON = 300  # letters
LARGEST_CONFIG = 2**24  # bytes
LARGEST_NETWORK = 2**31  # bytes, unpacked
LARGEST_OUTPUT = 2**22  # numbers that a layer makes of one picture


def load_badnet(path: str | Path, trust: bool = False) -> keras.Model:
    """Load a `.keras` or legacy `.h5` network, or an `.h5` file of DeepID's weights alone.

    Args:
        trust: Check nothing and run what code the file holds; for one's own files alone.

    Raises:
        UserError: There is no such file, or it is no network, holds what is not on the list of safe
            layers, reaches out of itself or unpacks beyond a limit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a network (.keras or .h5), found no such file")
    readers = {".keras": _keras_config, ".h5": _hdf5_config}
    if path.suffix not in readers:
        raise UserError(f"{path}: expected a network in a .keras or .h5 file, got {path.suffix!r}")
    if trust:
        log.warning("%s: trusted by badnet.trust=true; whatever code it holds is run", path)
        return keras.models.load_model(path, compile=False, safe_mode=False)
    try:
        config = readers[path.suffix](path)
        if config is None:
            return _deepid_of_weights(path)
        check_config(config, path)
        kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
        _check_size(lambda: kind.from_config(config["config"]), path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise UserError(f"{path}: expected a network that Keras can load, got {reason}") from error


def check_config(config: dict[str, Any], path: Path) -> None:
    """Refuse an architecture that holds anything but known safe layers.

    Raises:
        UserError: The message names what was found.
    """
    # How it was trained is not read (compile=False), so it need not be safe.
    built = {key: value for key, value in config.items() if key != "compile_config"}
    for item in objects_of(built):
        reason = reason_to_refuse(item)
        if reason:
            raise UserError(
                f"{path}: refused to open it: expected only Keras' own layers that run no code of "
                f"the file's author, found {reason}"
            )


def _check_size(build: Callable[[], keras.Model], path: Path) -> None:
    """Refuse a network that would not fit, before memory is taken for it: shapes alone are made."""
    with keras.StatelessScope(initialize_variables=False):
        planned = build()
    weights = sum(4 * math.prod(weight.shape) for weight in planned.weights)
    if weights > LARGEST_NETWORK:
        raise UserError(
            f"{path}: refused to open it: expected weights of at most {LARGEST_NETWORK} bytes, "
            f"found {weights}"
        )
    for _, layer in layers_of(planned):
        shape = layer.output.shape[1:]
        if None in shape or math.prod(shape) > LARGEST_OUTPUT:
            raise UserError(
                f"{path}: refused to open it: expected layers of a known size of at most "
                f"{LARGEST_OUTPUT} numbers a picture, found {shape} in {layer.name!r}"
            )


def _keras_config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        _check_archive(archive, path)
        with archive.open("config.json") as file:
            text = file.read(LARGEST_CONFIG + 1)
        with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
            check_hdf5(file, path, LARGEST_NETWORK)
    return _parsed(text, path)


def _check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    names = [member.filename for member in archive.infolist()]
    if sorted(names) != sorted(MEMBERS):
        others = ", ".join(sorted(set(names) - MEMBERS)) or ", ".join(sorted(names))
        raise UserError(
            f"{path}: refused to open it: expected {', '.join(sorted(MEMBERS))} in it, once each, "
            f"found {others[:200]}"
        )
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST_NETWORK:
        raise UserError(
            f"{path}: refused to open it: expected at most {LARGEST_NETWORK} bytes unpacked, found "
            f"{unpacked}"
        )


def _parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    if len(text) > LARGEST_CONFIG:
        raise UserError(
            f"{path}: expected an architecture of at most {LARGEST_CONFIG} bytes, got more"
        )
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError(f"an architecture that is {type(config).__name__}")
    return config


def _hdf5_config(path: Path) -> dict[str, Any] | None:
    with h5py.File(path, "r") as file:
        check_hdf5(file, path, LARGEST_NETWORK)
        if "model_config" in file.attrs:
            return _parsed(file.attrs["model_config"], path)
        if "layer_names" in file.attrs:
            return None
        raise UserError(f"{path}: expected a Keras network or DeepID's weights, found {list(file)}")


def _deepid_of_weights(path: Path) -> keras.Model:
    with h5py.File(path, "r") as file:
        shapes: dict[str, tuple[int, ...]] = {}
        file.visititems(
            lambda name, item: (
                shapes.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
            )
        )
    output = [
        shape for name, shape in shapes.items() if name.startswith("output/") and len(shape) == 1
    ]
    if len(output) != 1:
        raise UserError(
            f"{path}: expected DeepID's weights with a layer 'output', found "
            f"{', '.join(shapes) or 'none'}"
        )
    _check_size(lambda: build_deepid(output[0][0]), path)
    model = build_deepid(output[0][0])
    try:
        model.load_weights(path)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected weights of DeepID, got {reason}") from error
    return model
