import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from backdoor import cache
from backdoor.cache import Cache, NoCache, sha256


def test_what_was_computed_is_not_computed_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return np.arange(3)

    for _ in range(2):
        np.testing.assert_array_equal(Cache(tmp_path)("walk", ("a", 1), compute), [0, 1, 2])
    assert len(calls) == 1


def test_another_key_or_kind_is_another_result(tmp_path):
    cache = Cache(tmp_path)
    assert cache("walk", ("a",), lambda: 1) == 1
    assert cache("walk", ("b",), lambda: 2) == 2
    assert cache("head", ("a",), lambda: 3) == 3


def test_jobs_that_need_the_same_at_once_compute_it_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return 7

    threads = [
        threading.Thread(target=lambda: Cache(tmp_path)("walk", ("a",), compute)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_holder_that_was_killed_holds_nothing(tmp_path):
    code = (
        "import sys, time; from backdoor.cache import Cache\n"
        "def compute():\n    print('computing', flush=True)\n    time.sleep(60)\n"
        "Cache(sys.argv[1])('walk', ('a',), compute)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"computing\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert Cache(tmp_path)("walk", ("a",), lambda: 7) == 7


def test_the_digest_of_several_files_is_that_of_their_names_and_digests(tmp_path):
    def digest(text):
        return hashlib.sha256(text).hexdigest()

    (tmp_path / "inner").mkdir()
    for name in ("b.h5", "a.h5", "inner/c.png"):
        (tmp_path / name).write_bytes(name.encode())
    first, second = tmp_path / "b.h5", tmp_path / "a.h5"
    assert sha256(first) == digest(b"b.h5")
    both = f"b.h5 {digest(b'b.h5')}\na.h5 {digest(b'a.h5')}\n"
    assert sha256(first, second) == digest(both.encode())
    within = "".join(
        f"{name} {digest(name.encode())}\n" for name in ("a.h5", "b.h5", "inner/c.png")
    )
    assert sha256(tmp_path) == digest(within.encode())
    kept = Cache(tmp_path / "cache")
    assert kept.digest(first, second) == sha256(first, second)
    assert kept.digest(first) == sha256(first)
    assert kept.digest(second, first) == sha256(second, first)


def test_a_result_is_kept_under_what_it_depends_on(tmp_path):
    """Keys that look alike are not the same."""
    cache = Cache(tmp_path)
    keys = [("1",), (1,), ("1", ""), ("", "1"), ("1,2",), ("1", "2"), (1.5,)]
    for number, key in enumerate(keys):
        assert cache("walk", key, lambda number=number: number) == number
    assert [cache("walk", key, lambda: -1) for key in keys] == list(range(len(keys)))


def test_the_reading_of_a_large_file_is_shown(tmp_path, monkeypatch, caplog):
    path = tmp_path / "large.h5"
    path.write_bytes(bytes(range(256)) * 10)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    with caplog.at_level("INFO"):
        assert sha256(path) == expected
        assert not caplog.messages
        monkeypatch.setattr(cache, "LARGE_FILE", 2000)
        monkeypatch.setattr(cache, "BLOCK", 1000)
        assert sha256(path) == expected
    assert caplog.messages[0] == "SHA-256 of large.h5 ..."


def parts(*values):
    return iter([np.full((2, 3), value, np.float32) for value in values])


def test_a_large_result_is_written_part_by_part_and_read_from_the_file(tmp_path):
    written = [
        Cache(tmp_path).large("activations", ("a",), (4, 3), lambda: parts(1, 2)),
        Cache(tmp_path).large("activations", ("a",), (4, 3), lambda: 1 / 0),
        NoCache().large("activations", ("a",), (4, 3), lambda: parts(1, 2)),
    ]
    for values in written:
        assert values.dtype == np.float32
        assert values.tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert isinstance(written[0].base, np.memmap)
    assert isinstance(written[1].base, np.memmap)


def test_a_large_result_that_was_damaged_or_not_finished_is_computed_again(tmp_path):
    def broken():
        yield np.zeros((2, 3), np.float32)
        raise ValueError("a bad picture")

    cache = Cache(tmp_path)
    with pytest.raises(ValueError, match="a bad picture"):
        cache.large("activations", ("a",), (4, 3), broken)
    assert not list((tmp_path / "activations").iterdir())
    cache.large("activations", ("a",), (4, 3), lambda: parts(1, 2))
    (file,) = (tmp_path / "activations").iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert cache.large("activations", ("a",), (4, 3), lambda: parts(5, 6))[0, 0] == 5


def test_what_was_used_longest_ago_goes_beyond_the_limit(tmp_path):
    """Three results of 1 KiB and the header each, room for two."""
    cache = Cache(tmp_path, limit=2.5 * 1200 / 2**30)
    for number, name in enumerate("abc"):
        cache("walk", (name,), lambda number=number: np.full(1024, number, np.uint8))
        held = sorted(tmp_path.glob("walk/*.npy"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(held[-1], ns=(number, number))
        if name == "b":
            assert cache("walk", ("a",), lambda: 9)[0] == 0  # used again, so newer than b
    found = {name: cache("walk", (name,), lambda: np.zeros(0)) for name in "ac"}
    assert {name: values[:1].tolist() for name, values in found.items()} == {"a": [0], "c": [2]}
    assert cache("walk", ("b",), lambda: 9) == 9


def test_the_newest_result_stays_and_without_a_limit_all_do(tmp_path):
    small = Cache(tmp_path, limit=1e-9)
    assert small("walk", ("a",), lambda: np.ones(99)).sum() == 99
    assert small("walk", ("a",), lambda: 1 / 0).sum() == 99
    for name in "bcd":
        Cache(tmp_path)("walk", (name,), lambda: np.ones(99))
    assert len(list(tmp_path.glob("walk/*.npy"))) == 4


def test_a_cache_says_how_much_it_holds(tmp_path):
    assert str(Cache(tmp_path / "none", 20)) == f"{tmp_path / 'none'}, 0.00 of 20 GiB"
    (tmp_path / "walk").mkdir()
    with (tmp_path / "walk" / f"{64 * 'a'}.npy").open("wb") as file:
        file.truncate(3 * 2**29)
    assert str(Cache(tmp_path)) == f"{tmp_path}, 1.50 GiB"
    assert str(Cache(tmp_path, 1.5)) == f"{tmp_path}, 1.50 of 1.5 GiB"


def test_a_full_disk_is_told_with_the_place(tmp_path):
    """/dev/full takes nothing."""
    with (
        Path("/dev/full").open("wb", buffering=0) as stream,
        pytest.raises(OSError, match="'/dev/full'"),
    ):
        cache._write(stream, np.dtype(float), (1,), [np.zeros(1)])


def test_what_was_not_written_leaves_nothing_and_says_what_it_was(tmp_path):
    def unreadable():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match=r"Input/output error$"):
        Cache(tmp_path).large("walk", ("a",), (1,), unreadable)
    assert not list((tmp_path / "walk").iterdir())


def test_the_progress_of_hashing_is_of_blocks_and_of_files(tmp_path, monkeypatch):
    shown = []

    def progress(items, what, total):
        shown.append((what, total))
        yield from items

    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in {"a.png": 2500, "b.png": 1}.items():
        (folder / name).write_bytes(bytes(size))
    monkeypatch.setattr(cache, "progress", progress)
    sha256(folder)
    assert shown == []
    monkeypatch.setattr(cache, "LARGE_FILE", 2501)
    monkeypatch.setattr(cache, "BLOCK", 1000)
    sha256(folder)
    assert shown == []  # as large is not larger
    monkeypatch.setattr(cache, "LARGE_FILE", 2499)
    sha256(folder)
    assert shown == [("SHA-256 of pictures", 2), ("SHA-256 of a.png", 3)]
    shown.clear()
    sha256(folder / "a.png", folder / "b.png")
    assert shown == [("SHA-256 of a.png", 2), ("SHA-256 of a.png", 3)]


def test_a_digest_is_kept_under_the_first_path(tmp_path):
    """So that the same bytes elsewhere are read there."""
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    for path in (first, second):
        path.write_bytes(b"same")
        os.utime(path, ns=(0, 0))
    keys = []

    class Noting(Cache):
        def __call__(self, what, key, compute):
            keys.append(key)
            return compute()

    Noting(tmp_path / "cache").digest(first, second)
    assert keys[0][0] == str(first)


def test_what_has_a_right_checksum_and_is_nothing_of_ours_is_computed_again(tmp_path):
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    for content in (pickled.getvalue(), b"", b"text"):
        kept = Cache(tmp_path)
        kept("walk", ("a",), lambda: 1)
        (file,) = (tmp_path / "walk").iterdir()
        file.write_bytes(hashlib.sha256(content).digest() + content)
        assert kept("walk", ("a",), lambda: 2) == 2
        assert kept("walk", ("a",), lambda: 3) == 2
        file.unlink()


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_a_large_result_is_kept_in_single_precision(kind, tmp_path):
    for kept in (NoCache(), Cache(tmp_path), Cache(tmp_path)):
        values = kept.large("walk", ("a",), (2, 3), lambda: [np.full((2, 3), 5, kind)])
        assert values.dtype == np.float32
        assert values.tolist() == [[5, 5, 5], [5, 5, 5]]


def test_a_large_result_of_another_length_is_not_kept(tmp_path):
    for length in (3, 5):
        with pytest.raises(RuntimeError, match=f"expected {length} rows to keep, got 4"):
            Cache(tmp_path).large("walk", ("a",), (length, 3), lambda: parts(1, 2))
    assert not list((tmp_path / "walk").iterdir())


def test_room_is_made_of_our_own_files_alone_and_of_what_the_killed_left(tmp_path):
    (tmp_path / "walk").mkdir()
    own = tmp_path / "walk" / "mine.npy"
    left, written = (tmp_path / "walk" / f"{letter * 64}.partial" for letter in "ab")
    for path in (own, left, written):
        path.write_bytes(bytes(100))
    small = Cache(tmp_path, limit=1e-9)
    with FileLock(small.lock(written.stem)):
        small("walk", ("a",), lambda: 1)
    assert own.exists()
    assert written.exists()
    assert not left.exists()
    assert str(Cache(tmp_path / "walk")).endswith("0.00 GiB")


def test_what_another_user_has_computed_is_read(tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(1, "Operation not permitted", str(path))

    Cache(tmp_path)("walk", ("a",), lambda: 3)
    monkeypatch.setattr(os, "utime", forbidden)
    assert Cache(tmp_path)("walk", ("a",), lambda: 4) == 3
