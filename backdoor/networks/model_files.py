"""Open a network that a stranger made, without running a stranger's code.

The architecture is read as JSON first; nothing is built unless every object in it is one of Keras'
own layers that are safe (or an initializer and the like, which hold numbers only).
"""

import copy
import logging
import math
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from backdoor.errors import UserError
from backdoor.networks.archives import LARGEST_NETWORK, WEIGHTS_ALONE, architecture_of, kind_of
from backdoor.networks.deepid import build_deepid
from backdoor.networks.graph import is_nested, layers_of, retrace
from backdoor.networks.keras2 import translated
from backdoor.networks.safe_layers import objects_of, reason_of_constants, reason_to_refuse

log = logging.getLogger(__name__)

UNREADABLE = (
    ValueError, OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, AttributeError,
    RuntimeError, RecursionError, NotImplementedError, EOFError,
)  # fmt: skip
LONGEST_REASON = 300  # letters
LARGEST_OUTPUT = 2**22  # numbers that a layer makes of one picture
Shape = tuple[int | None, ...]
ATTENTION = (
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)  # which make a score for each pair of places, too


def load_badnet(path: str | Path, trust: bool = False) -> keras.Model:
    """Load a network that Keras 2 or 3 has saved, or an HDF5 file of DeepID's weights alone.

    Args:
        trust: Check nothing and run what code the file holds; for one's own files alone.

    Raises:
        UserError: There is no such file, or it is no network, holds what is not on the list of safe
            layers, reaches out of itself or unpacks beyond a limit.
    """
    path = Path(path)
    suffix = kind_of(path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"network{suffix}"  # Keras goes by the name
            file.symlink_to(path.resolve())
            if not trust:
                return _load(path, file)
            log.warning("%s: trusted by badnet.trust=true; whatever code it holds is run", path)
            return keras.models.load_model(file, compile=False, safe_mode=False)
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise UserError(f"{path}: expected a network that Keras can load, got {reason}") from error


def _load(path: Path, file: Path) -> keras.Model:
    """Load `file`, after checking it; `path` is what to call it."""
    config = architecture_of(path)
    if config is None:
        return _deepid_of_weights(file, path)
    readable = translated(config)
    check_config(readable, path)
    kind = keras.Sequential if readable["class_name"] == "Sequential" else keras.Model

    def build() -> keras.Model:
        return kind.from_config(copy.deepcopy(readable["config"]))  # Keras takes it apart

    _check_size(build, path)
    if readable == config:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    model = build()
    model.load_weights(file)
    return model


def check_config(config: dict[str, Any], path: Path) -> None:
    """Refuse an architecture that holds anything but known safe layers.

    Raises:
        UserError: The message names what was found.
    """
    # How it was trained is not read (compile=False), so it need not be safe.
    built = {key: value for key, value in config.items() if key != "compile_config"}
    for item in objects_of(built):
        reason = reason_to_refuse(item) or reason_of_constants(item)
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
    for name, shape in _shapes(planned):
        if None in shape or math.prod(filter(None, shape)) > LARGEST_OUTPUT:
            raise UserError(
                f"{path}: refused to open it: expected layers of a known size of at most "
                f"{LARGEST_OUTPUT} numbers a picture, found {shape} in {name!r}"
            )


def _shapes(planned: keras.Model) -> Iterator[tuple[str, Shape]]:
    """Yield the shapes of what each layer and operation makes of a picture."""
    shapes: list[tuple[str, Shape]] = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if is_nested(layer) and len(layer.inputs) == len(layer.outputs) == 1:
            return retrace(layer, args[0], call)
        output = layer(*args, **kwargs)
        tensors = keras.tree.flatten(output)
        shapes.extend((layer.name, tuple(tensor.shape)[1:]) for tensor in tensors)
        if isinstance(layer, ATTENTION):
            heads = getattr(layer, "num_heads", getattr(layer, "num_query_heads", 1))
            places = tuple(tensors[0].shape)[1:-1]
            shapes.append((layer.name, (heads, *places, *places)))
        return output

    if len(planned.inputs) == len(planned.outputs) == 1:
        retrace(planned, keras.Input(planned.inputs[0].shape[1:]), call)
    yield from shapes
    for name, layer in layers_of(planned):
        inner = getattr(layer, "layer", None)  # of a wrapper, which runs it at each step
        for inside, shape in _shapes(inner) if isinstance(inner, keras.Model) else ():
            yield f"{name}/{inside}", (layer.output.shape[1], *shape)


def _deepid_of_weights(file: Path, path: Path) -> keras.Model:
    with h5py.File(file, "r") as content:
        shapes: dict[str, tuple[int, ...]] = {}
        content.visititems(
            lambda name, item: (
                shapes.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
            )
        )
    output = [
        shape for name, shape in shapes.items() if name.startswith("output/") and len(shape) == 1
    ]
    if len(output) != 1:
        raise UserError(
            f"{path}: {WEIGHTS_ALONE}; of DeepID's weights alone the architecture is known, but "
            f"expected a layer 'output', found {', '.join(shapes)[:LONGEST_REASON] or 'none'}"
        )
    _check_size(lambda: build_deepid(output[0][0]), path)
    model = build_deepid(output[0][0])
    try:
        model.load_weights(file)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected weights of DeepID, got {reason}") from error
    return model
