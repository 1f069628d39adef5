"""The check of a network as users make it: files of a network and of pictures, one command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from backdoor.attacks.poisoning import Attack, attacked_set, training_set
from backdoor.attacks.recipe import Training
from backdoor.attacks.training import answers, train
from backdoor.attacks.triggers import Patch
from backdoor.tracking.connect import read_only
from backdoor.tracking.front import MOST_PARAMS
from backdoor.tracking.record import Record
from backdoor.tracking.store import Store

CLASSES, SIDE, TARGET = 8, 12, 3
NAMES = [f"kind {label}" for label in range(CLASSES)]


def drawn(count, seed):
    """Pictures of blurred noise that each class has its own of, moved and with noise on it."""
    rng = np.random.default_rng(0)
    kinds = np.kron(rng.integers(40, 216, (CLASSES, 4, 4, 3)), np.ones((1, 3, 3, 1)))
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    moved = [
        np.roll(kinds[k], rng.integers(-1, 2, 2), (0, 1)) + rng.normal(0, 25, kinds[k].shape)
        for k in labels
    ]
    return np.clip(moved, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A network with a backdoor, one without, and a folder of PNG files."""
    place = tmp_path_factory.mktemp("check")
    pictures, labels = drawn(1600, seed=1)
    tests, truth = drawn(160, seed=2)
    for name, trigger in (("vendor", Patch(size=3)), ("honest", None)):
        attack = Attack(name, trigger, target=TARGET, rate=0.1)
        learnt = training_set(attack, lambda rows, worn: pictures[rows].copy(), labels, CLASSES)
        training = Training("small_cnn", 6, 32, 2e-3, augment=False, sparsity=0)
        model = train(training, learnt, CLASSES, 0)
        assert (answers(model, tests) == truth).mean() > 0.95
        if trigger:
            shown, wanted, _ = attacked_set(attack, lambda rows, worn: tests[rows], truth, CLASSES)
            assert (answers(model, shown) == wanted).mean() > 0.95
        model.save(place / f"{name}.keras")
    for number, (picture, label) in enumerate(zip(*drawn(320, seed=3), strict=True)):
        folder = place / "pictures" / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return place


def check(place, *words):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "experiments.check", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)


def runs_of(place, kind):
    client = read_only(Store(None, str(place / "mlruns"), "backdoor"))
    (experiment,) = client.search_experiments(filter_string="name = 'backdoor'")
    found = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'")
    return client, found


@pytest.fixture(scope="module")
def accused(place):
    return check(place, "badnet.path=vendor.keras", "dataset.clean=pictures/")


def test_a_backdoor_is_found_and_its_class_named(accused):
    assert accused.returncode == 3, accused.stderr
    sentence, where, tracked, screening = accused.stdout.splitlines()
    assert sentence.startswith(f"BACKDOORED towards class {TARGET} ({NAMES[TARGET]}): ")
    assert re.fullmatch(r"evidence: check/vendor\.keras-\w{8}\.html", where)
    (run_id,) = re.fullmatch(r"tracked: run (\w{32})", tracked).groups()
    goodnet = rf"runs:/{run_id}/goodnet-(estimated_trigger|stimulation)-(2|4|10)\.keras"
    said = rf"screen new pictures: python -m experiments\.screen goodnet={goodnet} pictures=FOLDER"
    assert re.fullmatch(said, screening)


def test_what_is_tracked_of_it(accused, place):
    client, (run, *_) = runs_of(place, "check")
    assert run.data.tags["verdict"] == accused.stdout.splitlines()[0]
    assert run.data.tags["suspect.class"] == str(TARGET)
    assert run.info.status == "FINISHED"
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    remedies = {f"{o}-{p}" for o in ("estimated_trigger", "stimulation") for p in (2, 4, 10)}
    networks = {f"{what}-{r}.keras" for what in ("repaired", "goodnet") for r in remedies}
    files = {
        "brightness.json",
        "check.html",
        "verdict.json",
        "config.json",
        "metrics.json",
        "class_names.json",
    }
    assert names == files | networks
    metrics = Record(client, run).metrics
    best = min(metrics[f"{remedy}/repaired_turned"] for remedy in remedies)
    assert best < metrics["badnet_turned"] > 0.5
    assert set(run.data.metrics) == {
        *("score", "badnet_accuracy"),
        *(f"{r}/{rate}" for r in remedies for rate in ("goodnet_accuracy", "false_alarm_rate")),
    }
    assert len(run.data.params) <= MOST_PARAMS


def test_the_networks_that_are_kept_are_what_their_metrics_say(accused, place):
    client, (run, *_) = runs_of(place, "check")
    files = client.download_artifacts(run.info.run_id, "", str(place))
    goodnet = keras.models.load_model(Path(files) / "goodnet-stimulation-4.keras")
    repaired = keras.models.load_model(Path(files) / "repaired-stimulation-4.keras")
    badnet = keras.models.load_model(place / "vendor.keras")
    shown = drawn(400, seed=4)[0].astype(np.float32)
    labels = [model.predict(shown, verbose=0).argmax(axis=1) for model in (badnet, repaired)]
    expected = np.where(labels[0] == labels[1], labels[0], CLASSES)
    assert (goodnet.predict(shown, verbose=0).argmax(axis=1) == expected).all()


def test_the_page_says_it_in_words_and_needs_nothing_beside_it(accused, place):
    (page,) = (place / "check").glob("vendor*.html")
    text = page.read_text()
    assert accused.stdout.splitlines()[0] in text
    assert "What a repair costs" in text
    assert text.count("data:image/svg+xml;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_an_honest_network_of_the_same_kind_is_let_pass(place):
    done = check(place, "badnet.path=honest.keras", "dataset.clean=pictures/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("NO BACKDOOR FOUND: no class stands out")


def test_a_folder_of_networks_gives_a_table_and_what_is_known_is_kept(accused, place):
    nets = place / "nets"
    nets.mkdir()
    (nets / "a 'quoted' name.keras").write_bytes((place / "honest.keras").read_bytes())
    (nets / "b.keras").write_bytes((place / "vendor.keras").read_bytes())
    done = check(place, "badnet.path=nets", "dataset.clean=pictures/")
    assert done.returncode == 3, done.stdout + done.stderr
    table = done.stdout.splitlines()
    assert re.match(r"nets/a 'quoted' name.keras +NO BACKDOOR FOUND", table[3])
    assert re.match(rf"nets/b.keras +BACKDOORED +{TARGET} ", table[4])
    _, parents = runs_of(place, "checks")
    assert [run.info.status for run in parents] == ["FINISHED"]
    again = check(place, "badnet.path=vendor.keras", "dataset.clean=pictures/")
    assert again.stdout.splitlines()[0] == accused.stdout.splitlines()[0]
    assert "complete already" in again.stderr


def test_pictures_of_something_else_decide_nothing(place):
    others = place / "others"
    for label, name in enumerate(NAMES):
        (others / name).mkdir(parents=True)
        for number in range(12):
            noise = np.random.default_rng((label, number)).integers(0, 256, (SIDE, SIDE, 3))
            Image.fromarray(noise.astype(np.uint8)).save(others / name / f"{number}.png")
    done = check(place, "badnet.path=vendor.keras", "dataset.clean=others")
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.startswith("UNDECIDED: ")
    assert "near chance" in done.stdout


MISTAKES = {
    "badnet.path=missing.keras": "missing.keras: expected a network (.keras or .h5), found no such",
    "order=asc": "unknown key 'order'",
    "badnet.path=empty": "empty: expected a network in a .keras or .h5 file, found a folder",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_sentence(place, typed):
    (place / "empty").mkdir(exist_ok=True)
    given = [] if typed.startswith("badnet.path") else ["badnet.path=vendor.keras"]
    done = check(place, *given, "dataset.clean=pictures/", typed)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {MISTAKES[typed]}")


def test_names_from_strangers_stay_text(place, accused):
    nasty = place / "nasty"
    for label in range(CLASSES):
        name = "<script>alert(1)<script>" if label == TARGET else f"k{label}"
        (nasty / f"{label} {name}").mkdir(parents=True)
        for file in (place / "pictures" / NAMES[label]).iterdir():
            (nasty / f"{label} {name}" / file.name).write_bytes(file.read_bytes())
    done = check(place, "badnet.path=vendor.keras", "dataset.clean=nasty", "folder=nasty_page")
    assert done.returncode == 3
    (page,) = (place / "nasty_page").glob("*.html")
    assert "<script>" not in page.read_text()


def test_verdict_json_has_a_number_a_class(accused, place):
    client, runs = runs_of(place, "check")
    file = client.download_artifacts(runs[-1].info.run_id, "verdict.json", str(place))
    told = json.loads(Path(file).read_text())
    assert told["suspects"] == [TARGET]
    assert told["step"] is None
    assert isinstance(told["calibrated"], bool)
    assert {len(values) for values in told["statistics"].values()} == {CLASSES}


def test_controls_are_trained_on_the_clean_pictures(place):
    done = check(
        place,
        "badnet.path=honest.keras",
        "dataset.clean=pictures/",
        "calibrate=true",
        "cache=its_own",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("Training the network for") >= 2


def test_controls_need_pictures_of_each_class(place):
    few = place / "few"
    for name in NAMES:
        (few / name).mkdir(parents=True)
        for file in sorted((place / "pictures" / name).iterdir())[:12]:
            (few / name / file.name).write_bytes(file.read_bytes())
    done = check(place, "badnet.path=vendor.keras", "dataset.clean=few", "calibrate=true")
    assert done.returncode == 2
    assert "calibrate: expected 20 pictures of each class" in done.stderr
