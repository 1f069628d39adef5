"""Files made to do harm: each is refused with one clear sentence, and nothing of it happens."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import conv_pool_dense
from keras import layers

from backdoor.errors import UserError
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures

MARKER = "executed"
MUCH = 2**28  # bytes, far more than an honest file of these tests needs


class Bomb:
    """What a pickle runs when it is opened."""

    def __reduce__(self):
        return (os.system, (f"touch {MARKER}",))


def honest(folder):
    conv_pool_dense().save(folder / "honest.keras")
    with zipfile.ZipFile(folder / "honest.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(folder, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / "evil.keras", "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "evil.keras"


def with_layer(folder, change):
    """The honest network with its last layer's description changed."""
    members = honest(folder)
    config = json.loads(members["config.json"])
    change(config["config"]["layers"][-1])
    return packed(folder, members | {"config.json": json.dumps(config)})


def lambda_of_python(folder, suffix=".keras"):
    pictures = keras.Input((10, 8, 3))
    x = layers.Lambda(lambda x: (open("executed", "w").close(), x)[1], (10, 8, 3))(pictures)  # noqa: PTH123
    keras.Model(pictures, layers.GlobalMaxPooling2D()(x)).save(folder / f"evil{suffix}")
    (folder / MARKER).unlink(missing_ok=True)
    return folder / f"evil{suffix}"


def lambda_by_name(folder):
    function = {"class_name": "function", "config": "os.system", "registered_name": "os.system"}
    return with_layer(
        folder, lambda layer: layer.update(class_name="Lambda", config={"function": function})
    )


def saved_model_layer(folder):
    return with_layer(
        folder, lambda layer: layer.update(class_name="TFSMLayer", config={"filepath": "/tmp"})
    )


def custom_class(folder):
    return with_layer(folder, lambda layer: layer.update(module=None, registered_name="evil>Dense"))


def other_module(folder):
    return with_layer(folder, lambda layer: layer.update(module="subprocess", class_name="Popen"))


def other_keras_function(folder):
    return with_layer(
        folder,
        lambda layer: layer.update(module="keras.utils", class_name="get_file"),
    )


def vocabulary_file(folder):
    def change(layer):
        layer.update(class_name="StringLookup", config={"vocabulary": "/etc/passwd"})

    return with_layer(folder, change)


def lambda_in_a_network_in_a_network(folder):
    inner = keras.Sequential(
        [keras.Input((10, 8, 3)), layers.Lambda(lambda x: x, output_shape=(10, 8, 3))]
    )
    middle = keras.Sequential([keras.Input((10, 8, 3)), inner])
    pictures = keras.Input((10, 8, 3))
    keras.Model(pictures, layers.GlobalMaxPooling2D()(middle(pictures))).save(folder / "evil.keras")
    return folder / "evil.keras"


def lambda_as_an_activation(folder):
    marshalled = {"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}
    return with_layer(folder, lambda layer: layer["config"].update(activation=marshalled))


def member_that_escapes(folder):
    return packed(folder, honest(folder) | {"../outside.txt": b"x"})


def member_with_an_absolute_path(folder):
    return packed(folder, honest(folder) | {str(folder.parent / "outside.txt"): b"x"})


def pickled_weights(folder):
    members = honest(folder)
    del members["model.weights.h5"]
    return packed(folder, members | {"model.weights.npz": pickle.dumps(Bomb())})


def archive_bomb(folder):
    weights = b"\0" * 2**24
    with zipfile.ZipFile(folder / "evil.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in honest(folder).items():
            if name != "model.weights.h5":
                archive.writestr(name, content)
        with archive.open("model.weights.h5", "w", force_zip64=True) as member:
            for _ in range(129):  # 2 GiB and a little, of zeros
                member.write(weights)
    return folder / "evil.keras"


def config_bomb(folder):
    config = b'{"a": "' + b" " * (2**24) + b'"}'
    return packed(folder, honest(folder) | {"config.json": config}, zipfile.ZIP_DEFLATED)


def deeply_nested_config(folder):
    return packed(folder, honest(folder) | {"config.json": "[" * 100_000})


def layer_too_large_for_any_memory(folder):
    return with_layer(folder, lambda layer: layer["config"].update(units=10**9))


def picture_blown_up(folder):
    pictures = keras.Input((10, 8, 3))
    x = layers.UpSampling2D(4)(pictures)
    keras.Model(pictures, layers.GlobalMaxPooling2D()(x)).save(folder / "small.keras")
    with zipfile.ZipFile(folder / "small.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members["config.json"].decode().replace("[4, 4]", "[40000, 40000]")
    return packed(folder, members | {"config.json": text})


def weights_elsewhere(folder):
    members = honest(folder)
    (folder / "w.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(folder / "w.h5", "a") as file:
        file["stolen"] = h5py.ExternalLink(str(folder / "secret.h5"), "data")
    return packed(folder, members | {"model.weights.h5": (folder / "w.h5").read_bytes()})


def a_pickle_named_keras(folder):
    (folder / "evil.keras").write_bytes(pickle.dumps(Bomb()))
    return folder / "evil.keras"


def a_pickle(folder):
    (folder / "evil.pkl").write_bytes(pickle.dumps(Bomb()))
    return folder / "evil.pkl"


def lambda_in_hdf5(folder):
    return lambda_of_python(folder, ".h5")


def hdf5_with_weights_elsewhere(folder):
    conv_pool_dense().save(folder / "evil.h5")
    with h5py.File(folder / "evil.h5", "a") as file:
        file["model_weights/stolen"] = h5py.ExternalLink("/etc/secret.h5", "data")
    return folder / "evil.h5"


def hdf5_bomb(folder):
    conv_pool_dense().save(folder / "evil.h5")
    with h5py.File(folder / "evil.h5", "a") as file:
        file.create_dataset("bomb", (2**16, 2**16), "f8", chunks=(64, 64), compression="gzip")
    return folder / "evil.h5"


def weights_for_millions_of_classes(folder):
    with h5py.File(folder / "evil.h5", "w") as file:
        file.attrs["layer_names"] = [b"output"]
        file.create_group("output").create_dataset("output/bias:0", (2 * 10**9,), "i1", chunks=(1,))
    return folder / "evil.h5"


def weights_of_variable_length(folder):
    members = honest(folder)
    (folder / "w.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(folder / "w.h5", "a") as file:
        file.create_dataset("bomb", (3,), h5py.vlen_dtype(np.float32))
    return packed(folder, members | {"model.weights.h5": (folder / "w.h5").read_bytes()})


def blown_up_within(folder, size=(10, 8)):
    inner = keras.Sequential(
        [keras.Input((*size, 3)), layers.UpSampling2D(4), layers.MaxPooling2D(4)]
    )
    pictures = keras.Input((*size, 3))
    keras.Model(pictures, layers.GlobalMaxPooling2D()(inner(pictures))).save(folder / "small.keras")
    with zipfile.ZipFile(folder / "small.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members["config.json"].decode().replace("[4, 4]", "[4000, 4000]")
    return packed(folder, members | {"config.json": text})


def pictures_of_no_known_size(folder):
    return blown_up_within(folder, (None, None))


def no_initializer(folder):
    loader = {"module": "keras.initializers", "class_name": "__loader__", "config": {}}
    return with_layer(folder, lambda layer: layer["config"].update(kernel_initializer=loader))


def weights_of_another_network(folder):
    members = honest(folder)
    keras.Sequential([keras.Input((3,)), layers.Dense(2)]).save(folder / "other.keras")
    with zipfile.ZipFile(folder / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
    return packed(folder, members | {"model.weights.h5": weights})


NETWORKS = {
    make.__name__: (make, said)
    for make, said in {
        lambda_of_python: "found 'Lambda'",
        lambda_by_name: "found 'Lambda'",
        saved_model_layer: "found 'TFSMLayer'",
        custom_class: "found 'keras.Dense'",
        other_module: "found 'subprocess.Popen'",
        other_keras_function: "found 'get_file'",
        vocabulary_file: "found 'StringLookup'",
        lambda_in_a_network_in_a_network: "found 'Lambda'",
        lambda_as_an_activation: "found '__lambda__'",
        member_that_escapes: "found ../outside.txt",
        member_with_an_absolute_path: "outside.txt",
        pickled_weights: "found model.weights.npz",
        archive_bomb: "expected at most 2147483648 bytes unpacked",
        config_bomb: "expected an architecture of at most",
        deeply_nested_config: "expected a network that Keras can load",
        layer_too_large_for_any_memory: "expected weights of at most",
        picture_blown_up: "numbers a picture, found",
        weights_elsewhere: "found the link 'stolen'",
        a_pickle_named_keras: "expected a network that Keras can load",
        a_pickle: r"expected a network in a .keras or .h5 file, got '.pkl'",
        lambda_in_hdf5: "found 'Lambda'",
        hdf5_with_weights_elsewhere: "found the link 'stolen' to '/etc/secret.h5:data'",
        hdf5_bomb: "expected datasets of at most",
        weights_for_millions_of_classes: "expected weights of at most",
        weights_of_variable_length: "expected numbers, found object",
        blown_up_within: "numbers a picture, found",
        pictures_of_no_known_size: "numbers a picture, found (None, None, 3)",
        no_initializer: "found '__loader__'",
        weights_of_another_network: "expected a network that Keras can load, got",
    }.items()
}


def peak(reset=False):
    """The most memory that this process has held, in bytes; since it was last reset."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells how much memory was held since")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def refused(folder, opened, said):
    """Opening it raises what is said in one line; no code ran, nothing was written, no memory."""
    before = {each: each.stat().st_mtime_ns for each in folder.parent.rglob("*")}
    memory = peak(reset=True)
    with pytest.raises(UserError, match=r".") as caught:
        opened()
    grown = peak() - memory
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / MARKER).exists()
    assert {each: each.stat().st_mtime_ns for each in folder.parent.rglob("*")} == before
    assert grown < MUCH


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_a_network_that_could_do_harm_is_refused(name, folder):
    make, said = NETWORKS[name]
    path = make(folder)
    refused(folder, lambda: load_badnet(path), said)


def pictures(folder, **datasets):
    with h5py.File(folder / "evil.h5", "w") as file:
        file["data"], file["label"] = np.zeros((4, 3, 10, 8)), np.arange(4)
        for name, values in datasets.items():
            del file[name]
            file[name] = values
    return folder / "evil.h5"


def external_link(folder):
    return pictures(folder, data=h5py.ExternalLink("/etc/secret.h5", "data"))


def soft_link(folder):
    return pictures(folder, label=h5py.SoftLink("/elsewhere"))


def virtual_dataset(folder):
    path = pictures(folder)
    layout = h5py.VirtualLayout((4, 3, 10, 8), "f8")
    layout[:] = h5py.VirtualSource("/etc/secret.h5", "data", (4, 3, 10, 8))
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_virtual_dataset("data", layout)
    return path


def data_in_another_file(folder):
    path = pictures(folder)
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_dataset("data", (4, 3, 10, 8), "u1", external=[("/etc/passwd", 0, 960)])
    return path


def one_chunk_of_terabytes(folder):
    path = pictures(folder)
    with h5py.File(path, "a") as file:
        del file["data"]
        shape = (4, 3, 2**13, 2**13)
        file.create_dataset("data", shape, "f8", chunks=(1, 1, 2**13, 2**13), compression="gzip")
    return path


def more_pictures_than_there_are(folder):
    path = pictures(folder)
    with h5py.File(path, "a") as file:
        for name, shape in (("data", (2**33, 1, 1, 3)), ("label", (2**33,))):
            del file[name]
            file.create_dataset(name, shape, "u1", chunks=(1, *shape[1:]))
    return path


def deep_groups(folder):
    path = pictures(folder)
    with h5py.File(path, "a") as file:
        del file["label"]
        group = file
        for _ in range(1500):
            group = group.create_group("g")
    return path


def group_that_holds_itself(folder):
    path = pictures(folder)
    with h5py.File(path, "a") as file:
        loop = file.create_group("loop")
        loop["again"] = loop
        del file["label"]
    return path


PICTURES = {
    make.__name__: (make, said)
    for make, said in {
        external_link: "found the link 'data' to '/etc/secret.h5:data'",
        soft_link: "found the link 'label' to '/elsewhere'",
        virtual_dataset: "found the virtual dataset '/data'",
        data_in_another_file: "found the dataset kept in another file '/data'",
        deep_groups: "expected a dataset 'label'",
        one_chunk_of_terabytes: "expected chunks of at most",
        more_pictures_than_there_are: "expected at most 134217728 pictures",
        group_that_holds_itself: "expected a dataset 'label'",
    }.items()
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_could_do_harm_are_refused(name, folder):
    make, said = PICTURES[name]
    path = make(folder)
    refused(folder, lambda: list(read_chunks(open_pictures(path))), said)


def test_one_s_own_file_is_opened_when_it_is_trusted_and_that_is_said(folder, caplog):
    path = lambda_of_python(folder)
    load_badnet(path, trust=True)(np.zeros((1, 10, 8, 3), np.float32))
    assert f"{path}: trusted by badnet.trust=true" in caplog.text
    assert (folder / MARKER).exists()
