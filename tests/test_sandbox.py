"""What hangs, eats memory or dies while it is opened ends alone, and is told in a sentence."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import conv_pool_dense
from keras import layers
from test_model_files import with_config

from backdoor.errors import UserError
from backdoor.networks.model_files import load_badnet
from backdoor.networks.sandbox import SANDBOX, Limits

SHAPE = (10, 8, 3)
ROOT = Path(__file__).parents[1]


def backwards(folder, layers_in_a_row=600):
    """A chain of layers that is listed from its end, through which Keras goes again and again."""
    pictures = x = keras.Input(SHAPE)
    for _ in range(layers_in_a_row):
        x = layers.Activation("relu")(x)
    keras.Model(pictures, layers.GlobalMaxPooling2D()(x)).save(folder / "slow.keras")

    def change(config):
        config["config"]["layers"].reverse()

    return with_config(folder / "slow.keras", change)


def large(folder, units=11_000):
    """Half a gigabyte of weights that are all zero, and so packed into little."""
    pictures = keras.Input((units,))
    small = keras.Model(pictures, layers.Dense(1, use_bias=False)(pictures))
    small.save(folder / "large.keras")
    return with_config(
        folder / "large.keras",
        lambda config: config["config"]["layers"][-1]["config"].update(units=units),
    )


def test_what_takes_too_long_is_given_up(tmp_path):
    path = backwards(tmp_path)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"slow\.keras: refused .* it took more than 1 s") as caught:
        load_badnet(path, limits=Limits(seconds=1))
    assert "badnet.limits.seconds" in str(caught.value)
    assert time.monotonic() - begun < 30


def test_what_takes_too_much_memory_is_given_up(tmp_path):
    with pytest.raises(UserError, match=r"large\.keras: refused to open it: .* memory"):
        load_badnet(large(tmp_path), limits=Limits(gibibytes=0.2))


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"gibibytes": -1}])
def test_limits_are_above_zero(limits):
    with pytest.raises(UserError, match=r"badnet\.limits\.\w+: expected a number above 0, got"):
        Limits(**limits)


def test_the_next_file_is_opened_after_one_was_given_up_and_after_the_process_died(tmp_path):
    conv_pool_dense().save(tmp_path / "honest.keras")
    with pytest.raises(UserError, match="it took more than"):
        load_badnet(backwards(tmp_path), limits=Limits(seconds=0.5))
    assert load_badnet(tmp_path / "honest.keras").output_shape == (None, 5)
    os.kill(SANDBOX._process.pid, signal.SIGKILL)
    SANDBOX._process.wait()
    assert load_badnet(tmp_path / "honest.keras").output_shape == (None, 5)


@pytest.fixture
def fresh():
    """The process anew, which is another one afterwards."""
    SANDBOX.close()
    yield SANDBOX
    SANDBOX.close()


def folder_of_first():
    return Path(SANDBOX._first.folder.name)


def test_a_network_is_opened_before_anybody_asks_for_it(tmp_path, fresh, monkeypatch):
    network, path = conv_pool_dense(), tmp_path / "first.keras"
    network.save(path)
    fresh.start(path, Limits())
    folder, process = folder_of_first(), fresh._process
    assert select.select([process.stdout], [], [], 120)[0], "it has answered"
    assert (folder / "weights").exists()
    monkeypatch.setattr(fresh, "_ask", None)  # it is not asked again
    opened = load_badnet(path)
    for mine, theirs in zip(network.get_weights(), opened.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (folder.exists(), fresh._first, fresh._process) == (False, None, process)


def test_a_first_network_that_was_changed_meanwhile_is_opened_anew(tmp_path, fresh):
    path = tmp_path / "first.keras"
    conv_pool_dense(classes=4).save(path)
    fresh.start(path, Limits())
    folder, process = folder_of_first(), fresh._process
    assert select.select([process.stdout], [], [], 120)[0], "it has answered"
    conv_pool_dense(classes=7).save(path)
    assert load_badnet(path).output_shape == (None, 7)
    assert (folder.exists(), process.poll() is None) == (False, False)


def test_another_network_than_the_first_is_opened_as_well(tmp_path, fresh):
    backwards(tmp_path).rename(tmp_path / "first.keras")
    conv_pool_dense().save(tmp_path / "asked.keras")
    fresh.start(tmp_path / "first.keras", Limits(seconds=300))
    folder, process = folder_of_first(), fresh._process
    assert load_badnet(tmp_path / "asked.keras").output_shape == (None, 5)
    assert process.poll() is not None
    assert not folder.exists()


@pytest.mark.parametrize("limits", [Limits(seconds=0.5), Limits()])
def test_what_is_wrong_with_the_first_is_said_when_it_is_asked_for(tmp_path, fresh, limits):
    path = backwards(tmp_path)
    said = "it took more than 0.5 s"
    if limits == Limits():
        path.write_bytes(b"no network")
        said = "expected a network that Keras can load|expected a .keras file"
    fresh.start(path, limits)
    folder, process = folder_of_first(), fresh._process
    with pytest.raises(UserError, match=said):
        load_badnet(path, limits=limits)
    assert (folder.exists(), fresh._process) == (False, process)


def test_the_first_is_opened_again_where_the_process_died(tmp_path, fresh):
    conv_pool_dense().save(tmp_path / "first.keras")
    fresh.start(tmp_path / "first.keras", Limits())
    folder, process = folder_of_first(), fresh._process
    os.kill(process.pid, signal.SIGKILL)
    assert load_badnet(tmp_path / "first.keras").output_shape == (None, 5)
    assert not folder.exists()
    assert fresh._process is not process


def test_several_threads_may_ask(tmp_path):
    networks = [conv_pool_dense() for _ in range(4)]
    for number, network in enumerate(networks):
        network.save(tmp_path / f"{number}.keras")
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda n: load_badnet(tmp_path / f"{n}.keras"), range(4)))
    for network, other in zip(networks, opened, strict=True):
        for mine, theirs in zip(network.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def processes_of(group):
    """Which processes of a session are there, but for those that only wait to be taken note of."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-g", str(group)], capture_output=True, text=True
    ).stdout
    return [line for line in listed.splitlines() if "Z" not in line.split()[1]]


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("first", ["", "path, limits"])
def test_whoever_asked_and_died_leaves_nothing_running(tmp_path, ends, first):
    path = backwards(tmp_path)
    code = f"""
from backdoor.networks.sandbox import SANDBOX, Limits
from pathlib import Path
path, limits = Path({str(path)!r}), Limits(seconds=300)
SANDBOX.start({first})
print(SANDBOX._process.pid, flush=True)
SANDBOX.open(path, Path({str(tmp_path)!r}), limits)
"""
    asking = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with asking:
        group = int(asking.stdout.readline())
        end = time.monotonic() + 60
        while (
            len(processes_of(group)) < 2 and time.monotonic() < end
        ):  # it forks when Keras is there
            time.sleep(0.1)
        asking.send_signal(ends)
    end = time.monotonic() + 10
    while processes_of(group) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(group) == []


def broken(layer, **changed):
    """A network one of whose layers is told something else, once it is saved."""

    def make(folder):
        pictures = keras.Input(SHAPE)
        x = layer(layers.Conv2D(4, 3, name="conv")(pictures))
        keras.Model(pictures, layers.GlobalMaxPooling2D(name="end")(x)).save(folder / "net.keras")

        def change(config):
            (item,) = (i for i in config["config"]["layers"] if i["config"]["name"] == layer.name)
            item["config"].update(changed)
            item.pop("build_config", None)

        return with_config(folder / "net.keras", change)

    return make


BROKEN = {
    "axis out of range": broken(layers.BatchNormalization(name="odd"), axis=7),
    "axes out of range": broken(layers.LayerNormalization(name="odd"), axis=[9]),
    "shared axes": broken(layers.PReLU(name="odd"), shared_axes=[9]),
    "strides of 0": broken(layers.Conv2D(4, 3, name="odd"), strides=[0, 0]),
    "no strides": broken(layers.MaxPooling2D(name="odd"), strides=[0, 0]),
    "dilation": broken(layers.Conv2D(4, 3, name="odd"), dilation_rate=[2**31, 2**31]),
    "pool size": broken(layers.MaxPooling2D(name="odd"), pool_size=[2**31, 2**31]),
    "list in a rescaling": broken(layers.Rescaling(2.0, name="odd"), scale=[1.0, 2.0, 3.0]),
    "string dtype": broken(layers.Activation("relu", name="odd"), dtype="string"),
    "softmax axis": broken(layers.Softmax(name="odd"), axis=9),
    "target shape": broken(layers.Reshape((8, 6, 4), name="odd"), target_shape=[7, 7, 7]),
    "negative units": broken(layers.Dense(3, name="odd"), units=-3),
    "rate": broken(layers.Dropout(0.5, name="odd"), rate="much"),
    "padding": broken(layers.ZeroPadding2D(1, name="odd"), padding=[[2**40, 1], [1, 1]]),
    "crop": broken(layers.Cropping2D(1, name="odd"), cropping=[[5, 5], [5, 5]]),
}


def of_one_picture(folder):
    """What can be run on one picture, and not on two."""
    pictures = keras.Input(SHAPE)
    x = keras.ops.reshape(pictures, (-1, 240))
    keras.Model(pictures, layers.Dense(3, name="odd")(x)).save(folder / "net.keras")

    def change(config):
        (item,) = (i for i in config["config"]["layers"] if i["class_name"] == "Reshape")
        item["config"]["newshape"] = [1, 240]
        item["config"]["name"] = item["name"] = "odd_shape"
        (end,) = (i for i in config["config"]["layers"] if i["class_name"] == "Dense")
        history = end["inbound_nodes"][0]["args"][0]["config"]
        history["shape"], history["keras_history"][0] = [1, 240], "odd_shape"

    return with_config(folder / "net.keras", change)


def of_few_numbers(folder):
    """What can be run on black pictures alone."""
    pictures = keras.Input(SHAPE)
    x = layers.Embedding(2, 4, name="odd")(pictures)
    x = layers.Flatten()(x)
    keras.Model(pictures, layers.Dense(3)(x)).save(folder / "net.keras")
    return folder / "net.keras"


def of_a_name_that_no_graph_takes(folder):
    pictures = keras.Input(SHAPE)
    x = layers.GlobalMaxPooling2D(name="an odd layer")(pictures)
    keras.Model(pictures, x).save(folder / "net.keras")
    return folder / "net.keras"


def nested(folder, times):
    model = keras.Sequential([keras.Input(SHAPE), layers.GlobalMaxPooling2D()])
    for _ in range(times - 1):
        model = keras.Sequential([keras.Input(SHAPE), model])
    model.save(folder / "net.keras")
    return folder / "net.keras"


BROKEN |= {
    "few numbers": of_few_numbers,
    "name of a layer": of_a_name_that_no_graph_takes,
}


def test_what_can_be_run_on_one_picture_alone_is_refused(tmp_path):
    path = of_one_picture(tmp_path)
    with pytest.raises(UserError, match="got Input to reshape is a tensor with 480 values") as said:
        load_badnet(path)
    assert str(said.value).startswith(f"{path}: expected a network that Keras can load")


def test_networks_within_networks_have_an_end(tmp_path):
    assert load_badnet(nested(tmp_path, 32)).output_shape == (None, 3)
    with pytest.raises(UserError, match="expected at most 32 networks within each other"):
        load_badnet(nested(tmp_path, 33))


def test_a_class_name_of_any_length_is_refused_and_not_more(tmp_path):
    path = broken(layers.Activation("relu", name="odd"))(tmp_path)

    def change(config):
        config["config"]["layers"][1]["class_name"] = "\x1b[31m" + "A" * 200_000

    SANDBOX.start()
    process = SANDBOX._process
    with pytest.raises(UserError, match="refused to open it: expected only Keras' own") as caught:
        load_badnet(with_config(path, change))
    assert len(str(caught.value)) <= 2000
    assert str(caught.value).isprintable()
    assert SANDBOX._process is process


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_built_or_run_is_one_line_with_file_and_layer(tmp_path, name):
    path = BROKEN[name](tmp_path)
    with pytest.raises(UserError) as caught:
        load_badnet(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "odd" in said
    assert said.isprintable()
    assert len(said) < 500 + len(str(path))


def test_channels_first_are_refused(tmp_path):
    path = broken(layers.MaxPooling2D(name="odd"), data_format="channels_first")(tmp_path)
    with pytest.raises(UserError, match="found 'MaxPooling2D' with channels first"):
        load_badnet(path)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("damaged", [False, True])
def test_archives_are_unpacked_once_however_they_are_packed(tmp_path, method, damaged):
    conv_pool_dense().save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "packed.keras"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        begins = archive.getinfo("model.weights.h5").header_offset
    if not damaged:
        assert load_badnet(path).output_shape == (None, 5)
        return
    content = bytearray(path.read_bytes())
    content[begins + 200 : begins + 260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"packed\.keras: expected a network that Keras can load"):
        load_badnet(path)


def test_a_network_of_one_layer_may_be_listed_in_any_order(tmp_path):
    path = backwards(tmp_path, 5)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    assert config["config"]["layers"][0]["class_name"] == "GlobalMaxPooling2D"
    assert load_badnet(path).output_shape == (None, 3)
