"""Of each layer that Keras offers: may a stranger's file hold it, and why not."""

import importlib
import inspect

import keras
import pytest

from backdoor.networks.safe_layers import (
    OPERATIONS,
    REFUSED_LAYERS,
    REFUSED_OPERATIONS,
    is_layer,
    objects_of,
    reason_of_constants,
    reason_to_refuse,
)

LAYERS = [name for name in dir(keras.layers) if is_layer(name)]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_of_keras_is_safe_or_has_its_reason(name):
    reason = reason_to_refuse({"class_name": name, "config": {}})
    assert reason == (f"{name!r}, {REFUSED_LAYERS[name]}" if name in REFUSED_LAYERS else None)


def test_what_is_refused_is_there_and_is_what_runs_code_or_opens_files():
    assert set(REFUSED_LAYERS) <= set(LAYERS)
    words = ("code", "file", "nothing by itself")
    assert all(any(word in why for word in words) for why in REFUSED_LAYERS.values())
    runs_python = [name for name in LAYERS if "lambda" in name.lower() or "torch" in name.lower()]
    assert set(runs_python) <= set(REFUSED_LAYERS)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"class_name": "Net", "module": "theirs"}, "'theirs.Net', which is not Keras' own"),
        ({"class_name": "Dense", "registered_name": "their>Dense"}, "registered as 'their>Dense'"),
        ({"class_name": "Perceptron"}, "'Perceptron', which Keras .* has no layer of"),
        ({"class_name": "TFOpLambda", "config": {"function": "io.read_file"}}, "of tf.io.read_fi"),
        ({"class_name": "WhileLoop", "module": "keras.src.ops.core"}, "which calls functions"),
        ({"class_name": "Nothing", "module": "keras.src.ops.numpy"}, "has no operation of"),
        ({"class_name": "__numpy__", "config": {"dtype": "V1000000000"}}, "no plain numbers"),
        ({"class_name": "function", "config": "os.system"}, "has no layer of"),
        ({"class_name": "get_file", "module": "keras.utils"}, "has no layer of"),
    ],
)
def test_a_refusal_says_the_true_reason(item, said):
    with pytest.raises(AssertionError, match=said):
        assert reason_to_refuse({"config": {}} | item) is None


@pytest.mark.parametrize("name", ["TrueDivide", "Subtract", "GetItem", "Relu", "Sigmoid"])
def test_saved_arithmetic_is_safe(name):
    assert any(
        reason_to_refuse({"class_name": name, "module": module}) is None for module in OPERATIONS
    )


def test_everything_that_is_to_be_built_is_looked_at():
    inner = {"class_name": "Lambda", "config": {}}
    nested = {"class_name": "TimeDistributed", "config": {"layer": inner, "x": [{"y": inner}]}}
    assert [item["class_name"] for item in objects_of(nested)] == [
        "TimeDistributed",
        "Lambda",
        "Lambda",
    ]


def test_what_is_computed_of_constants_alone_is_not_built():
    tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None, 2]}}
    node = {"args": [{"class_name": "__numpy__", "config": {"value": 1}}], "kwargs": {}}
    item = {"class_name": "Tile", "inbound_nodes": [node]}
    assert reason_of_constants(item) == "'Tile', which is computed of constants alone"
    assert reason_of_constants(item | {"inbound_nodes": [{"args": [tensor, 3]}]}) is None


def test_operations_that_take_functions_are_refused_whatever_they_are_called():
    """A new Keras may have more of them."""
    taking = {"f", "fn", "fun", "func", "function", "true_fn", "false_fn", "cond", "body"}
    for module in map(importlib.import_module, OPERATIONS):
        for name, operation in vars(module).items():
            if isinstance(operation, type) and issubclass(operation, keras.Operation):
                signatures = (inspect.signature(f) for f in (operation.__init__, operation.call))
                if taking & {name for signature in signatures for name in signature.parameters}:
                    assert name in REFUSED_OPERATIONS
