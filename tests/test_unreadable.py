"""Files of pictures on which NumPy, zip or HDF5 stumble: one sentence that names the file."""

import io
import lzma
import struct
import zipfile

import h5py
import numpy as np
import pytest

from backdoor.errors import UserError
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.safe_hdf5 import LARGEST_CHUNK

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 10, 8, 3), np.uint8)
LABELS = np.arange(20) % 5
HEADER = "{'descr': %s, 'fortran_order': False, 'shape': %s}\n"


def array(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def with_header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(9600)


def zipped(x, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        file.writestr("x.npy", x)
        file.writestr("y.npy", array(LABELS))
    return bytearray(stream.getvalue())


def patched(offset_local, offset_central, value):
    """An archive whose members say something else of themselves."""
    found = zipped(array(PICTURES))
    for signature, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        at = -1
        while (at := found.find(signature, at + 1)) >= 0:
            found[at + offset] = value
    return found


def damaged_lzma():
    found = zipped(array(PICTURES), zipfile.ZIP_LZMA)
    found[60:200] = bytes(range(140))
    return found


FILES = {
    "encrypted.npz": lambda: patched(6, 8, 1),
    "deflate64.npz": lambda: patched(8, 10, 9),
    "unknown method.npz": lambda: patched(8, 10, 77),
    "lzma.npz": damaged_lzma,
    "brackets.npz": lambda: zipped(with_header("(" * 5000)),
    "brackets.npy": lambda: with_header("(" * 5000),
    "no key.npz": lambda: zipped(with_header("{[]:1}")),
    "no key.npy": lambda: with_header("{[]:1}"),
    "boolean size.npy": lambda: with_header(HEADER % ("'|u1'", "(20, 10, 8, True)")),
    "huge and empty.npy": lambda: with_header(HEADER % ("'|u1'", f"(20, 0, 8, {2**63})")),
    "negative part.npy": lambda: with_header(HEADER % ("('|u1', (-3,))", "(20, 10, 8)")),
    "parts too large.npz": lambda: zipped(
        with_header(HEADER % ("('|u1', (2**31,))", "(20, 1, 8)"))
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_of_damage_is_named(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    if path.suffix == ".npy":
        np.save(tmp_path / f"{path.stem}_labels.npy", LABELS)
    with pytest.raises(UserError) as caught:
        list(read_chunks(open_pictures(path)))
    assert str(caught.value).startswith(f"{path}: expected ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_type_that_numpy_does_not_know_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["label"] = LABELS
        file["data"] = PICTURES
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(
        UserError, match=r"a\.h5: expected pictures that can be read, got TypeError"
    ):
        open_pictures(path)


def test_chunks_that_unpack_to_far_more_than_their_pictures_are_refused(tmp_path):
    """Each of 240 would unpack to 256 MiB, of which 20 bytes are shown."""
    path = tmp_path / "a.h5"
    chunk = (LARGEST_CHUNK, 1, 1, 1)
    with h5py.File(path, "w") as file:
        file["label"] = LABELS
        shape, most = (20, 3, 10, 8), (None, 3, 10, 8)
        file.create_dataset("data", shape, "u1", chunks=chunk, maxshape=most, compression="gzip")
    with pytest.raises(UserError, match="chunks that unpack to little more than the 4800 bytes"):
        open_pictures(path)


@pytest.mark.parametrize("chunks", [(20, 3, 10, 8), (7, 2, 10, 8), (1, 3, 10, 8), (20, 1, 1, 1)])
def test_usual_chunks_are_read(chunks, tmp_path):
    path = tmp_path / "a.h5"
    stored = np.moveaxis(PICTURES, -1, 1)
    with h5py.File(path, "w") as file:
        file["label"] = LABELS
        file.create_dataset("data", data=stored, chunks=chunks, compression="gzip")
    found = np.concatenate(list(read_chunks(open_pictures(path), 3)))
    np.testing.assert_array_equal(found, PICTURES)


def test_what_cannot_be_read_later_is_named_too(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["label"], file["data"] = LABELS, np.moveaxis(PICTURES, -1, 1)
    pictures = open_pictures(path)

    def fail(*given):
        raise lzma.LZMAError("Corrupt input data")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(UserError, match=r"a\.h5: expected pictures that can be read, got LZMAErr"):
        list(read_chunks(pictures))
