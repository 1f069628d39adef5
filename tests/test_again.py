from experiments.launch import again
from experiments.launch.again import made_once


def counting(made, content=b"network"):
    def make(file):
        made.append(file)
        file.write_bytes(content)

    return make


def test_under_the_same_key_a_file_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(again, "_before", {})
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        made_once(tmp_path / folder / "net.keras", ("asc", 2), counting(made))
    assert made == [tmp_path / "a" / "net.keras"]
    assert (tmp_path / "b" / "net.keras").read_bytes() == b"network"


def test_another_key_or_name_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(again, "_before", {})
    made = []
    for name, key in (("net", 1), ("net", 2), ("picture", 2), ("net", 1)):
        made_once(tmp_path / name, key, counting(made, f"{name} {key}".encode()))
        assert (tmp_path / name).read_text() == f"{name} {key}"
    assert len(made) == 4


def test_a_large_file_is_not_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(again, "_before", {})
    monkeypatch.setattr(again, "LARGEST", 3)
    made = []
    for _ in range(2):
        made_once(tmp_path / "net", 1, counting(made))
    assert len(made) == 2
