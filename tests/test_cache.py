import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from backdoor import cache
from backdoor.cache import Cache, sha256


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
