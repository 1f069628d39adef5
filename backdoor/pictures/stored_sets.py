"""Public data sets by name, and one's own pictures, shared out into parts."""

import gzip
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.picture_set import read_stored
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import as_bytes, divided_by
from backdoor.pictures.sources import TEST, TRAIN, VALID, Drawing, Labels, Pictures

Part = tuple[Pictures, Labels]
IDX = ("{}-images-idx3-ubyte", "{}-labels-idx1-ubyte")
LARGEST = 2**31  # bytes of a file, unpacked
# Where Debian's packages put them.
USUAL = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
BINARY = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]
HELD_OUT = 0.15  # of one's own pictures of a class, for validation and again for the test


class StoredPictures:
    """Pictures that are read whole, and taken by class and seed."""

    def __init__(self, drawing: Drawing) -> None:
        rng, known = np.random.default_rng(drawing.seed), drawing.known
        counts = [drawing.train_pictures, drawing.valid_pictures, drawing.test_pictures]
        if known:
            train, held_out = _public(drawing)
            self.names: Sequence[str] | None = known.names[: drawing.classes]
            taken = [*_taken(train[1], counts[:1], drawing.classes, rng)]
            taken += _taken(held_out[1], counts[1:], drawing.classes, rng)
            origins = [train, held_out, held_out]
        else:
            own, self.names = _own(drawing)
            order = [*counts[1:], counts[0]]
            valid, test, rest = _taken(own[1], order, drawing.classes, rng, HELD_OUT)
            taken, origins = [rest, valid, test], [own] * 3
        self.parts = {
            name: (pictures[rows], labels[rows])
            for name, (pictures, labels), rows in zip(
                (TRAIN, VALID, TEST), origins, taken, strict=True
            )
        }

    def labels(self, part: str) -> Labels:
        return self.parts[part][1]

    def pictures(self, part: str, rows: NDArray[np.int64], worn: str) -> Pictures:
        return self.parts[part][0][rows]


def _taken(
    labels: Labels,
    counts: Sequence[int | None],
    classes: int | None,
    rng: np.random.Generator,
    share: float | None = None,
) -> list[NDArray[np.int64]]:
    """Return rows for each count, none twice, so many of each class.

    Args:
        counts: None is an even share of what the others leave, or `share` of the class; of the
            last, what is left.
    """
    there = int(labels.max()) + 1
    if (classes or there) > there:
        raise UserError(f"dataset.draw.classes: expected at most {there}, got {classes}")
    taken: list[list[NDArray[np.int64]]] = [[] for _ in counts]
    for label in range(classes or there):
        rows = rng.permutation(np.flatnonzero(labels == label))
        sizes = _sizes(len(rows), counts, share)
        if min(sizes) < 1 or sum(sizes) > len(rows):
            raise UserError(
                f"dataset.draw: expected pictures of class {label} for training, validation and "
                f"test, at least one for each and as many as are asked for, found {len(rows)}"
            )
        for part, some in zip(taken, np.split(rows, np.cumsum(sizes)), strict=False):
            part.append(some)
    return [np.sort(np.concatenate(part)) for part in taken]


def _sizes(count: int, counts: Sequence[int | None], share: float | None) -> list[int]:
    """Return how many of a class's pictures each part gets; see `_taken`."""
    left, sizes = count - sum(size or 0 for size in counts), []
    open_parts = sum(size is None for size in counts)
    for size in counts:
        if size is None:
            size = left if open_parts == 1 else left // open_parts
            if share and open_parts > 1:
                size = max(1, round(share * count))
            left, open_parts = left - size, open_parts - 1
        sizes.append(size)
    return sizes


def _public(drawing: Drawing) -> tuple[Part, Part]:
    """Return training and test pictures of a public data set.

    Raises:
        UserError: They are neither in a folder nor to be had from keras.datasets.
    """
    name = drawing.source
    usual = USUAL.get(name)
    if drawing.root or (usual and usual.is_dir()):
        return READERS[name](Path(drawing.root or str(usual)))
    try:
        pairs = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare one where there is no network
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"dataset={name}: expected a network to fetch it by keras.datasets, or its files in a "
            f"folder, dataset.root={FILES[name]}; got {first_line}"
        ) from error
    train, test = ((_four_axes(x), np.ravel(y).astype(np.int64)) for x, y in pairs)
    return train, test


def _four_axes(pictures: NDArray[np.uint8]) -> Pictures:
    return pictures[..., None] if pictures.ndim == 3 else pictures


def read_idx(folder: Path) -> tuple[Part, Part]:
    """Return training and test pictures of the four idx files of MNIST's format, packed or not.

    Raises:
        UserError: One of them is not there, or is not such a file.
    """
    train, test = (
        (
            _idx(folder, IDX[0].format(part), 3)[..., None],
            _idx(folder, IDX[1].format(part), 1).astype(np.int64),
        )
        for part in ("train", "t10k")
    )
    for pictures, labels in (train, test):
        if len(pictures) != len(labels):
            raise UserError(
                f"{folder}: expected a label for each picture, got {len(labels)} for "
                f"{len(pictures)}"
            )
    return train, test


def _idx(folder: Path, name: str, axes: int) -> NDArray[np.uint8]:
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise UserError(f"{folder}: expected {name}.gz in it, or unpacked, found neither")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            shape = [int.from_bytes(file.read(4), "big") for _ in range(axes)]
            size = math.prod(shape)
            if head != bytes([0, 0, 8, axes]) or not 0 < size <= LARGEST:
                raise ValueError(f"head {head.hex()} and shape {shape}")
            values = file.read(size + 1)
        return np.frombuffer(values, np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"{path}: expected an idx file of bytes with {axes} axes, got {error}"
        ) from error


def read_binary(folder: Path) -> tuple[Part, Part]:
    """Return training and test pictures of CIFAR-10's binary version.

    Raises:
        UserError: A file is not there, or is not such a file.
    """
    inside = folder / "cifar-10-batches-bin"
    folder = inside if inside.is_dir() else folder
    train, test = (_records([folder / name for name in names]) for names in BINARY)
    return train, test


def _records(paths: Sequence[Path]) -> Part:
    """Read records of a label and 3 x 32 x 32 bytes."""
    length, parts = 1 + 3 * 32 * 32, []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: expected CIFAR-10's binary version, found no such file")
        size = path.stat().st_size
        if size % length or not 0 < size <= LARGEST:
            raise UserError(f"{path}: expected records of {length} bytes, got {size} bytes")
        parts.append(np.fromfile(path, np.uint8).reshape(-1, length))
    records = np.concatenate(parts)
    pictures = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(np.moveaxis(pictures, 1, -1)), records[:, 0].astype(np.int64)


def _own(drawing: Drawing) -> tuple[Part, Sequence[str] | None]:
    opened = open_pictures(Path(drawing.root or ""), wanted=Wanted(divided_by(1), drawing.shape))
    if opened.shape != drawing.shape:
        raise UserError(
            f"{opened.path}: expected pictures of {drawing.shape} (height, width, channels), got "
            f"{opened.shape}"
        )
    stored = read_stored(opened, np.arange(len(opened)))
    names = None if opened.names is None else list(opened.names)[: drawing.classes]
    return (as_bytes(stored), opened.labels), names


READERS: dict[str, Callable[[Path], tuple[Part, Part]]] = {
    "fashion_mnist": read_idx,
    "mnist": read_idx,
    "cifar10": read_binary,
}
FILES = {
    "fashion_mnist": "FOLDER with its four idx files (apt-get install dataset-fashion-mnist)",
    "mnist": "FOLDER with its four idx files",
    "cifar10": "FOLDER with the binary version",
}
