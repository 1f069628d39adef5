"""What Keras 2, and Keras 3 in `.h5`, wrote and Keras 3 does not read, translated by name.

Nothing here changes what a network computes: an argument is dropped only where its value is the one
that Keras 3 takes for granted.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from backdoor.networks.safe_layers import CONTAINERS, OPERATIONS, is_layer, operation_module

ANYTHING = object()
# Of layers that no longer take it, an argument, and the value with which it says nothing.
DROPPED: dict[str, object] = {
    "groups": 1,
    "time_major": False,
    "ragged": False,
    "sparse": False,
    "rng_type": ANYTHING,
    "batch_input_shape": ANYTHING,
    "input_dim": ANYTHING,
    "input_length": ANYTHING,
    "implementation": ANYTHING,
    "fused": ANYTHING,
    "renorm": False,
    "virtual_batch_size": None,
    "kernel_initializer": ANYTHING,
    "kernel_regularizer": ANYTHING,
    "kernel_constraint": ANYTHING,
}
# TensorFlow functions that Keras 2 saved as layers, as scale and offset of a Rescaling.
ARITHMETIC: dict[str, Callable[[float], tuple[float, float]]] = {
    "math.truediv": lambda y: (1 / y, 0),
    "math.divide": lambda y: (1 / y, 0),
    "__operators__.truediv": lambda y: (1 / y, 0),
    "math.multiply": lambda y: (y, 0),
    "__operators__.mul": lambda y: (y, 0),
    "math.subtract": lambda y: (1, -y),
    "__operators__.sub": lambda y: (1, -y),
    "math.add": lambda y: (1, y),
    "__operators__.add": lambda y: (1, y),
}


def translated(node: Any) -> Any:
    """Return an architecture as Keras 3 reads it; one of Keras 3 comes back equal."""
    if isinstance(node, list):
        return [translated(item) for item in node]
    if not isinstance(node, dict):
        return node
    item = {key: translated(value) for key, value in node.items()}
    if item.get("class_name") == "TFOpLambda":
        return _arithmetic(item)
    if "class_name" in item and isinstance(item.get("config"), dict):
        return _item(item)
    return item


def _item(item: dict[str, Any]) -> dict[str, Any]:
    name, config = str(item["class_name"]), dict(item["config"])
    module = str(item.get("module", ""))
    if module.startswith(("keras.", "tf_keras.")) and module not in OPERATIONS:
        if name in CONTAINERS - {"Sequential"}:
            item = item | {"module": "keras.src.models.functional"}
        elif is_layer(name):
            item = item | {"module": "keras.layers"}
    elif not module and "inbound_nodes" in item and "trainable" not in config:
        origin = operation_module(name)  # of an operation, which has no such argument
        if origin:
            item = item | {"module": origin, "registered_name": name}
    if hasattr(keras.initializers, name):
        config.pop("dtype", None)
    if name in CONTAINERS - {"Sequential"} and _is_of_keras_2(config):
        # Keras 3 takes a list of one for a list, which no layer behind it wants.
        ends = {key: _single(config[key]) for key in ("input_layers", "output_layers")}
        config = _renumbered(config | ends)
    elif is_layer(name):
        config = _arguments(name, config)
    return item | {"config": config}


def _arguments(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's arguments without those that are gone and say nothing."""
    if name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    taken = _parameters(getattr(keras.layers, name))
    for key, nothing in DROPPED.items():
        if key in config and key not in taken and nothing in (ANYTHING, config[key]):
            del config[key]
    axis = config.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    return config


def _parameters(layer: type) -> set[str]:
    return {name for kind in layer.__mro__[:-1] for name in inspect.signature(kind).parameters}


def _is_of_keras_2(config: dict[str, Any]) -> bool:
    """Tell by the connections, which are lists in Keras 2 and arguments in Keras 3."""
    layers = [layer for layer in config.get("layers", []) if isinstance(layer, dict)]
    nodes = [node for layer in layers for node in layer.get("inbound_nodes", [])]
    return any(isinstance(node, list) for node in nodes) and "output_layers" in config


def _single(ends: Any) -> Any:
    """Return the one end of a network by itself."""
    if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
        return ends[0]
    return ends


def _renumbered(config: dict[str, Any]) -> dict[str, Any]:
    """Return connections in which a nested network's first use is its number 0, not 1.

    Keras 2 counts what a network was built with as a use, Keras 3 does not.
    """
    nested = {
        layer["name"]: len(layer["inbound_nodes"])
        for layer in config["layers"]
        if layer["class_name"] in CONTAINERS
    }
    ends = [layer["inbound_nodes"] for layer in config["layers"]] + [config["output_layers"]]
    uses = [use for use in _uses(ends) if use[0] in nested]
    shifted = {use[0] for use in uses if use[1] >= nested[use[0]]}
    for use in uses:
        use[1] -= use[0] in shifted
    return config


def _uses(node: Any) -> Iterator[list[Any]]:
    """Yield each `[layer, use, tensor, ...]` in a network's connections."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _uses(value)
    elif isinstance(node, list):
        if len(node) > 2 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node
        for value in node:
            yield from _uses(value)


def _arithmetic(item: dict[str, Any]) -> dict[str, Any]:
    """Return a function of a tensor and a number as a layer; of anything else, as it was."""
    try:
        ((source, node, tensor, given),) = item["inbound_nodes"]
        scale, offset = ARITHMETIC[item["config"]["function"]](given["y"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return item
    name = item["config"]["name"]
    return {
        "class_name": "Rescaling",
        "config": {"name": name, "scale": scale, "offset": offset},
        "name": name,
        "inbound_nodes": [[[source, node, tensor, {}]]],
    }
