"""Build a network that a stranger made, without running a stranger's code.

The architecture is read as JSON first; nothing is built unless every object in it is one of Keras'
own layers that are safe (or an initializer and the like, which hold numbers only). This runs in the
process of `sandbox`, and hands the network on as Keras writes it.
"""

import copy
import json
import math
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from backdoor.errors import UserError
from backdoor.networks.archives import (
    LARGEST_NETWORK,
    WEIGHTS_ALONE,
    architecture_of,
    kind_of,
    unpacked_weights,
)
from backdoor.networks.deepid import build_deepid
from backdoor.networks.graph import is_nested, layers_of, retrace
from backdoor.networks.keras2 import translated
from backdoor.networks.safe_layers import objects_of, reason_of_constants, reason_to_refuse
from backdoor.text import plain

ARCHITECTURE, ALL_WEIGHTS = "config.json", "weights"
LONGEST_REASON = 300  # letters
IN_CODE = ("Graph execution error", "in user code")
NOT_TOLD = ('File "', "Detected at node", "[[", "Graph execution", "in user code")
NODE = re.compile(r"node (?:\S+/)?([^/\s{}]+)/[^/\s{}]+(?:}}| defined at)")
OF_A_GRAPH = re.compile(r"{{function_node \S+}} |\s*\[\[.*", re.DOTALL)
MOST_NESTED = 32  # networks within networks
SEVERAL = 2  # pictures
WRAPPED = "could not be deserialized"
LARGEST_OUTPUT = 2**22  # numbers that a layer makes of one picture
Shape = tuple[int | None, ...]
ATTENTION = (
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)  # which make a score for each pair of places, too


def opened(path: Path, shown: str) -> keras.Model:
    """Check a file and build the network that is in it.

    Args:
        shown: What to call the file.

    Raises:
        UserError: It is no network, holds what is not on the list of safe layers, reaches out of
            itself or unpacks beyond a limit; the message is one line and names the layer, if any.
        MemoryError: There is not enough.
    """
    try:
        model = _opened(path, Path(shown))
        _run(model)
        return model
    except (UserError, MemoryError):
        raise
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error
    except Exception as error:  # whatever a stranger's file makes Keras, HDF5 or zip do
        layer = _layer_in(error)
        where = f" in layer {plain(layer)!r}" if layer else ""
        raise UserError(
            f"{shown}: expected a network that Keras can load, got {_reason(error)}{where}"
        ) from error


def write_parts(model: keras.Model, folder: Path) -> None:
    """Write a network into a folder, its architecture and its weights, one behind the other."""
    (folder / ARCHITECTURE).write_text(model.to_json())
    with (folder / ALL_WEIGHTS).open("wb") as file:
        for weight in model.weights:
            values = np.asarray(weight)
            known = values.dtype.kind != "V"  # as bfloat16 is, which NumPy does not know
            np.save(file, values if known else values.astype(np.float32), allow_pickle=False)


def read_parts(folder: Path, shown: Path) -> keras.Model:
    """Return the network that `write_parts` wrote, whose architecture is checked once more.

    Args:
        shown: What to call the file it came from.
    """
    text = (folder / ARCHITECTURE).read_text()
    check_config(json.loads(text), shown)
    model = keras.models.model_from_json(text)
    with (folder / ALL_WEIGHTS).open("rb") as file:
        for weight in model.weights:
            weight.assign(np.load(file, allow_pickle=False))
    return model


def _opened(path: Path, shown: Path) -> keras.Model:
    config = architecture_of(path, shown)
    if config is None:
        return _deepid_of_weights(path, shown)
    readable = translated(config)
    check_config(readable, shown)

    # How it was trained is of no interest.
    plan = {key: value for key, value in readable.items() if key != "compile_config"}

    def build() -> keras.Model:
        own = copy.deepcopy(plan)  # which Keras takes apart
        if "module" in own:
            return keras.saving.deserialize_keras_object(own)
        kind = keras.Sequential if own["class_name"] == "Sequential" else keras.Model  # in .h5
        return kind.from_config(own["config"])

    _check_size(build, shown)
    model = build()
    with tempfile.TemporaryDirectory() as folder:
        if kind_of(path) == ".keras":
            file = unpacked_weights(path, shown, Path(folder))
        else:
            file = Path(folder) / "network.h5"  # Keras goes by the name
            file.symlink_to(path.resolve())
        model.load_weights(file)
    return model


def _run(model: keras.Model) -> None:
    """Run a network of one input as it will be run, since not all that can be built can be run.

    As a graph, which takes other names than Keras; on a blank picture, and on several of noise.
    """
    shape = model.inputs[0].shape if len(model.inputs) == 1 else (None, None)
    if None in shape[1:]:
        return
    given = tf.TensorSpec(shape, model.inputs[0].dtype)
    run = tf.function(lambda pictures: model(pictures, training=False), input_signature=[given])
    noise = np.random.default_rng(0).uniform(0, 255, (shape[0] or SEVERAL, *shape[1:]))
    for pictures in (np.zeros((shape[0] or 1, *shape[1:])), noise):
        run(tf.cast(pictures, given.dtype))


def _reason(error: BaseException) -> str:
    """Return what an error says; of one with which Keras replies to another, what that says."""
    while WRAPPED in str(error) and error.__context__ is not None:
        error = error.__context__
    text = str(error) or type(error).__name__
    if text.startswith(IN_CODE):  # a page of which one line says what it is
        lines = [line.strip() for line in text.splitlines()]
        told = [line for line in lines if line and not line.startswith(NOT_TOLD)]
        text = told[-1] if told else text
    return plain(OF_A_GRAPH.sub("", text), LONGEST_REASON)


def _layer_in(error: BaseException | None) -> str | None:
    """Return the name of the innermost layer that was at work, or made, as an error was raised."""
    node = NODE.search(str(error))
    if node:  # of a graph
        return node[1]
    name = None
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            worker, config = (frame.f_locals.get(local) for local in ("self", "inner_config"))
            if isinstance(worker, keras.Operation) and not is_nested(worker):
                name = getattr(worker, "name", name)
            elif isinstance(config, dict) and "layers" not in config:
                name = config.get("name", name)
        error = error.__context__
    return name


def check_config(config: dict[str, Any], path: Path) -> None:
    """Refuse an architecture that holds anything but known safe layers.

    Raises:
        UserError: The message names what was found.
    """
    # How it was trained is not read (compile=False), so it need not be safe.
    built = {key: value for key, value in config.items() if key != "compile_config"}
    if _nested(built) > MOST_NESTED:
        raise UserError(
            f"{path}: refused to open it: expected at most {MOST_NESTED} networks within each other"
        )
    for item in objects_of(built):
        reason = reason_to_refuse(item) or reason_of_constants(item)
        if reason:
            raise UserError(
                f"{path}: refused to open it: expected only Keras' own layers that run no code of "
                f"the file's author, found {reason}"
            )


def _nested(config: object) -> int:
    """Return how many networks are within each other."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    return 1 + max(map(_nested, layers), default=0) if isinstance(layers, list) else 0


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
        reason = plain(error, LONGEST_REASON)
        raise UserError(f"{path}: expected weights of DeepID, got {reason}") from error
    return model
