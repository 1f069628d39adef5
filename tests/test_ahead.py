"""What a process does not load, and what is begun while it loads the rest."""

import logging
import subprocess
import sys
import threading

import pytest
from conftest import conv_pool_dense
from hydra import compose, initialize_config_dir
from test_scale import CONF
from test_sweep import environment

from backdoor import cache
from backdoor.pictures.test_bed import SETS
from backdoor.progress import progress
from experiments.launch import ahead
from experiments.launch.ahead import hash_ahead
from experiments.launch.cli import params_of
from experiments.launch.job import result_of
from experiments.launch.settings import RunSettings, settings_of

HEAVY = "{'sklearn', 'pandas', 'matplotlib', 'scipy.stats'} & set(sys.modules)"


def said_by(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_keras_comes_without_what_it_would_take_along():
    code = f"""
import gc, sys
from backdoor.device import start_tensorflow
start_tensorflow()
import keras
print({HEAVY})
import pandas, sklearn, matplotlib
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.predict(keras.ops.ones((1, 2)), verbose=0)
print(gc.isenabled())
"""
    assert said_by(code) == ["set()", "True"]


def test_what_was_loaded_before_stays():
    code = f"""
import sys, pandas
from backdoor.lean import lean_imports
with lean_imports():
    import pandas as found
    try:
        import sklearn
    except ImportError:
        print("hidden")
print(found is pandas, {HEAVY})
"""
    assert said_by(code) == ["hidden", "True {'pandas'}"]


def test_the_process_that_opens_networks_is_lean_too():
    code = f"import sys, backdoor.networks.sandbox_process; print({HEAVY})"
    assert said_by(code) == ["set()"]


@pytest.fixture
def settings_and_params(tmp_path):
    files = {name: tmp_path / f"{name}.h5" for name in SETS}
    data = [f"dataset.{name}={path}" for name, path in files.items()]
    network = f"badnet.path={tmp_path / 'net.keras'}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["dataset=files", network, *data, f"cache={tmp_path}/cache"])
    for path in (*files.values(), tmp_path / "net.keras"):
        path.write_bytes(b"of 20 GiB")
    return settings_of(config, RunSettings), params_of(config)


def hashed_ahead(settings):
    hash_ahead(settings)
    return next((each for each in threading.enumerate() if each.name == "hash"), None)


def test_a_file_is_hashed_once_by_whoever_comes_first(settings_and_params, monkeypatch):
    settings, params = settings_and_params
    monkeypatch.setattr(ahead, "LARGE_FILE", 4)
    read, may_go_on = [], threading.Event()

    def sha256(*paths):
        read.append(paths)
        may_go_on.wait(20)
        return "of all"

    monkeypatch.setattr(cache, "sha256", sha256)
    thread = hashed_ahead(settings)
    threading.Timer(0.3, may_go_on.set).start()
    assert result_of(settings, params, settings.kept)
    thread.join()
    assert len(read) == len(set(read)) == 1 + len(SETS)
    assert not thread.is_alive()


def test_small_files_are_left_to_the_run(settings_and_params, tmp_path):
    settings, _ = settings_and_params
    with (tmp_path / "clean_test.h5").open("ab") as file:
        file.truncate(ahead.LARGE_FILE + 1)
    ahead._hash(settings)
    assert len(list((tmp_path / "cache/sha256").iterdir())) == 2  # that file's, the network's


def test_a_file_that_is_not_there_is_for_the_run_to_say(settings_and_params, tmp_path, capfd):
    (tmp_path / "net.keras").unlink()
    settings, _ = settings_and_params
    thread = hashed_ahead(settings)
    if thread:  # else it has ended
        thread.join()
    assert capfd.readouterr() == ("", "")


CLEAN = ["badnet.path=net.keras", "dataset.clean=clean_valid.h5"]


@pytest.mark.parametrize(
    ("door", "words", "said"),
    [
        ("run", [], (7, "set()\n")),
        ("run", ["-m", "order=asc,desc"], (7, "set()\n")),
        ("check", CLEAN, (7, "set()\n")),
        ("check", ["-m", *CLEAN, "seed=0,1"], (7, "set()\n")),
        ("run", ["dry_run=true"], (0, "[1/1] \n")),
    ],
)
def test_hashing_begins_before_mlflow_and_tensorflow_are_loaded(
    door, words, said, settings_and_params, tmp_path
):
    conv_pool_dense().save(tmp_path / "net.keras")
    code = f"""
import sys, experiments.{door} as door
from experiments.launch import callback
def begun(settings):
    print({{'mlflow', 'tensorflow'}} & set(sys.modules))
    raise SystemExit(7)
door.hash_ahead = callback.hash_ahead = begun
sys.argv[1:] = {words}
sys.exit(door.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == said, done.stderr


def test_a_thread_shows_lines_where_the_main_one_shows_a_bar(monkeypatch, caplog, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    caplog.set_level(logging.INFO)

    def work():
        for _ in progress(range(2), "SHA-256 of x", 2):
            pass

    work()
    assert "SHA-256 of x" in capsys.readouterr().err
    assert not caplog.messages
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert capsys.readouterr().err == ""
    assert caplog.messages == ["SHA-256 of x ...", "SHA-256 of x: 0.0 s"]
