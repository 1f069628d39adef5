"""What a run leaves: everything that is written is read back, and each change of it is noticed."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest
from conftest import bed_of
from matplotlib.figure import Figure
from test_detection import CLEAN, POISONED, TRUTH, colour_network, pixels

from backdoor.detection import detect
from backdoor.networks.goodnet import build_goodnet, saved_and_loaded
from backdoor.pictures.brightness import brightness
from backdoor.repaired import repair
from backdoor.samples import UNKNOWN, sample_pictures, worst_mistakes
from backdoor.tracking import record
from backdoor.tracking.connect import connect
from backdoor.tracking.front import MOST_METRICS, MOST_PARAMS, front_metrics, front_params
from backdoor.tracking.front import PARAMS as USUAL_PARAMS
from backdoor.tracking.record import Record
from backdoor.tracking.runs import tracked_run
from backdoor.tracking.store import Store

PARAMS = {"order": "asc", "threshold": 40, "dataset.target": 0}


def written(folder, poisoned, how="prune"):
    """A run of the network whose answers tests/test_detection.py writes down."""
    for name in ("files", "data"):
        (folder / name).mkdir()
    clean = {"data": pixels(CLEAN), "label": TRUTH}
    attacked = {"data": pixels(POISONED), "label": np.zeros(3)} if poisoned else None
    bed = bed_of(folder / "data", clean, attacked)
    network = colour_network()
    outcome = detect(network, bed, "asc", [40])
    client = connect(Store(None, str(folder / "mlruns"), "backdoor"))
    rng = np.random.default_rng(0)
    with tracked_run("asc-40", PARAMS, folder / "running") as run_id:
        goodnet = build_goodnet(network, outcome.removed(40))
        answers = [(p, outcome.answers(name, 40)[2]) for name, p in bed.tests.items()]
        file = folder / "goodnet.keras"
        saved_and_loaded(goodnet, file, answers, rng)
        shape, names = bed.clean_test.shape, bed.names(network.classes)
        record.log_goodnet(file, "asc-40", shape, brightness(bed.clean_valid), names)
        curves = outcome.curves()
        fixed = repair(outcome, 40, how, seed=0)
        fixed_answers = [(p, fixed.answers[name]) for name, p in bed.tests.items()]
        saved_and_loaded(fixed.model, folder / "files" / record.REPAIRED_FILE, fixed_answers, rng)
        record.log_outcome(run_id, outcome, outcome.metrics(40), curves)
        record.show_metrics(fixed.metrics())
        samples = {
            record.SAMPLES_FILE: sample_pictures(outcome, 40, rng),
            record.MISTAKES_FILE: worst_mistakes(outcome, 40),
        }
        Figure().savefig(folder / "files" / record.CURVES_PICTURE)
        record.log_artifacts(outcome, 40, curves, samples, fixed.labels, folder / "files")
        numbers = {**outcome.metrics(40), **fixed.metrics(), "seconds/total": 1.5}
        record.log_metrics(numbers)
    return Record(client, client.get_run(run_id)), outcome


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    return written(tmp_path_factory.mktemp("poisoned"), poisoned=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return written(tmp_path_factory.mktemp("clean"), poisoned=False)


@pytest.mark.parametrize("kind", ["poisoned", "clean"])
def test_what_is_written_is_read_back(kind, request):
    run, outcome = request.getfixturevalue(kind)
    mlflow.set_tracking_uri(run.client.tracking_uri)
    run.check()
    assert (run.order, run.threshold, run.classes) == ("asc", 40.0, 3)
    metrics = {
        name: value for name, value in run.metrics.items() if not name.startswith(record.CURVE)
    }
    numbers = {"badnet_parameters": 12.0, "repaired_parameters": 12.0, "seconds/total": 1.5}
    assert metrics == outcome.metrics(40) | numbers
    assert len(run.run.data.metrics) <= MOST_METRICS
    assert {name: run.metrics[name] for name in run.run.data.metrics} == run.run.data.metrics
    assert run.params == {key: str(value) for key, value in PARAMS.items()}
    assert {f"curve/{name}" for name in outcome.curves()} > {
        name for name in run.run.data.metrics if name.startswith("curve/")
    }
    for name, curve in outcome.curves().items():
        assert run.curve(name) == curve.tolist()
    assert (run.size_of("clean_test"), run.size_of("clean_valid")) == (5, 5)
    assert run.class_counts()["clean_test"] == [2, 2, 1]
    samples = run.samples()
    assert (
        samples.goodnet[~samples.poisoned].tolist() == outcome.answers("clean_test", 40)[2].tolist()
    )
    tags = run.run.data.tags
    assert tags["network.sha256"] == outcome.network.fingerprint
    assert tags["network.layer"] == "pool"
    assert tags["data.clean_test.sha256"] == outcome.digests["clean_test"]
    inputs = {data.tags[0].value for data in run.run.inputs.dataset_inputs}
    assert inputs == set(outcome.bed.sets)
    model = mlflow.models.get_model_info(f"models:/{run.run.outputs.model_outputs[0].model_id}")
    (given,) = model.signature.inputs.inputs
    assert given.shape == (-1, 1, 1, 3)
    assert [column.name for column in model.signature.outputs.inputs] == list(record.ANSWERS)
    rows = list(csv.reader(artifact(run, "curve.csv").read_text().splitlines()))
    assert [row[:2] for row in rows[1:]] == [["0", ""], ["1", "2"], ["2", "0"], ["3", "1"]]
    begun = run.run.info.start_time
    (first, *_) = run.client.get_metric_history(run.run.info.run_id, "curve/test_goodnet_accuracy")
    assert begun <= first.timestamp <= begun + 600_000


def test_without_poisoned_pictures_nothing_of_them_is_left(clean):
    run, _ = clean
    named = [*run.metrics, *run.run.data.tags, *run.class_counts()]
    assert not [name for name in named if "poisoned" in name or "attack" in name]
    assert run.metric("detection_rate") is None
    assert run.metric("goodnet_attack_success_rate") is None
    assert run.size_of("poisoned_test") == 0
    assert run.curve("test_goodnet_attack_success_rate") == []
    assert not run.samples().poisoned.any()


def artifact(run, name):
    """The file of an artifact in the local store."""
    return Path(urlsplit(run.run.info.artifact_uri).path) / name


def change_channels(path):
    channels = json.loads(path.read_text())
    channels["order"] = channels["order"][::-1]
    path.write_text(json.dumps(channels))


def change_count(path):
    channels = json.loads(path.read_text())
    channels["removed"] = channels["removed"][:1]
    path.write_text(json.dumps(channels))


def change_labels(name, value):
    def change(path):
        with np.load(path) as arrays:
            labels = dict(arrays)
        labels[name] = np.full_like(labels[name], value)
        np.savez(path, **labels)

    return change


def drop_a_picture(path):
    with np.load(path) as arrays:
        labels = {name: values[1:] for name, values in arrays.items()}
    np.savez(path, **labels)


def change_curve(column):
    def change(path):
        rows = list(csv.reader(path.read_text().splitlines()))
        rows[1][rows[0].index(column)] = "0.123"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    return change


def drop_poisoned_truth(path):
    with np.load(path) as arrays:
        labels = dict(arrays)
    del labels["poisoned_test_truth"]
    np.savez(path, **labels)


def drop_attack_curve(path):
    rows = list(csv.reader(path.read_text().splitlines()))
    column = rows[0].index("test_goodnet_attack_success_rate")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*row[:column], *row[column + 1 :]] for row in rows)


def change_file(path):
    path.write_bytes(path.read_bytes() + b" ")


TAMPERED = {
    "clean badnet": ("labels.npz", change_labels("clean_test_badnet", 2), "badnet_accuracy"),
    "poisoned truth": (
        "labels.npz",
        change_labels("poisoned_test_truth", 0),
        "badnet_robust_accuracy",
    ),
    "target": (
        "labels.npz",
        change_labels("poisoned_test_target", 1),
        "badnet_attack_success_rate",
    ),
    "false alarm curve": (
        "curve.csv",
        change_curve("test_false_alarm_rate"),
        "curves.sha256",
    ),
    "detection curve": ("curve.csv", change_curve("test_detection_rate"), "curves.sha256"),
    "repaired network": ("repaired.keras", change_file, "repaired.sha256"),
    "no attack curve": ("curve.csv", drop_attack_curve, "curves.sha256"),
    "order": ("channels.json", change_channels, "channels"),
    "count": ("channels.json", change_count, "channels_removed"),
    "pictures": ("labels.npz", drop_a_picture, "pictures of clean_test"),
    "clean truth": ("labels.npz", change_labels("clean_test_truth", 2), "badnet_accuracy"),
    "clean pruned": ("labels.npz", change_labels("clean_test_pruned", 2), "pruned_accuracy"),
    "poisoned badnet": ("labels.npz", change_labels("poisoned_test_badnet", 1), "detection_rate"),
    "accuracy curve": (
        "curve.csv",
        change_curve("test_goodnet_accuracy"),
        "curves.sha256",
    ),
    "attack curve": (
        "curve.csv",
        change_curve("test_goodnet_attack_success_rate"),
        "curves.sha256",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_an_artifact_that_was_changed_is_named(name, poisoned):
    file, change, said = TAMPERED[name]
    run, _ = poisoned
    mlflow.set_tracking_uri(run.client.tracking_uri)
    path = artifact(run, file)
    kept = path.read_bytes()
    try:
        change(path)
        with pytest.raises(RuntimeError, match=f"expected {said} .* as tracked, found"):
            run.check()
    finally:
        path.write_bytes(kept)
    run.check()


@pytest.mark.parametrize("column", [*record.TEST_CURVES, *record.DETECTION_CURVES])
def test_a_curve_of_a_run_that_did_not_track_its_file_is_compared(column, poisoned):
    run, _ = poisoned
    mlflow.set_tracking_uri(run.client.tracking_uri)
    digest = run.run.data.tags["curves.sha256"]
    run.client.delete_tag(run.run.info.run_id, "curves.sha256")
    path = artifact(run, "curve.csv")
    kept = path.read_bytes()
    try:
        earlier = Record(run.client, run.client.get_run(run.run.info.run_id))
        earlier.check()
        change_curve(column)(path)
        with pytest.raises(RuntimeError, match=f"expected {column} .* as tracked, found"):
            earlier.check()
    finally:
        path.write_bytes(kept)
        run.client.set_tag(run.run.info.run_id, "curves.sha256", digest)


def test_a_goodnet_that_was_changed_is_named(poisoned):
    run, _ = poisoned
    mlflow.set_tracking_uri(run.client.tracking_uri)
    store = Path(urlsplit(run.run.info.artifact_uri).path).parents[1]
    (file,) = store.rglob("models/**/goodnet.keras")
    kept = file.read_bytes()
    try:
        change_file(file)
        with pytest.raises(RuntimeError, match=r"expected goodnet.sha256 .* as tracked, found"):
            run.check()
    finally:
        file.write_bytes(kept)
    run.check()


def test_labels_without_the_poisoned_truth_are_noticed(poisoned):
    run, _ = poisoned
    mlflow.set_tracking_uri(run.client.tracking_uri)
    path = artifact(run, "labels.npz")
    kept = path.read_bytes()
    try:
        drop_poisoned_truth(path)
        with pytest.raises(KeyError, match="poisoned_test_truth"):
            run.check()
    finally:
        path.write_bytes(kept)


def test_classes_with_names_and_a_suspect_are_told(tmp_path):
    (tmp_path / "data").mkdir()
    names = np.array([b"crimson", b"green", b"grey"])
    bed = bed_of(tmp_path / "data", {"data": pixels(CLEAN), "label": names[TRUTH]})
    outcome = detect(colour_network(), bed, "stimulation", [20], suspect=1, stop="before")
    client = connect(Store(None, str(tmp_path / "mlruns"), "backdoor"))
    with tracked_run("stimulation-20", PARAMS, tmp_path / "running") as run_id:
        record.log_outcome(run_id, outcome, outcome.metrics(20), outcome.curves())
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / record.REPAIRED_FILE).write_bytes(b"")
        record.log_artifacts(outcome, 20, outcome.curves(), {}, {}, tmp_path / "files")
    run = Record(client, client.get_run(run_id))
    assert run.class_names() == ["crimson", "green", "grey"]
    assert run.run.data.tags["suspect.class"] == "1"
    assert run.run.data.tags["network.classes"] == "3"
    assert run.run.data.tags["data.scale"] == "divide_by=1"


def test_more_points_of_curves_than_a_request_may_carry(tmp_path):
    client = connect(Store(None, str(tmp_path), "backdoor"))
    curves = dict.fromkeys((*record.TEST_CURVES, *record.DETECTION_CURVES), np.arange(501) / 512)
    with tracked_run("long", {}, tmp_path / "running") as run_id:
        record.log_curves(run_id, curves)
    run = Record(client, client.get_run(run_id))
    for name, curve in curves.items():
        assert run.curve(name) == curve.tolist()


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_data_set_that_another_run_logs_at_the_same_time_is_logged_again(
    failures, tmp_path, monkeypatch
):
    tries = []

    def log_inputs(self, run_id, data_sets):
        tries.append(run_id)
        if len(tries) <= failures:
            raise mlflow.MlflowException("logged by another")

    monkeypatch.setattr(mlflow.MlflowClient, "log_inputs", log_inputs)
    if failures < 3:
        record.log_data_set("run", "clean_test", tmp_path, "0" * 64, 5)
        assert len(tries) == failures + 1
        return
    with pytest.raises(mlflow.MlflowException, match="logged by another"):
        record.log_data_set("run", "clean_test", tmp_path, "0" * 64, 5)
    assert len(tries) == 3


def test_what_stands_in_front():
    assert (MOST_METRICS, MOST_PARAMS) == (15, 12)
    swept = {f"axis{n}": n for n in range(20)}
    assert list(front_params(swept | PARAMS, swept)) == [f"axis{n}" for n in range(11)]
    usual = dict.fromkeys(reversed(USUAL_PARAMS), 1) | {"cache": 2}
    assert list(front_params(usual, ["seed"])) == [
        "seed",
        *(p for p in USUAL_PARAMS if p != "seed"),
    ]
    assert list(front_params(PARAMS, [])) == ["order", "threshold"]
    shown = front_metrics(
        {"goodnet_der": 1, "pruned_der": 2, "asc/false_alarm_rate": 3, "asc/x": 4}
    )
    assert shown == {"goodnet_der": 1, "asc/false_alarm_rate": 3}


def test_runs_of_version_0_1_whose_curves_had_no_prefix_are_read(tmp_path):
    client = connect(Store(None, str(tmp_path), "backdoor"))
    with tracked_run("old", {}, tmp_path / "running") as run_id:
        for step, value in enumerate([0.9, 0.5]):
            client.log_metric(run_id, "test_goodnet_accuracy", value, step=step)
    assert Record(client, client.get_run(run_id)).curve("test_goodnet_accuracy") == [0.9, 0.5]


@pytest.mark.parametrize("truth", [[1, 0, 2], [UNKNOWN] * 3])
def test_a_repair_is_recomputed_with_what_is_known(truth):
    labels = {
        "clean_test_badnet": np.array([0, 1, 1]),
        "clean_test_repaired": np.array([0, 1, 0]),
        "clean_test_truth": np.array([0, 1, 0]),
        "poisoned_test_badnet": np.array([0, 0, 0]),
        "poisoned_test_repaired": np.array([1, 0, 2]),
        "poisoned_test_truth": np.array(truth),
    }
    for pictures in (3, 0):
        run = SimpleNamespace(size_of=lambda name, n=pictures: n, _targets=lambda labels: 0)
        found = Record._recomputed_repair(run, labels)
        assert found["repaired_accuracy"] == 1
        assert found.get("repaired_attack_success_rate") == (1 / 3 if pictures else None)
        known = pictures and UNKNOWN not in truth
        assert found.get("repaired_robust_accuracy") == (1 if known else None)


def test_the_rates_at_few_false_alarms_are_called_after_them():
    assert record.DETECTION_AT == {
        1: "detection_rate_at_1_false_alarms",
        5: "detection_rate_at_5_false_alarms",
    }


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        ("FINISHED", "true", True),
        ("FINISHED", None, False),
        ("FAILED", "true", False),
        ("RUNNING", None, False),
    ],
)
def test_a_run_is_complete_that_has_finished_and_says_so(status, said, expected):
    tags = {} if said is None else {record.COMPLETE: said}
    run = SimpleNamespace(info=SimpleNamespace(status=status), data=SimpleNamespace(tags=tags))
    assert record.is_complete(run) == expected
