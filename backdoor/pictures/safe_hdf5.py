"""Open HDF5 files that a stranger made.

Nothing outside the file is read, and nothing in it may unpack to more than a stated size.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py

from backdoor.errors import UserError

LARGEST_CHUNK = 2**28  # bytes that HDF5 unpacks at once


def check_hdf5(file: h5py.File, path: Path, largest: int | None = None) -> None:
    """Refuse links, data kept in other files, and datasets that unpack beyond what is allowed.

    Args:
        path: What to call it.
        largest: Bytes that all datasets together may unpack to; None where they are read in parts.

    Raises:
        UserError: The message names what was found.
    """
    unpacked = 0
    for dataset in _datasets(file, path):
        if dataset.is_virtual or dataset.external:
            kind = "virtual dataset" if dataset.is_virtual else "dataset kept in another file"
            raise UserError(
                f"{path}: refused to read it: expected data in the file itself, found the {kind} "
                f"{dataset.name!r}"
            )
        numbers = 1
        for length in dataset.chunks or ():
            numbers *= length
        if numbers * dataset.dtype.itemsize > LARGEST_CHUNK:
            raise UserError(
                f"{path}: refused to read it: expected chunks of at most {LARGEST_CHUNK} bytes, "
                f"found {numbers * dataset.dtype.itemsize} in {dataset.name!r}"
            )
        if largest is not None and dataset.dtype.kind not in "uifb":
            # Each of a few elements of variable length may refer to the same gigabyte.
            raise UserError(
                f"{path}: refused to read it: expected numbers, found {dataset.dtype} in "
                f"{dataset.name!r}"
            )
        unpacked += dataset.nbytes
    if largest is not None and unpacked > largest:
        raise UserError(
            f"{path}: refused to read it: expected datasets of at most {largest} bytes, found "
            f"{unpacked}"
        )


def _datasets(file: h5py.File, path: Path) -> Iterator[h5py.Dataset]:
    groups, seen = [file["/"]], set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = f"{getattr(link, 'filename', '')}:{link.path}".strip(":")
                raise UserError(
                    f"{path}: refused to read it: expected data in the file itself, found the link "
                    f"{name!r} to {target!r}"
                )
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:  # a group may hold itself
                seen.add(address)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    yield item
