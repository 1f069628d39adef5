"""Mistakes that can be seen before MLflow and TensorFlow are started, which takes seconds."""

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backdoor.errors import UserError
from backdoor.networks.archives import architecture_of
from backdoor.pictures.test_bed import POISONED_VALID
from backdoor.pruning.orders import check_order, check_rank_at, is_oracle
from backdoor.pruning.stop import check_stop, check_threshold
from experiments.launch.data import badnet_path
from experiments.launch.settings import RunSettings, Settings

log = logging.getLogger(__name__)

SMALL = 1  # percentage points: who writes 0.02 may mean 2 of a hundred
PACKAGES = {"tflite": (), "onnx": ("tf2onnx", "onnxruntime")}  # that exports need


def check_run(settings: RunSettings) -> None:
    """Refuse a wrong order, threshold, path or layer.

    Raises:
        UserError: The message says what is wrong.
    """
    check_order(settings.order)
    check_rank_at(settings.order, settings.rank_at)
    check_stop(settings.stop)
    _check_packages(settings.export)
    points = check_threshold(settings.threshold)
    if points < SMALL:
        log.warning(
            "threshold=%s is %s percentage points of accuracy; was threshold=%g meant?",
            settings.threshold,
            settings.threshold,
            100 * points,
        )
    if is_oracle(settings.order) and settings.dataset.files[POISONED_VALID] is None:
        raise UserError(
            f"order: expected poisoned pictures for the oracle {settings.order!r}, which looks at "
            f"them, got clean ones alone"
        )
    check_files(settings)


def check_files(settings: Settings) -> None:
    """Refuse a wrong path or layer, and a folder that cannot be written.

    Raises:
        UserError: The message says what is wrong.
    """
    _check_writable(Path(settings.cache))
    if settings.tracking.uri is None:  # else nothing is written to its folder
        _check_writable(Path(settings.tracking.folder))
    data = settings.dataset
    if data.draw and data.draw.root and not Path(data.draw.root).exists():
        raise UserError(
            f"dataset.root: expected {data.name} in {data.draw.root}, found no such path"
        )
    made = Path(data.made) if data.draw and data.made else None
    for file in data.files.values():
        if file is not None and not file.exists() and (made is None or made not in file.parents):
            raise UserError(
                f"{file}: expected an HDF5 file of pictures, .npz, .npy, a .csv or a folder, found "
                f"no such file"
            )
    path = badnet_path(settings)
    if made is None or made not in path.parents or path.exists():
        _check_network(path, settings)


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: expected to read and write there, got no right to, in {there}")


def _check_packages(exports: Sequence[str]) -> None:
    for kind in exports:
        missing = [name for name in PACKAGES[kind] if not importlib.util.find_spec(name)]
        if missing:
            raise UserError(
                f"export: expected {', '.join(missing)} to be installed for {kind}, found it not; "
                f"pip install '.[export]' brings it"
            )


def _check_network(path: Path, settings: Settings) -> None:
    try:
        config = None if settings.badnet.trust else architecture_of(path, path)
    except UserError:
        raise
    except Exception:
        return  # whatever it is, the run itself says it, in a process that it may hang or kill
    if config is None or settings.layer == "auto":
        return
    layers = dict(_layers(config))
    if settings.layer not in layers:
        poolings = [name for name, kind in layers.items() if "Pool" in kind]
        raise UserError(
            f"layer: no layer {settings.layer!r} to cut at in {path}; the pooling layers there "
            f"are: {', '.join(poolings) or 'none'}"
        )


def _layers(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and class of each layer of an architecture."""
    inside = config.get("config")
    for layer in inside.get("layers", []) if isinstance(inside, dict) else []:
        named = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(named, dict) and "name" in named:
            path = f"{prefix}{named['name']}"
            yield path, str(layer.get("class_name"))
            yield from _layers(layer, f"{path}/")
