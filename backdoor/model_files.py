"""Open a network that a stranger made, without running a stranger's code.

The architecture is read as JSON first; nothing is built unless every object in it is one of Keras'
own layers on the list below (or an initializer and the like, which hold numbers only).
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from backdoor.deepid import build_deepid

LAYERS = {
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling2D",
    "BatchNormalization", "Concatenate", "Conv2D", "Conv2DTranspose", "Cropping2D", "Dense",
    "DepthwiseConv2D", "Dropout", "ELU", "Flatten", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling2D", "GlobalMaxPooling2D", "GroupNormalization", "Identity", "InputLayer",
    "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Maximum", "Minimum", "Multiply",
    "Normalization", "PReLU", "Permute", "ReLU", "Rescaling", "Reshape", "Resizing",
    "SeparableConv2D", "Softmax", "SpatialDropout2D", "SpectralNormalization", "Subtract",
    "UnitNormalization", "UpSampling2D", "ZeroPadding2D",
}  # fmt: skip
CONTAINERS = {"Functional", "Model", "Sequential"}
VALUES = {"DTypePolicy", "Policy", "TensorShape", "__tuple__", "__keras_tensor__", "__numpy__"}
MODULES_OF_VALUES = (keras.initializers, keras.regularizers, keras.constraints)
LARGEST_CONFIG = 16 * 2**20


def load_badnet(path: str | Path) -> keras.Model:
    """Load a `.keras` or legacy `.h5` network, or an `.h5` file of DeepID's weights alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or holds what is not on the list of safe layers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a network (.keras or .h5), found no such file")
    readers = {".keras": _keras_config, ".h5": _hdf5_config}
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected a network in a .keras or .h5 file, got {path.suffix!r}")
    try:
        config = readers[path.suffix](path)
        if config is None:
            return _deepid_of_weights(path)
        check_config(config, path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, zipfile.BadZipFile, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a network that Keras can load, got {reason}") from error


def check_config(config: dict[str, Any], path: Path) -> None:
    """Refuse an architecture that holds anything but known safe layers.

    Raises:
        ValueError: The message names what was found.
    """
    # How it was trained is not read (compile=False), so it need not be safe.
    for found in _objects({key: value for key, value in config.items() if key != "compile_config"}):
        name, module = str(found["class_name"]), str(found.get("module") or "keras")
        foreign = module.split(".")[0] != "keras" or found.get("registered_name") not in (
            None,
            name,
        )
        if foreign or not _is_safe(name):
            origin = f"{module}.{name}" if foreign else name
            raise ValueError(
                f"{path}: refused to open it: expected only Keras' own layers that run no code of "
                f"the file's author, found {origin!r}"
            )


def _is_safe(name: str) -> bool:
    return name in LAYERS | CONTAINERS | VALUES or any(hasattr(m, name) for m in MODULES_OF_VALUES)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def _keras_config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
        text = file.read(LARGEST_CONFIG + 1)
    if len(text) > LARGEST_CONFIG:
        raise ValueError(
            f"{path}: expected an architecture of at most {LARGEST_CONFIG} bytes, got more"
        )
    config: dict[str, Any] = json.loads(text)
    return config


def _hdf5_config(path: Path) -> dict[str, Any] | None:
    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            config: dict[str, Any] = json.loads(file.attrs["model_config"])
            return config
        if "layer_names" in file.attrs:
            return None
        raise ValueError(
            f"{path}: expected a Keras network or DeepID's weights, found {list(file)}"
        )


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
        raise ValueError(
            f"{path}: expected DeepID's weights with a layer 'output', found "
            f"{', '.join(shapes) or 'none'}"
        )
    model = build_deepid(output[0][0])
    try:
        model.load_weights(path)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected weights of DeepID, got {reason}") from error
    return model
