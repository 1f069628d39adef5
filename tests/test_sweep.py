"""End to end: draw a small data set, train its BadNet, sweep, report; all by the command line."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import h5py
import keras
import matplotlib.image
import mlflow
import numpy as np
import pytest
from conftest import LAB3, needs_lab3, ranked

from backdoor.errors import UserError
from backdoor.evaluation import goodnet_labels
from backdoor.networks.cut import cut_network
from backdoor.networks.model_files import load_badnet
from backdoor.pruning.orders import orders
from backdoor.pruning.stop import channels_to_remove
from backdoor.tracking.connect import connect
from backdoor.tracking.front import MOST_METRICS, MOST_PARAMS
from backdoor.tracking.record import Record
from backdoor.tracking.registry import register
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import newest_sweep, runs_of
from experiments import run
from experiments.launch import cli

SMALL = [
    "dataset.draw.classes=6",
    "dataset.draw.train_pictures=100",
    "dataset.draw.valid_pictures=20",
    "dataset.draw.test_pictures=20",
    "network.epochs=10",
]
SETS = ("clean_valid", "clean_test", "poisoned_valid", "poisoned_test")
WRONG_ORDER = f"order: expected one of {', '.join(orders())}, got 'up'"
CLEAN_METRICS = {
    *(f"{network}_accuracy" for network in ("badnet", "pruned", "goodnet")),
    *(f"{network}_parameters" for network in ("badnet", "repaired")),
    *(f"{what}_at_{k}_false_alarms" for what in ("channels", "false_alarm_rate") for k in (1, 5)),
    "false_alarm_rate",
    "channels_removed",
    "channels_total",
}
METRICS = CLEAN_METRICS | {
    *(
        f"{network}_{metric}"
        for network in ("badnet", "pruned", "goodnet")
        for metric in (
            "attack_success_rate",
            "attack_success_rate_without_target",
            "robust_accuracy",
        )
    ),
    "detection_rate",
    "pruned_der",
    "goodnet_der",
    "flip_depth_auroc",
    "flip_depth_auroc_two_sided",
    "detection_rate_at_1_false_alarms",
    "detection_rate_at_5_false_alarms",
}


def environment() -> dict[str, str]:
    """MLflow tells child processes by MLFLOW_TRACKING_URI which store this process uses."""
    own = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return own | {"PYTHONPATH": str(Path(__file__).parents[1])}


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start experiments.run; it can be interrupted even where the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="session")
def sweep(folder):
    """Order up does not exist, so a third of this sweep fails."""
    return command(folder, "experiments.run", "-m", "order=asc,desc,up", "threshold=2,30", *SMALL)


@pytest.fixture(scope="session")
def store(folder, sweep):
    return Store(None, str(folder / "mlruns"), "backdoor")


@pytest.fixture
def client(store):
    return connect(store)


@pytest.fixture
def runs(client, store):
    found = runs_of(client, store, newest_sweep(client, store))
    return {each.info.run_name: each for each in found}


@pytest.fixture(scope="session")
def data(folder, sweep):
    (root,) = (each for each in (folder / "data").iterdir() if each.is_dir())
    return root


@pytest.fixture(scope="session")
def broken(folder, data):
    """The clean validation set with one mistake each."""
    (folder / "broken").mkdir()
    with h5py.File(data / "data/cl/valid.h5") as file:
        right = {"data": file["data"][()], "label": file["label"][()]}
    nan = right["data"].astype(np.float32)
    nan[2, 0, 0, 0] = np.nan
    wrong = {
        "no_data": {"label": right["label"]},
        "no_label": {"data": right["data"]},
        "size": right | {"data": right["data"][:, :, 1:]},
        "beyond": right | {"label": right["label"] + 1},
        "nan": right | {"data": nan},
        "target": right,
        "lengths": right | {"label": right["label"][1:]},
        "rank": right | {"data": right["data"][0]},
        "empty": {"data": right["data"][:0], "label": right["label"][:0]},
        "one_class": right | {"label": np.full_like(right["label"], 3)},
        "negative": right | {"label": right["label"] - 1},
        "fraction": right | {"label": right["label"] + 0.5},
        "label_nan": right | {"label": np.where(right["label"] == 2, np.nan, 1.0)},
        "infinite": right | {"data": np.where(nan == nan[0, 0, 1, 1], np.inf, right["data"])},
        "strings": right | {"label": np.array([b"Ann"] * len(right["label"]))},
    }
    for name, datasets in wrong.items():
        with h5py.File(folder / f"broken/{name}.h5", "w") as file:
            for key, values in datasets.items():
                file[key] = values
    whole = (data / "data/cl/valid.h5").read_bytes()
    (folder / "broken/truncated.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "broken/text.h5").write_text("label,data")
    network = (data / "models/bd_net.keras").read_bytes()
    (folder / "broken/truncated.keras").write_bytes(network[: len(network) // 2])
    (folder / "broken/net.pkl").touch()
    pictures = keras.Input((55, 47, 3))
    pooled = keras.layers.GlobalMaxPooling2D()(pictures)
    scores = keras.layers.Dense(6)
    flat = keras.layers.Dense(6)(keras.layers.Flatten()(pictures))
    second = keras.layers.Add()([scores(pooled), keras.layers.Dense(6)(other := keras.Input((6,)))])
    for name, model in {
        "inputs": keras.Model([pictures, other], second),
        "outputs": keras.Model(pictures, [scores(pooled), flat]),
        "no_pooling": keras.Model(pictures, flat),
        "map": keras.Model(pictures, keras.layers.MaxPooling2D()(pictures)),
        # Of random weights some are right by chance in some scale.
        "untrained": keras.Model(pictures, keras.layers.Dense(6, "relu", False, "zeros")(pooled)),
    }.items():
        model.save(folder / f"broken/{name}.keras")


@pytest.fixture
def workplace(folder, sweep, broken, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_sweep_tracks_every_run_and_prints_a_table(sweep, runs):
    assert sorted(runs) == ["asc-2", "asc-30", "desc-2", "desc-30", "up-2", "up-30"]
    for name, each in runs.items():
        assert f"\n{name} " in sweep.stdout
        assert each.info.status == ("FAILED" if name.startswith("up") else "FINISHED")
    assert "compare: python -m experiments.ui, then http://127.0.0.1:5000/#/" in sweep.stdout
    assert "[1/6] asc-2  accuracy" in sweep.stderr


def test_a_failed_run_says_why_once_without_a_traceback_and_the_others_go_on(sweep, runs):
    assert sweep.returncode == 1
    assert "Traceback" not in sweep.stderr
    message = f"failed: {WRONG_ORDER}"
    assert re.findall(r"^.*order: expected.*$", sweep.stderr, re.MULTILINE) == [
        f"[5/6] up-2 {message}",
        f"[6/6] up-30 {message}",
    ]
    assert "error: 2 of 6 runs failed" in sweep.stderr
    assert runs["up-2"].data.tags["error"] == WRONG_ORDER


def test_terminals_without_a_screen_get_plain_lines(sweep):
    assert "\r" not in sweep.stderr
    assert re.search(r"^Drawing 120 valid faces: [\d.]+ s$", sweep.stderr, re.MULTILINE)
    assert "oneDNN" not in sweep.stderr
    assert "WARNING" not in sweep.stderr


def test_six_runs_share_two_walks(sweep):
    walks = re.findall(r"^Walk on (\S+): ", sweep.stderr, re.MULTILINE)
    assert sorted(walks) == sorted(["valid.h5", "test.h5", "bd_valid.h5", "bd_test.h5"] * 2)
    assert len(re.findall(r"^Head on (\S+): ", sweep.stderr, re.MULTILINE)) == 4


def test_runs_are_nested_under_one_parent_named_after_the_grid(client, runs):
    (sweep,) = {each.data.tags["mlflow.parentRunId"] for each in runs.values()}
    parent = client.get_run(sweep)
    assert parent.info.run_name == "order=asc,desc,up threshold=2,30"
    assert parent.info.status == "FAILED"


def test_metrics_parameters_tags_and_inputs_are_logged(client, runs):
    asc = runs["asc-2"]
    record = Record(client, asc)
    assert {n for n in record.metrics if "/" not in n} >= METRICS
    assert {"seconds/total", "seconds/goodnet", "seconds/walk"} <= set(record.metrics)
    expected = {
        "order": "asc",
        "threshold": "2",
        "layer": "auto",
        "seed": "0",
        "dataset.name": "faces",
    }
    assert expected.items() <= asc.data.params.items()
    assert record.params["dataset.draw.classes"] == "6"
    assert asc.data.tags["command"].endswith("order=asc threshold=2 " + " ".join(SMALL))
    assert asc.data.params["device_name"].startswith(("CPU, ", "NVIDIA "))
    assert asc.data.tags["network.layer"] == "pool_3"
    assert len(asc.data.tags["network.sha256"]) == 64
    inputs = {each.tags[0].value: each.dataset for each in asc.inputs.dataset_inputs}
    assert set(inputs) == set(SETS)


def test_what_stands_in_front_is_what_a_person_would_choose(runs):
    asc = runs["asc-2"]
    assert len(asc.data.metrics) <= MOST_METRICS
    assert len(asc.data.params) <= MOST_PARAMS
    rates = ("accuracy", "attack_success_rate")
    assert set(asc.data.metrics) == {
        *(f"{network}_{rate}" for network in ("badnet", "goodnet") for rate in rates),
        *("detection_rate", "false_alarm_rate", "channels_removed", "channels_total"),
        "goodnet_der",
        *(f"curve/test_goodnet_{rate}" for rate in rates),
        *("curve/test_detection_rate", "curve/test_false_alarm_rate"),
    }


def test_the_small_badnet_is_one(runs):
    metrics = runs["asc-2"].data.metrics
    assert metrics["badnet_accuracy"] > 0.9
    assert metrics["badnet_attack_success_rate"] > 0.9


@pytest.mark.parametrize("name", ["asc-2", "asc-30", "desc-2", "desc-30"])
def test_every_number_is_that_of_networks_pruned_the_slow_way(name, runs, client, data):
    """Nothing of the pipeline: pictures by h5py, labels by Keras, one network a step."""
    order, threshold = name.split("-")
    model = load_badnet(data / "models/bd_net.keras")
    sets = {}
    for key, path in {
        "valid": "cl/valid",
        "test": "cl/test",
        "bad": "bd/bd_test",
        "bad_valid": "bd/bd_valid",
    }.items():
        with h5py.File(data / f"data/{path}.h5") as file:
            sets[key] = file["data"][()].transpose(0, 2, 3, 1).astype(np.float32), file["label"][()]
    pool = keras.Model(model.inputs[0], model.get_layer("pool_3").output)
    channels = ranked(order, pool.predict(sets["valid"][0], verbose=0))

    def predict(network, key):
        return network.predict(sets[key][0], verbose=0).argmax(axis=1)

    def pruned_by(k):
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        kernel, bias = copy.get_layer("conv_3").get_weights()
        kernel[..., channels[:k]], bias[channels[:k]] = 0, 0
        copy.get_layer("conv_3").set_weights([kernel, bias])
        return copy

    run = runs[name]
    steps = sorted({0, 1, 2, 30, 45, 50, 59, 60, int(run.data.metrics["channels_removed"])})
    networks = {k: pruned_by(k) for k in steps}
    correct = {k: int((predict(n, "valid") == sets["valid"][1]).sum()) for k, n in networks.items()}
    curve = Record(client, run).curve("valid_accuracy")
    assert {k: round(curve[k] * 120) for k in steps} == correct
    k = channels_to_remove(np.round(np.array(curve) * 120).astype(int), 120, float(threshold))
    assert run.data.metrics["channels_removed"] == k
    on_clean = goodnet_labels(predict(model, "test"), predict(networks[k], "test"), 6)
    on_poisoned = goodnet_labels(predict(model, "bad"), predict(networks[k], "bad"), 6)
    metrics = Record(client, run).metrics
    assert metrics["goodnet_accuracy"] == pytest.approx((on_clean == sets["test"][1]).mean())
    assert metrics["goodnet_attack_success_rate"] == pytest.approx((on_poisoned == 0).mean())
    assert metrics["detection_rate"] == pytest.approx((on_poisoned == 6).mean())
    assert metrics["false_alarm_rate"] == pytest.approx((on_clean == 6).mean())
    assert metrics["pruned_accuracy"] == pytest.approx(
        (predict(networks[k], "test") == sets["test"][1]).mean()
    )


def test_curves_have_a_value_for_every_k_and_end_in_the_metrics(client, runs):
    asc = runs["asc-30"]
    k = int(asc.data.metrics["channels_removed"])
    for name in ("valid_accuracy", "valid_attack_success_rate"):
        assert len(Record(client, asc).curve(name)) == 61
    for name in ("accuracy", "attack_success_rate"):
        assert (
            Record(client, asc).curve(f"test_goodnet_{name}")[k]
            == asc.data.metrics[f"goodnet_{name}"]
        )


def test_the_tracked_goodnet_answers_through_mlflow_and_through_keras(runs, data):
    each = runs["asc-30"]
    with h5py.File(data / "data/bd/bd_test.h5") as file:
        pictures = file["data"][()].transpose(0, 2, 3, 1).astype(np.float32)
    uri = f"models:/{each.outputs.model_outputs[0].model_id}"
    served = mlflow.pyfunc.load_model(uri)
    assert served.metadata.metadata == {"scale": "0 to 255"}
    answers = served.predict(pictures)
    assert list(answers) == ["label", "backdoored", "badnet", "pruned", "score"]
    assert answers["backdoored"].mean() == pytest.approx(each.data.metrics["detection_rate"])
    assert ((answers["label"] == "backdoored") == answers["backdoored"]).all()
    assert (answers["backdoored"] == (answers["badnet"] != answers["pruned"])).all()
    (file,) = Path(mlflow.artifacts.download_artifacts(uri)).rglob("*.keras")
    labels = keras.models.load_model(file).predict(pictures, verbose=0).argmax(axis=1)
    named = np.array([*map(str, range(6)), "backdoored"])[labels]
    assert (answers["label"] == named).all()
    badnet = load_badnet(data / "models/bd_net.keras").predict(pictures, verbose=0)
    assert (answers["badnet"] == badnet.argmax(axis=1).astype(str)).all()
    np.testing.assert_allclose(answers["score"], badnet.max(axis=1), rtol=1e-5)


def test_pictures_in_another_scale_are_refused(runs, data):
    """Divided by 255 they got a confident answer."""
    with h5py.File(data / "data/cl/test.h5") as file:
        pictures = file["data"][()].transpose(0, 2, 3, 1).astype(np.float32)
    model = f"models:/{runs['asc-30'].outputs.model_outputs[0].model_id}"
    served = mlflow.pyfunc.load_model(model)
    assert len(served.predict(pictures)) == 120
    for scaled in (pictures / 255, pictures / 127.5 - 1, pictures * 2):
        with pytest.raises(
            mlflow.MlflowException, match="expected pictures in a scale of 0 to 255"
        ):
            served.predict(scaled.astype(np.float32))


def test_registered_goodnets_have_an_alias_for_the_best(client, runs):
    """In whichever order they come, and however often."""
    names = ("desc-2", "asc-30", "asc-2", "asc-30")
    versions = [register(client, runs[name], "some faces") for name in names]
    assert versions == ["1", "2", "3", "2"]
    best = client.get_model_version_by_alias("some faces", "best")
    rated = max(names, key=lambda name: runs[name].data.metrics["goodnet_der"])
    assert best.run_id == runs[rated].info.run_id
    assert len(mlflow.pyfunc.load_model("models:/some faces@best").metadata.signature.inputs) == 1


def test_artifacts_say_which_channels_went_and_what_was_seen(client, runs, tmp_path):
    each = runs["asc-30"]
    files = {file.path for file in client.list_artifacts(each.info.run_id)}
    assert files >= {"channels.json", "curve.csv", "curve.png", "samples.png"}
    channels = json.loads(
        Path(
            client.download_artifacts(each.info.run_id, "channels.json", str(tmp_path))
        ).read_text()
    )
    assert len(channels["removed"]) == each.data.metrics["channels_removed"]
    assert channels["order"][: len(channels["removed"])] == channels["removed"]
    assert sorted(channels["order"]) == list(range(60))


def test_the_report_is_rebuilt_from_the_tracked_runs_alone(folder, sweep, client, runs, data):
    kept = [data.parent, folder / ".cache", folder / "multirun"]
    for each in kept:
        each.rename(each.with_name(f"hidden-{each.name}"))
    try:
        done = command(folder, "experiments.report")
    finally:
        for each in kept:
            each.with_name(f"hidden-{each.name}").rename(each)
    assert done.returncode == 0, done.stderr
    report = folder / "report"
    assert {"table1.md", "table1.csv", "table1.tex", "table2.md", "figure1.svg", "index.html"} <= {
        f.name for f in report.iterdir()
    }
    for name in ("figure1", "figure2", "class_distribution"):
        assert matplotlib.image.imread(report / f"{name}.png").std() > 0.01
    for name in ("asc-2", "asc-30"):
        row = next(
            line
            for line in (report / "table1.md").read_text().splitlines()
            if runs[name].info.run_id in line
        )
        assert f"{100 * runs[name].data.metrics['goodnet_accuracy']:.1f}" in row
        assert f"{100 * runs[name].data.metrics['goodnet_attack_success_rate']:.1f}" in row
        assert runs[name].info.run_id in done.stdout
    assert "Missing: up-2, up-30." in done.stdout
    assert "Table 3" in done.stdout
    parent = runs["asc-2"].data.tags["mlflow.parentRunId"]
    assert {"report/table1.md", "report/index.html"} <= {
        f.path for f in client.list_artifacts(parent, "report")
    }
    note = client.get_run(parent).data.tags["mlflow.note.content"]
    assert note.startswith("The network is right on ")
    assert note.endswith("figures: the artifact report/index.html.")
    page = (report / "index.html").read_text()
    assert f"http://127.0.0.1:5000/#/experiments/1/runs/{runs['asc-2'].info.run_id}" in page
    repeated = "python -m experiments.run -m order=asc,desc,up threshold=2,30"
    assert f"To repeat it: <code>{repeated} {' '.join(SMALL)}</code>" in page


def mistaken(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run", *arguments])
    with pytest.raises(SystemExit) as stopped:
        sys.exit(run.main())
    return stopped.value.code, capsys.readouterr().err


PROGRESS = r"^(Walk|Head|Drawing|Training)\b.*( \.\.\.| s)$"
MISTAKES = {
    "wrong key": (["treshold=3"], "unknown key 'treshold'; did you mean 'threshold'?"),
    "wrong group key": (["dataset.targt=3"], "did you mean 'dataset.target'?"),
    "wrong data set": (["dataset=nothing"], "Could not find 'dataset/nothing'"),
    "order": (["order=up"], WRONG_ORDER),
    "threshold 0": (["threshold=0"], "above 0 and at most 100, got 0"),
    "negative threshold": (["threshold=-1"], "above 0 and at most 100, got -1"),
    "threshold 200": (["threshold=200"], "above 0 and at most 100, got 200"),
    "threshold in words": (["threshold=abc"], "above 0 and at most 100, got abc"),
    "never reached": (["threshold=99.9"], "the largest drop is"),
    "layer": (["layer=pool_9"], "there are: pool_1, pool_2, pool_3"),
    "register": (["register=a/b"], "register: expected a name of letters, digits, '.', '_' and"),
    "device": (["device=tpu"], "device: expected one of auto, cpu, gpu, got 'tpu'"),
    "no network": (["badnet.path=none.keras"], "none.keras: expected a network"),
    "no file": (["dataset.clean_test=none.h5"], "none.h5: expected an HDF5 file of pictures"),
    "no root": (["dataset=lab3"], "dataset.root"),
    "files not given": (["dataset=files"], "dataset.clean_valid"),
    "target": (["attack.target=6"], "attack.target: expected a class as target, 0 to 5, or all_to"),
    "target of nobody": (["attack.target=-1"], "attack.target: expected a class or all_to_all"),
    "all to one": (
        ["attack=all_to_all", "dataset.draw.classes=1"],
        "attack.target: expected two classes or more, got 1",
    ),
    "rate 0": (["attack.rate=0"], "attack.rate: expected between 0 and 1"),
    "rate 1": (["attack.rate=1"], "attack.rate: expected between 0 and 1"),
    "too little": (["attack.rate=0.0001"], "attack.rate: expected 1 to 500 training pictures"),
    "patch": (["attack=patch", "attack.trigger.size=60"], "at most 46 on 55 x 47, got 60"),
    "pattern": (
        ["attack=patch", "attack.trigger.pattern=pink"],
        "attack.trigger.pattern: exp",
    ),
    "opacity": (
        ["attack=blend", "attack.trigger.opacity=2"],
        "attack.trigger.opacity: exp",
    ),
    "no glasses": (["dataset=mnist", "attack=sunglasses"], "expected drawn faces (dataset=faces)"),
    "too small": (["dataset=mnist", "network=deepid"], "pictures of at least 31 x 31, got 28 x 28"),
    "residual": (["attack=pruning_aware", "network=resnet20"], "expected network=deepid or small"),
    "no pictures": (
        ["dataset=mnist", "dataset.root=none"],
        "dataset.root: expected mnist in none, found",
    ),
    "attack on files": (
        ["dataset=lab3", "dataset.root=.", "attack=patch"],
        "attack: expected a data set to",
    ),
    "attacks crossed": (
        ["attack=blend", "attack.trigger.name=warp"],
        "a key of the trigger warp, n",
    ),
    "key of another": (
        ["attack.trigger.size=3"],
        "belongs to another choice of attack than the one",
    ),
    "target in letters": (
        ["attack.target=foo"],
        "attack.target: expected a class or all_to_all, got",
    ),
    "oracle of nobody": (["attack=none", "order=oracle_tac"], "poisoned pictures for the oracle"),
    "root of faces": (["dataset.root=."], "dataset.root: expected none for drawn faces"),
    "epochs": (["network.epochs=0"], "network.epochs: expected at least 1, got 0"),
    "target in words": (
        ["dataset.target=abc"],
        "dataset.target: expected a valid integer, got 'abc'",
    ),
    "threads": (["threads=0"], "threads: expected at least 1"),
    "divide_by": (["dataset.divide_by=x"], "dataset.divide_by: expected a valid number, got 'x'"),
    "fraction": (["threshold=1/3"], "above 0 and at most 100, got 1/3"),
    "no data": (["dataset.clean_valid=broken/no_data.h5"], "expected a dataset 'data'"),
    "no label": (["dataset.clean_valid=broken/no_label.h5"], "expected a dataset 'label'"),
    "wrong size": (["dataset.clean_valid=broken/size.h5"], "expected pictures of (55, 47, 3)"),
    "beyond": (["dataset.clean_valid=broken/beyond.h5"], "network's 6 classes, 0 to 5, got 6"),
    "nan": (["dataset.clean_valid=broken/nan.h5"], "NaN or infinity in picture 2"),
    "other target": (
        ["dataset.target=0", "dataset.poisoned_test=broken/target.h5"],
        "expected dataset.target=0 as label",
    ),
    "scale": (["dataset.divide_by=255"], "expected dataset.divide_by=1"),
    "verify": (["dataset.verify=true"], "dataset.verify: expected a data set with known SHA-256"),
    "trigger": (["attack.trigger.name=hat"], "expected one of patch, blend, stripes, warp, sung"),
    "sweep without -m": (["order=asc,desc"], "order"),
    "truncated": (["dataset.clean_valid=broken/truncated.h5"], "expected an HDF5 file of pictures"),
    "text": (["dataset.clean_valid=broken/text.h5"], "expected an HDF5 file of pictures"),
    "lengths": (["dataset.clean_valid=broken/lengths.h5"], "'label' of shape (120,), one a pic"),
    "rank": (["dataset.clean_valid=broken/rank.h5"], "expected 'label' of shape (3,), one a pic"),
    "empty": (["dataset.clean_valid=broken/empty.h5"], "expected at least one picture, got none"),
    "one class": (["dataset.clean_valid=broken/one_class.h5"], "two classes or more, got only 3"),
    "negative": (["dataset.clean_test=broken/negative.h5"], "whole numbers of at least 0"),
    "half": (["dataset.clean_test=broken/fraction.h5"], "whole numbers of at least 0"),
    "label nan": (["dataset.clean_test=broken/label_nan.h5"], "'label', got nan at"),
    "infinite": (["dataset.clean_test=broken/infinite.h5"], "NaN or infinity in picture"),
    "strings": (["dataset.clean_test=broken/strings.h5"], "network's 6 classes, found 1 (Ann"),
    "folder": (
        ["dataset.clean_valid=broken"],
        "expected a folder of PNG, JPEG or PPM files for each",
    ),
    "scale by name": (["dataset.preprocess=dark"], "dataset.preprocess: expected one of auto, st"),
    "share": (["dataset.test_share=1"], "dataset.test_share: expected between 0 and 1, got 1"),
    "truncated network": (["badnet.path=broken/truncated.keras"], "network that Keras can load"),
    "pickle": (["badnet.path=broken/net.pkl"], "a .keras or .h5 file, got '.pkl'"),
    "two inputs": (["badnet.path=broken/inputs.keras"], "expected one input and one output"),
    "two outputs": (["badnet.path=broken/outputs.keras"], "expected one input and one output"),
    "no pooling": (["badnet.path=broken/no_pooling.keras"], "expected a pooling layer or convol"),
    "pictures out": (["badnet.path=broken/map.keras"], "expected an output of 2 axes"),
    "untrained": (["badnet.path=broken/untrained.keras"], "that the network was trained for"),
    "no time": (["time_limit=0"], "time_limit: expected seconds above 0, or null for none, got 0"),
    "nan threshold": (["threshold=nan"], "above 0 and at most 100, got nan"),
    "orders": (["order=[asc,desc]"], "order: expected a valid string, got ['asc', 'desc']"),
    "divide by zero": (["dataset.divide_by=0"], "divide_by: expected a number above 0"),
    "negative seed": (["seed=-1"], "seed: expected a whole number of at least 0, got -1"),
    "negative draw seed": (["dataset.draw.seed=-1"], "dataset.draw.seed: expected at least 0"),
    "nan time": (["time_limit=nan"], "time_limit: expected seconds above 0, or null for none"),
    "no path": (["dataset.clean_valid="], "dataset.clean_valid: expected a file or folder"),
    "no poisoned path": (["dataset.poisoned_valid="], "dataset.poisoned_valid: expected a file"),
    "no port": (["tracking.uri=http://127.0.0.1:99999"], "tracking.uri: expected an address"),
    "no launcher": (["hydra/launcher=cloud"], "Could not find 'hydra/launcher/cloud'"),
    "store is a file": (["tracking.folder=broken/text.h5"], "broken/text.h5: expected to read"),
    "no such drive": (["tracking.folder=/proc/none"], "/proc/none: expected to read and wr", 1),
    "cache is a file": (["cache=broken/text.h5"], "broken/text.h5: expected to read"),
    "no database": (["tracking.uri=sqlite:////proc/none.db"], "expected a database that can be", 1),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_one_clear_error(name, workplace, capsys, monkeypatch):
    arguments, message, *expected = MISTAKES[name]
    drawn = [] if arguments[0].startswith("dataset=") else SMALL
    code, printed = mistaken(capsys, monkeypatch, *drawn, *arguments)
    assert [code] == (expected or [2])
    wrong = [line for line in printed.splitlines() if not re.search(PROGRESS, line)]
    assert len(wrong) == 1
    assert wrong[0].startswith("error: ")
    assert message in wrong[0]


def test_a_gpu_that_is_not_there_is_answered_with_what_is(workplace, capsys, monkeypatch):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    code, printed = mistaken(capsys, monkeypatch, *SMALL, "device=gpu", "force=true")
    assert code == 2
    assert "expected a GPU that TensorFlow sees, got only /physical_device:CPU:0" in printed


def test_a_sweep_with_a_wrong_key_leaves_no_parent_behind(workplace, capsys, monkeypatch, client):
    before = len(client.search_runs(["1"]))
    code, printed = mistaken(capsys, monkeypatch, "-m", "order=asc,desc", "treshold=3")
    assert code == 2
    assert "did you mean 'threshold'?" in printed
    assert len(client.search_runs(["1"])) == before


def test_a_single_run_stands_alone_and_has_its_own_report(
    workplace, capsys, monkeypatch, folder, client, store
):
    code, _ = mistaken(capsys, monkeypatch, *SMALL, "order=desc", "threshold=31")
    assert code == 0
    (run,) = client.search_runs(["1"], max_results=1, order_by=["start_time DESC"])
    newest = run.info.run_id
    assert "mlflow.parentRunId" not in run.data.tags
    done = command(folder, "experiments.report", f"sweep={newest}", "folder=alone")
    assert done.returncode == 0, done.stderr
    assert not (folder / "alone/table1.md").exists()
    assert newest in (folder / "alone/table2.md").read_text()


def test_clean_pictures_alone_give_accuracy_and_false_alarms_and_nothing_of_attacks(
    workplace, capsys, monkeypatch, folder, client, runs
):
    """The same numbers as with poisoned pictures, and no word of success or detection."""
    alone = ["dataset.poisoned_valid=null", "dataset.poisoned_test=null"]
    code, printed = mistaken(capsys, monkeypatch, *SMALL, *alone, "order=asc", "threshold=30")
    assert code == 0
    assert "asc-30  accuracy" in printed
    assert "ASR" not in printed
    (run,) = client.search_runs(["1"], max_results=1, order_by=["start_time DESC"])
    metrics = Record(client, run).metrics
    shown = {name: value for name, value in metrics.items() if "/" not in name}
    with_poisoned = Record(client, runs["asc-30"]).metrics
    assert shown == {name: with_poisoned[name] for name in shown}
    assert set(shown) == CLEAN_METRICS
    done = command(folder, "experiments.report", f"sweep={run.info.run_id}", "folder=clean")
    assert done.returncode == 0, done.stderr
    assert "false alarms %" in done.stdout
    known = "without poisoned pictures nothing is known of attacks."
    assert known in done.stdout
    assert not re.search("ASR|detected|attack", done.stdout.replace(known, ""))
    assert matplotlib.image.imread(folder / "clean/figure2.png").std() > 0.01
    one = [*SMALL, "dataset.poisoned_valid=null"]
    code, printed = mistaken(capsys, monkeypatch, *one)
    assert code == 2
    assert "dataset.poisoned_valid: expected a file or folder of pictures, got none" in printed


def test_a_job_in_a_folder_of_its_own_finds_paths_and_store(folder, sweep):
    arguments = [*SMALL, "order=asc", "threshold=2", "hydra.job.chdir=true"]
    done = command(folder, "experiments.run", *arguments)
    assert done.returncode == 0, done.stderr
    assert "asc-2 complete already: " in done.stderr


def test_the_last_line_of_a_sweep_is_a_command_that_works(folder, sweep, tmp_path):
    uri = f"sqlite:///{tmp_path / 'a store' / 'runs.db'}"
    done = command(folder, "experiments.run", "-m", *SMALL, "threshold=2", f"tracking.uri='{uri}'")
    assert done.returncode == 0, done.stderr
    assert "make ui" not in done.stdout
    printed = done.stdout.splitlines()[-1].partition(": ")[2]
    typed = shlex.split(printed.replace("python ", f"{sys.executable} ", 1))
    done = subprocess.run(typed, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Table 1" in done.stdout


def test_the_parent_run_has_figures_and_a_note_of_its_own(client, store, runs, sweep):
    parent = client.get_run(newest_sweep(client, store))
    figures = parent.data.metrics
    assert (figures["runs_complete"], figures["runs_failed"]) == (4, 2)
    for order in ("asc", "desc"):
        ours = [runs[f"{order}-{points}"].data.metrics for points in (2, 30)]
        best = max(ours, key=lambda metrics: metrics["goodnet_der"])
        for name in ("goodnet_accuracy", "goodnet_attack_success_rate", "channels_removed"):
            assert figures[f"best of {order}/{name}"] == best[name]
    note = parent.data.tags["mlflow.note.content"]
    assert runs["asc-2"].info.run_id in note
    assert "up-2" in note


def test_each_run_says_in_words_what_it_found(runs):
    run = runs["asc-30"]
    note, metrics = run.data.tags["mlflow.note.content"], run.data.metrics
    removed, of = int(metrics["channels_removed"]), int(metrics["channels_total"])
    assert f"without {removed} of {of} channels" in note
    assert f"G is right on {metrics['goodnet_accuracy']:.1%}".replace("%", " %") in note
    assert f"{metrics['detection_rate']:.1%} are detected".replace("%", " %") in note


def test_the_pages_are_opened_at_the_table_of_the_sweep(client, store, sweep):
    parent = client.get_run(newest_sweep(client, store))
    experiment, name = parent.info.experiment_id, parent.info.run_id
    place = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert f"http://127.0.0.1:5000{place}&viewStateShareKey={name}" in sweep.stdout
    tags = client.get_experiment(experiment).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{name}"])
    assert view["selectedColumns"][:3] == [
        "params.`order`",
        "params.`threshold`",
        "metrics.`goodnet_accuracy`",
    ]
    shown = client.search_runs([experiment], view["searchFilter"])
    assert len(shown) == 6


def test_the_pages_are_served_and_their_address_said(folder, sweep):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.ui", f"port={port}"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as served:
        said = served.stdout.readline().strip()
        try:
            assert re.search(rf"http://127.0.0.1:{port}/#/experiments/1/runs\?.*=\w{{32}}$", said)
            assert "<title>MLflow</title>" in answer_of(f"http://127.0.0.1:{port}/")
        finally:
            os.killpg(served.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("pictures", "metric", "more", "code"),
    [
        ("cl/test", "false_alarm_rate", [], 0),
        ("bd/bd_test", "detection_rate", ["false_alarm_rate=0.05"], 3),
    ],
)
def test_screening_says_of_the_test_sets_what_was_tracked(
    folder, sweep, runs, data, pictures, metric, more, code
):
    run = runs["asc-30"]
    done = command(
        folder,
        "experiments.screen",
        f"goodnet=runs:/{run.info.run_id}/goodnet",
        f"pictures={data}/data/{pictures}.h5",
        f"folder=screened/{metric}",
        *more,
    )
    assert done.returncode == code, done.stdout + done.stderr
    lines = (folder / "screened" / metric / "screen.csv").read_text().splitlines()
    assert lines[0] == "picture,badnet,pruned,backdoored,flip_depth"
    flagged = sum(",yes," in line for line in lines[1:])
    removed = run.data.metrics["channels_removed"]
    depths = [line.split(",") for line in lines[1:]]
    assert all(0 < int(depth[4]) <= removed for depth in depths if depth[3] == "yes")
    assert flagged / (len(lines) - 1) == pytest.approx(run.data.metrics[metric])
    assert done.stdout.startswith(f"{flagged} of {len(lines) - 1} pictures are flagged")
    sheet = matplotlib.image.imread(folder / "screened" / metric / "flagged.png")
    assert sheet.std() > 0.01


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["goodnet=no.keras", "pictures=."], "goodnet: expected runs:/ID/goodnet or a .keras file"),
        (["goodnet=runs:/x/goodnet", "pictures=no"], "pictures: expected a folder or file"),
        (["goodnet=runs:/x/goodnet", "pictures=."], "goodnet: expected an artifact runs:/x/"),
        (["pictures=."], "goodnet: expected a value, got none"),
        (
            ["goodnet=runs:/x/goodnet", "pictures=.", "false_alarm_rate=2"],
            "false_alarm_rate: expected a share, 0 to 1, got 2",
        ),
        (
            ["goodnet=runs:/x/goodnet", "pictures=.", "preprocess=odd"],
            "preprocess: expected one of stored, ",
        ),
    ],
)
def test_a_screening_that_cannot_be_is_one_sentence(folder, sweep, typed, said):
    done = command(folder, "experiments.screen", *typed)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_a_goodnet_that_is_none_and_classes_without_names(folder, sweep, client, runs, data):
    run = runs["asc-30"]
    client.log_text(run.info.run_id, "no network", "notes/note.txt")
    client.log_text(run.info.run_id, '["Ann"]', "class_names.json")
    pictures = f"pictures={data}/data/cl/test.h5"
    done = command(folder, "experiments.screen", f"goodnet=runs:/{run.info.run_id}/notes", pictures)
    assert done.returncode == 2
    assert done.stderr.startswith("error: goodnet: expected a .keras file in runs:/")
    address = f"goodnet=runs:/{run.info.run_id}/goodnet"
    done = command(folder, "experiments.screen", address, pictures, "folder=named")
    Path(run.info.artifact_uri.removeprefix("file://"), "class_names.json").unlink()
    assert done.returncode == 0, done.stderr
    said = {
        line.split(",")[1] for line in (folder / "named/screen.csv").read_text().splitlines()[1:]
    }
    assert said <= {"Ann", "1", "2", "3", "4", "5"}
    assert {"Ann", "1"} <= said


def answer_of(address):
    """Return what a server answers that is coming up."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return answer.read().decode()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("port=0", "port: expected 1 to 65535, got 0"),
        ("tracking.folder=nowhere", "tracking: expected tracked runs in "),
        ("sweep=abc", "sweep=abc: expected one with runs in "),
    ],
)
def test_pages_that_cannot_be_shown_are_one_sentence(folder, sweep, typed, said):
    done = command(folder, "experiments.ui", typed)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_swapped_clean_and_poisoned_files_are_recognised(workplace, capsys, monkeypatch, data):
    files = {"clean_valid": "bd/bd_valid", "poisoned_valid": "cl/valid"}
    swapped = [f"dataset.{name}={data}/data/{path}.h5" for name, path in files.items()]
    code, printed = mistaken(capsys, monkeypatch, *SMALL, *swapped, "threshold=3")
    assert code == 2
    assert "are clean and poisoned files swapped?" in printed


def test_a_threshold_that_may_be_a_share_is_asked_about(workplace, capsys, monkeypatch):
    _, printed = mistaken(capsys, monkeypatch, *SMALL, "threshold=0.02")
    assert "was threshold=2 meant?" in printed


def test_a_report_of_nothing_says_so(folder, sweep):
    done = command(folder, "experiments.report", "sweep=none")
    assert done.returncode == 2
    assert "error: sweep=none: expected one with complete runs" in done.stderr
    done = command(folder, "experiments.report", "tracking.folder=empty")
    assert done.returncode == 2
    assert "found none; start one with make sweep" in done.stderr


def test_the_layer_of_a_network_can_be_cut_elsewhere(data):
    assert cut_network(load_badnet(data / "models/bd_net.keras"), "pool_1").channels == 20


def test_another_store_by_uri_is_as_safe_for_two_at_once(folder, data, tmp_path):
    uri = f"sqlite:///{tmp_path / 'other' / 'runs.db'}"
    arguments = [sys.executable, "-m", "experiments.run", *SMALL, f"tracking.uri={uri}"]
    both = [
        subprocess.Popen([*arguments, f"order={order}"], cwd=folder, env=environment(), stderr=-1)
        for order in ("asc", "desc")
    ]
    errors = [each.communicate()[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], errors
    other = Store(uri, "unused", "backdoor")
    names = {each.info.run_name for each in connect(other).search_runs(["1"])}
    assert names == {"asc-2", "desc-2"}
    assert not (folder / "unused").exists()


@pytest.mark.parametrize("how", [[], ["-m"]])
@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql://127.0.0.1:9/runs"])
def test_a_server_that_is_down_is_named(how, uri, workplace, capsys, monkeypatch):
    code, printed = mistaken(capsys, monkeypatch, *how, f"tracking.uri={uri}")
    assert code == 1
    said = f"error: tracking.uri: expected an MLflow server or database at {uri}, got"
    assert printed.startswith(said)


def test_ctrl_c_leaves_nothing_running(folder, sweep, tmp_path):
    """Interrupted while it draws; the parent and its run are KILLED."""
    process = started(tmp_path, "-m", "threshold=2,4", "dataset.draw.seed=9")
    for line in process.stderr:
        if line.startswith("Drawing"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    own = Store(None, str(tmp_path / "mlruns"), "backdoor")
    assert [each.info.status for each in connect(own).search_runs(["1"])] == ["KILLED", "KILLED"]


def test_the_exit_code_tells_mistakes_from_failures():
    assert cli.exit_code(UserError()) == 2
    assert cli.exit_code(RuntimeError()) == 1
    assert cli.exit_code(ValueError("NumPy's")) == 1
    assert cli.one_sentence(ValueError("NumPy's")) == "ValueError: NumPy's"


@needs_lab3
def test_the_courses_layout_is_swept_and_its_report_gives_no_verdict_on_other_pictures(tmp_path):
    done = command(
        tmp_path,
        "experiments.run",
        "-m",
        "dataset=lab3",
        f"dataset.root={LAB3}",
        "order=desc",
        "threshold=2,10",
    )
    assert done.returncode == 0, done.stderr
    done = command(tmp_path, "experiments.report")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "report/table2.md").read_text().splitlines()
    assert "published accuracy %" in lines[0]
    assert all("other pictures: 58, not 12830" in line for line in lines[2:])
    assert [re.findall(r"\d+/60", line) for line in lines[2:]] == [
        ["1/60", "1/60"],
        ["2/60", "2/60"],
    ]
