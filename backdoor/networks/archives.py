"""The architecture in a network's file, read as JSON: no Keras is needed, nothing is built.

What cannot be read, or reaches out of the file or beyond a limit, is refused here.
"""

import itertools
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from backdoor.errors import UserError
from backdoor.pictures.safe_hdf5 import check_hdf5
from backdoor.text import plain

WEIGHTS_ALONE = (
    "expected a whole network, found weights without their architecture; save the network with "
    "model.save('network.keras')"
)
WEIGHTS = "model.weights.h5"
MEMBERS = {"config.json", "metadata.json", WEIGHTS}  # of a .keras file
BLOCK = 2**20  # bytes
LARGEST_CONFIG = 2**24  # bytes
LARGEST_NETWORK = 2**31  # bytes, unpacked
TOO_LARGE = f"refused to open it: expected at most {LARGEST_NETWORK} bytes unpacked"
SUFFIXES = {".keras": ".keras", ".h5": ".h5", ".hdf5": ".h5"}
MAGIC = {b"PK\x03\x04": ".keras", b"\x89HDF\r\n\x1a\n": ".h5"}
MISTAKEN = {
    b"version https://git-lfs": (
        "a Git LFS pointer in place of the file; fetch it with git lfs pull"
    ),
    b"<!doctype html": "a web page; download the file itself (its raw address)",
    b"<html": "a web page; download the file itself (its raw address)",
}


def kind_of(path: Path) -> str:
    """Return how Keras calls files of this kind, `.keras` or `.h5`, by what is in it.

    Raises:
        UserError: It is something else; the message says what, and what to do.
    """
    if path.is_dir():
        what = "a SavedModel folder" if (path / "saved_model.pb").is_file() else "a folder"
        raise UserError(
            f"{path}: expected a network in a .keras or .h5 file, found {what}; load it with the "
            f"Keras that made it and save it with model.save('network.keras')"
        )
    if not path.is_file():
        raise UserError(f"{path}: expected a network (.keras or .h5), found no such file")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected a network in a .keras or .h5 file, got {path.suffix!r}")
    with path.open("rb") as file:
        beginning = file.read(512)
    for start, suffix in MAGIC.items():
        if beginning.startswith(start):
            return suffix
    for start, what in MISTAKEN.items():
        if beginning.lstrip().lower().startswith(start):
            raise UserError(f"{path}: expected a network (.keras or .h5), found {what}")
    return SUFFIXES[path.suffix.lower()]


def architecture_of(path: Path, shown: Path) -> dict[str, Any] | None:
    """Return the architecture, None where an HDF5 file holds weights by layer names alone.

    Weights in an archive are not looked at; `unpacked_weights` does that.

    Args:
        shown: What to call the file.

    Raises:
        UserError: The file holds something else, links, or more than is allowed.
        OSError, ValueError, KeyError, BadZipFile: It is damaged.
    """
    return _of_keras(path, shown) if kind_of(path) == ".keras" else _of_hdf5(path, shown)


def unpacked_weights(path: Path, shown: Path, folder: Path) -> Path:
    """Copy the weights in a .keras file into a folder, check them, and return where they are.

    HDF5 goes to and fro in a file, which takes very long in an archive.

    Raises:
        UserError: They link, or are more than is allowed.
    """
    unpacked = folder / WEIGHTS
    left = LARGEST_NETWORK
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(WEIGHTS) as member,
        unpacked.open("wb") as to,
    ):
        while block := member.read(BLOCK):
            left -= len(block)
            if left < 0:  # whatever the archive said of it
                raise UserError(f"{shown}: {TOO_LARGE}, found more")
            to.write(block)
    with h5py.File(unpacked, "r") as content:
        check_hdf5(content, shown, LARGEST_NETWORK)
    return unpacked


def _of_keras(path: Path, shown: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        _check_archive(archive, shown)
        with archive.open("config.json") as member:
            text = member.read(LARGEST_CONFIG + 1)
    return _parsed(text, shown)


def _of_hdf5(path: Path, shown: Path) -> dict[str, Any] | None:
    with h5py.File(path, "r") as content:
        check_hdf5(content, shown, LARGEST_NETWORK)
        if "model_config" in content.attrs:
            if content.attrs.get_id("model_config").shape:  # many could be the same gigabyte
                raise UserError(f"{shown}: expected one architecture in it, found several")
            return _parsed(content.attrs["model_config"], shown)
        if "layer_names" in content.attrs:
            return None
        if "layers" in content or "_layer_checkpoint_dependencies" in content:
            raise UserError(f"{shown}: {WEIGHTS_ALONE}")
        raise UserError(
            f"{shown}: expected a Keras network or DeepID's weights, found {_some(content)}"
        )


def _some(names: Iterable[str]) -> str:
    """Return the first few names as they may be shown."""
    return plain([plain(name) for name in itertools.islice(names, 10)], 200)


def _check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    names = [member.filename for member in archive.infolist()]
    if sorted(names) != sorted(MEMBERS):
        others = ", ".join(sorted(set(names) - MEMBERS)) or ", ".join(sorted(names))
        raise UserError(
            f"{path}: refused to open it: expected {', '.join(sorted(MEMBERS))} in it, once each, "
            f"found {plain(others, 200)}"
        )
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST_NETWORK:
        raise UserError(f"{path}: {TOO_LARGE}, found {unpacked}")


def _parsed(text: str | bytes, path: Path) -> dict[str, Any]:
    if len(text) > LARGEST_CONFIG:
        raise UserError(
            f"{path}: expected an architecture of at most {LARGEST_CONFIG} bytes, got more"
        )
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError(f"an architecture that is {type(config).__name__}")
    return config
