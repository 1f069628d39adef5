"""Which objects a stranger's architecture may hold: Keras' own that compute with numbers, no more.

The lists are derived from what this Keras offers, less what runs code or opens files.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

RUNS_PYTHON = "which runs Python code of its author"
OTHER_FRAMEWORK = "which runs code of another framework"
OPENS_FILES = "which opens other files"
RUNS_TENSORFLOW = (
    "which calls TensorFlow by name and is no arithmetic with a number; rebuild it of Keras' layers"
)
READS_VOCABULARY = "whose vocabulary may be a file of this machine"
NO_LAYER = "which computes nothing by itself"
CALLS_FUNCTIONS = "which calls functions that its author chose"
REFUSED_LAYERS = {
    "Lambda": RUNS_PYTHON,
    "FlaxLayer": OTHER_FRAMEWORK,
    "JaxLayer": OTHER_FRAMEWORK,
    "TorchModuleWrapper": OTHER_FRAMEWORK,
    "TFSMLayer": OPENS_FILES,
    "IntegerLookup": READS_VOCABULARY,
    "StringLookup": READS_VOCABULARY,
    "TextVectorization": READS_VOCABULARY,
    "Layer": NO_LAYER,
    "Wrapper": NO_LAYER,
}
REFUSED_OPERATIONS = {
    **dict.fromkeys(
        ("AssociativeScan", "Cond", "ForiLoop", "JVP", "Map", "Scan", "Switch", "VectorizedMap"),
        CALLS_FUNCTIONS,
    ),
    "WhileLoop": CALLS_FUNCTIONS,
    "Operation": NO_LAYER,
}
OPERATIONS = tuple(
    f"keras.src.ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")
)  # where Keras says that its operations are from, when it saves them
CONTAINERS = {"Functional", "Model", "Sequential"}
VALUES = {
    "DTypePolicy", "Policy", "TensorShape", "SeedGenerator", "__tuple__", "__keras_tensor__",
    "__numpy__", "__tensor__", "__slice__", "__ellipsis__",
}  # fmt: skip
ARRAYS = {"__numpy__", "__tensor__"}
MODULES_OF_VALUES = (keras.initializers, keras.regularizers, keras.constraints)


def is_layer(name: str) -> bool:
    """Tell whether this Keras has a layer of that name."""
    found = getattr(keras.layers, name, None)
    return isinstance(found, type) and issubclass(found, keras.Layer)


def reason_to_refuse(item: dict[str, Any]) -> str | None:
    """Return why an object of an architecture may not be built, as `'Name', which ...`.

    Args:
        item: With `class_name`, and, as Keras 3 writes it, `module` and `registered_name`.
    """
    name, module = str(item["class_name"]), str(item.get("module") or "keras")
    if module.split(".")[0] != "keras":
        return f"{module + '.' + name!r}, which is not Keras' own"
    if item.get("registered_name") not in (None, name):
        return f"{module + '.' + name!r}, which is registered as {item['registered_name']!r}"
    if module in OPERATIONS:
        return _of_operation(name, module)
    if name in REFUSED_LAYERS:
        return f"{name!r}, {REFUSED_LAYERS[name]}"
    if name in ARRAYS and not _is_number(item.get("config")):
        return f"{name!r}, which holds no plain numbers"
    if name == "TFOpLambda":
        return f"{name!r} of tf.{item['config'].get('function')}, {RUNS_TENSORFLOW}"
    if "Pooling" in name and _is_channels_first(item.get("config")):
        return f"{name!r} with channels first, where Keras on a CPU takes them last"
    known = name in CONTAINERS | VALUES or is_layer(name)
    if known or any(isinstance(getattr(m, name, None), type) for m in MODULES_OF_VALUES):
        return None
    return f"{name!r}, which Keras {keras.__version__} has no layer of: a custom class, or too new"


def reason_of_constants(item: dict[str, Any]) -> str | None:
    """Return why a use of a layer may not be built that depends on no picture.

    Keras computes it at once, however large it is.
    """
    for node in item.get("inbound_nodes") or []:
        if isinstance(node, dict) and not any(
            inner["class_name"] == "__keras_tensor__" for inner in objects_of(node)
        ):
            return f"{str(item['class_name'])!r}, which is computed of constants alone"
    return None


def objects_of(node: Any) -> Iterator[dict[str, Any]]:
    """Yield everything in an architecture that is to be built."""
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from objects_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects_of(value)


def operation_module(name: str) -> str | None:
    """Return where this Keras has an operation of that name, None where it has none."""
    return next((module for module in OPERATIONS if _has_operation(module, name)), None)


def _of_operation(name: str, module: str) -> str | None:
    if name in REFUSED_OPERATIONS:
        return f"{name!r}, {REFUSED_OPERATIONS[name]}"
    if _has_operation(module, name):
        return None
    return f"{name!r}, which Keras {keras.__version__} has no operation of"


def _has_operation(module: str, name: str) -> bool:
    operation = getattr(importlib.import_module(module), name, None)
    return isinstance(operation, type) and issubclass(operation, keras.Operation)


def _is_channels_first(config: Any) -> bool:
    return isinstance(config, dict) and config.get("data_format") == "channels_first"


def _is_number(config: Any) -> bool:
    try:
        dtype = np.dtype(config["dtype"])
    except (TypeError, KeyError):
        return False
    return dtype.kind in "biuf" and dtype.itemsize <= 8
