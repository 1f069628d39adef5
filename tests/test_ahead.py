"""What a process does not load, and what is begun while it loads the rest."""

import io
import logging
import subprocess
import sys
import threading

import pytest
from hydra import compose, initialize_config_dir
from test_scale import CONF
from tqdm import tqdm

from backdoor import cache
from backdoor.pictures.test_bed import SETS
from experiments.launch.ahead import hash_ahead
from experiments.launch.cli import params_of
from experiments.launch.job import result_of
from experiments.launch.logs import AboveBars
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


def test_a_file_that_is_not_there_is_for_the_run_to_say(settings_and_params, tmp_path, capfd):
    (tmp_path / "net.keras").unlink()
    settings, _ = settings_and_params
    thread = hashed_ahead(settings)
    if thread:  # else it has ended
        thread.join()
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_message_stands_above_a_bar_on_a_terminal():
    terminal = Terminal()
    handler = AboveBars(terminal)
    with tqdm(total=2, desc="SHA-256 of x", file=terminal) as bar:
        bar.update()
        handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "6 runs", (), None))
    before, after = terminal.getvalue().split("6 runs")
    assert before.endswith("\r")
    assert before.rstrip("\r").endswith(" ")  # the bar, wiped
    assert after.startswith("\n")
    assert "SHA-256 of x" in after


def test_elsewhere_a_message_is_a_line():
    stream = io.StringIO()
    AboveBars(stream).emit(logging.LogRecord("a", logging.INFO, "", 0, "6 runs", (), None))
    assert stream.getvalue() == "6 runs\n"
