import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import LAB3, needs_lab3
from keras import layers

from backdoor.errors import UserError
from backdoor.networks.deepid import build_deepid
from backdoor.networks.model_files import load_badnet


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_is_saved_is_loaded(network, pictures, tmp_path, suffix):
    network.save(tmp_path / f"net{suffix}")
    loaded = load_badnet(tmp_path / f"net{suffix}")
    np.testing.assert_array_equal(
        loaded.predict(pictures, verbose=0), network.predict(pictures, verbose=0)
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_was_made_here_is_opened_here_from_any_folder(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    made = build_deepid(7)
    made.save(f"net{suffix}")
    loaded = load_badnet(f"net{suffix}", limits=None)
    for was, found in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(found, was)


def test_a_compiled_network_is_loaded(network, tmp_path):
    network.compile("adam", "mse")
    network.save(tmp_path / "net.keras")
    assert load_badnet(tmp_path / "net.keras").output_shape == (None, 5)


def weights_in_keras_2_layout(model, path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"] = b"2.3.1"
        file.attrs["backend"] = b"tensorflow"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{kind}:0" for kind in ("kernel", "bias")][: len(layer.weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, values in zip(names, layer.get_weights(), strict=True):
                group[name] = values


def test_the_weights_of_a_deepid_alone_say_how_many_classes_it_has(tmp_path):
    model = build_deepid(7)
    weights_in_keras_2_layout(model, tmp_path / "w.h5")
    loaded = load_badnet(tmp_path / "w.h5")
    assert loaded.output_shape == (None, 7)
    for was, found in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(found, was)


def test_deepid_has_the_parameters_of_the_paper():
    assert build_deepid(1283).count_params() == 601643


@needs_lab3
def test_the_published_weights_are_loaded():
    model = load_badnet(LAB3 / "models/bd_weights.h5")
    assert model.output_shape == (None, 1283)


def refused(path, name):
    with pytest.raises(
        UserError, match="refused to open it: expected only Keras' own layers"
    ) as caught:
        load_badnet(path)
    assert name in str(caught.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_python_code_in_a_network_is_refused_and_not_run(tmp_path, suffix):
    marker = tmp_path / "ran"

    def code(x, marker=str(marker)):
        from pathlib import Path

        Path(marker).touch()
        return x

    pictures = keras.Input((8, 8, 3))
    x = layers.Lambda(code, output_shape=(8, 8, 3))(pictures)
    keras.Model(pictures, layers.GlobalMaxPooling2D()(x)).save(tmp_path / f"evil{suffix}")
    marker.unlink(missing_ok=True)
    refused(tmp_path / f"evil{suffix}", "Lambda")
    assert not marker.exists()


def test_a_network_within_a_network_is_looked_into(tmp_path):
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Lambda(lambda x: x, output_shape=(8, 8, 3))]
    )
    pictures = keras.Input((8, 8, 3))
    keras.Model(pictures, layers.GlobalMaxPooling2D()(inner(pictures))).save(tmp_path / "n.keras")
    refused(tmp_path / "n.keras", "Lambda")


def with_config(network_path, change):
    """Rewrite the architecture in a .keras file."""
    with zipfile.ZipFile(network_path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(network_path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return network_path


CHANGES = {
    "custom class": {"module": "evil", "class_name": "Dense", "registered_name": "evil>Dense"},
    "other module": {"module": "os", "class_name": "Dense"},
    "module that begins alike": {"module": "keras_evil.layers", "class_name": "Dense"},
    "registered under another name": {"registered_name": "evil>Dense"},
    "TFSMLayer": {"class_name": "TFSMLayer"},
    "vocabulary file": {"class_name": "StringLookup"},
    "function": {"class_name": "function", "config": "eval"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_a_known_safe_layer_is_refused(network, tmp_path, name):
    network.save(tmp_path / "net.keras")
    path = with_config(
        tmp_path / "net.keras", lambda config: config["config"]["layers"][-1].update(CHANGES[name])
    )
    refused(path, CHANGES[name].get("class_name", "Dense"))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_that_is_no_network_is_refused(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(UserError, match="expected a network that Keras can load"):
        load_badnet(path)


def test_an_hdf5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(
        UserError, match=r"expected a Keras network or DeepID's weights, found \['data'\]"
    ):
        load_badnet(tmp_path / "data.h5")


def test_a_pickle_and_a_missing_file_are_told_apart(tmp_path):
    (tmp_path / "net.pkl").touch()
    with pytest.raises(
        UserError, match=r"expected a network in a \.keras or \.h5 file, got '\.pkl'"
    ):
        load_badnet(tmp_path / "net.pkl")
    with pytest.raises(UserError, match="found no such file"):
        load_badnet(tmp_path / "none.keras")
