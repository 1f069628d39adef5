"""Open HDF5 files that a stranger made.

Nothing outside the file is read, and nothing in it may unpack to more than a stated size.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import h5py

from backdoor.errors import UserError
from backdoor.text import plain

LARGEST_CHUNK = 2**28  # bytes that HDF5 unpacks at once
MOST_PADDING = 16  # times the numbers of a dataset: what its chunks may unpack to, all together
LARGEST_ATTRIBUTES = 2**26  # bytes, of all in a file that is read whole
MOST_OBJECTS = 2**14  # groups and datasets; and attributes of one of them
REFUSED = "refused to read it: expected"


def check_hdf5(file: h5py.File, path: Path, largest: int | None = None) -> None:
    """Refuse links, data kept in other files, and what unpacks beyond what is allowed.

    Args:
        path: What to call it.
        largest: Bytes that all datasets together may unpack to; None where they are read in parts.

    Raises:
        UserError: The message names what was found.
    """
    unpacked = attributes = 0
    for item in _objects(file, path):
        if largest is not None:
            attributes += _size_of_attributes(item, path)
        if isinstance(item, h5py.Dataset):
            _check_dataset(item, path, whole=largest is not None)
            unpacked += item.nbytes
    for what, size, most in (
        ("datasets", unpacked, largest),
        ("attributes", attributes, LARGEST_ATTRIBUTES),
    ):
        if most is not None and size > most:
            raise UserError(f"{path}: {REFUSED} {what} of at most {most} bytes, found {size}")


def _check_dataset(dataset: h5py.Dataset, path: Path, whole: bool) -> None:
    name = plain(dataset.name)
    if dataset.is_virtual or dataset.external:
        kind = "virtual dataset" if dataset.is_virtual else "dataset kept in another file"
        raise UserError(f"{path}: {REFUSED} data in the file itself, found the {kind} {name!r}")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > LARGEST_CHUNK:
        raise UserError(
            f"{path}: {REFUSED} chunks of at most {LARGEST_CHUNK} bytes, found {chunk} in {name!r}"
        )
    padded = math.prod(
        -(-n // c) * c for n, c in zip(dataset.shape, dataset.chunks or (), strict=False)
    )
    padded *= dataset.dtype.itemsize
    if dataset.chunks and padded > MOST_PADDING * dataset.nbytes + LARGEST_CHUNK:
        raise UserError(
            f"{path}: {REFUSED} chunks that unpack to little more than the {dataset.nbytes} bytes "
            f"of {name!r}, found {padded}"
        )
    if whole and dataset.dtype.kind not in "uifb":
        # Each of a few elements of variable length may refer to the same gigabyte.
        raise UserError(f"{path}: {REFUSED} numbers, found {dataset.dtype} in {name!r}")


def _size_of_attributes(item: h5py.HLObject, path: Path) -> int:
    """Return how many bytes an object's attributes are, none of which is read.

    A text of variable length counts as the reference that it is; what it refers to is in the file.
    """
    if len(item.attrs) > MOST_OBJECTS:
        raise UserError(
            f"{path}: {REFUSED} at most {MOST_OBJECTS} attributes of {plain(item.name)!r}, found "
            f"{len(item.attrs)}"
        )
    there = (item.attrs.get_id(name) for name in item.attrs)
    return sum(math.prod(attribute.shape) * attribute.dtype.itemsize for attribute in there)


def _objects(file: h5py.File, path: Path) -> Iterator[h5py.HLObject]:
    """Yield the file's groups and datasets, each once."""
    waiting, seen = [file["/"]], set()
    while waiting:
        item = waiting.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:  # a group may hold itself
            continue
        seen.add(address)
        yield item
        if isinstance(item, h5py.Group):
            if len(seen) + len(waiting) + len(item) > MOST_OBJECTS:
                raise UserError(f"{path}: {REFUSED} at most {MOST_OBJECTS} objects, found more")
            waiting += [_member(item, name, path) for name in item]


def _member(group: h5py.Group, name: str, path: Path) -> h5py.HLObject:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        target = f"{getattr(link, 'filename', '')}:{link.path}".strip(":")
        raise UserError(
            f"{path}: {REFUSED} data in the file itself, found the link {plain(name)!r} to "
            f"{plain(target)!r}"
        )
    return group[name]
