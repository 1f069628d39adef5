import importlib.util
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from backdoor.errors import UserError
from backdoor.networks.exports import EXPORTS
from backdoor.networks.repair import REPAIRS
from backdoor.pictures.sources import origin_of
from backdoor.pruning.orders import CONVOLUTION, POOLING, orders
from backdoor.pruning.stop import STOPS
from experiments.launch.cli import known_keys
from experiments.launch.early import PACKAGES, check_run
from experiments.launch.settings import RunSettings, settings_of

CONF = Path(__file__).parents[1] / "conf"
GIVEN = {
    "lab3": ["dataset.root=DIR"],
    "gtsrb": ["dataset.root=DIR"],
    "pictures": ["dataset.root=DIR"],
    "files": [f"dataset.{a}_{b}=F" for a in ("clean", "poisoned") for b in ("valid", "test")],
}
CHOICES = [
    (group, file.stem)
    for group in (
        "dataset",
        "attack",
        "network",
        "badnet",
        "tracking",
        "experiment",
        "hydra/launcher",
    )
    for file in sorted((CONF / group).glob("*.yaml"))
    if file.stem not in ("layout", "made")
]


def composed(*overrides, config_name="config"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(config_name, [*overrides])
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def installed(plugin):
    return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes(group, name):
    if name == "slurm" and not installed("hydra_submitit_launcher"):
        pytest.skip("the extra 'slurm' is not installed")
    composed(f"{group}={name}", *GIVEN.get(name, []))


EXTRAS = {
    "slurm": ("slurm", "hydra_submitit_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
    "ray_cluster": ("ray", "hydra_ray_launcher"),
}


@pytest.mark.parametrize("launcher", EXTRAS)
def test_a_missing_extra_is_answered_with_how_to_install_it(launcher, tmp_path, monkeypatch):
    extra, plugin = EXTRAS[launcher]
    if installed(plugin):
        pytest.skip(f"the extra {extra!r} is installed")
    monkeypatch.setenv("PYTHONPATH", str(CONF.parent))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = [sys.executable, "-m", "experiments.run", "-m", f"hydra/launcher={launcher}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    said = f"error: hydra/launcher: expected the extra '{extra}': pip install '.[{extra}]'"
    assert done.stderr.splitlines()[-1] == said


def test_the_report_composes():
    assert composed(config_name="report")["folder"] == "report"


def test_every_data_set_has_the_same_keys():
    keys = [
        set(composed(f"dataset={n}", *GIVEN.get(n, []))["dataset"])
        for group, n in CHOICES
        if group == "dataset"
    ]
    assert all(one == keys[0] for one in keys)


def test_what_is_made_otherwise_has_another_folder():
    folders = {
        composed(*overrides)["dataset"]["made"]
        for overrides in (
            [],
            ["dataset.draw.seed=1"],
            ["dataset.draw.classes=5"],
            ["attack.target=3"],
            ["attack=blend"],
            ["network.epochs=3"],
        )
    }
    assert len(folders) == 6
    controls = {
        composed("attack=none", f"attack.rate={rate}")["dataset"]["made"] for rate in (0.1, 0.5)
    }
    assert len(controls) == 1


def test_pictures_of_other_files_are_made_into_another_folder(tmp_path):
    folders = set()
    for number in range(2):
        (tmp_path / f"{number}.png").touch()
        origin_of.cache_clear()  # as in another process
        folders.add(composed("dataset=pictures", f"dataset.root={tmp_path}")["dataset"]["made"])
    assert len(folders) == 2


def help_text(module="experiments.run"):
    return subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    ).stdout


def test_help_explains_every_key_without_tensorflow():
    text = help_text()
    named = set(re.findall(r"[\w.]+", text))
    ends = ("attack", "network", "badnet", "dataset", "tracking", "dataset.draw", "dataset.sha256")
    keys = [
        key for key in known_keys() if not key.startswith("dataset.sha256.") and key not in ends
    ]
    assert [key for key in keys if key not in named] == []
    assert text.count("python -m experiments.run ") >= 4


def test_help_and_the_config_agree_on_defaults():
    text = help_text()
    for key in ("order", "threshold", "layer", "device", "threads", "seed", "cache"):
        default = composed()[key]
        shown = re.search(rf"^ {{4}}{key} .*?(\S+)$(?:\n {{17}}.*?(\S+)$)?", text, re.MULTILINE)
        assert str("null" if default is None else default) in (shown[1], shown[2])


def test_help_of_the_report():
    assert "sweep=ID" in help_text("experiments.report")


def test_what_help_needs_imports_nothing_heavy():
    heavy = {"tensorflow", "mlflow", "scipy.stats", "scipy.ndimage"}
    code = f"import sys, experiments.run; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_study_of_orders_has_all_of_them():
    study = OmegaConf.load(CONF / "experiment" / "orders.yaml").hydra.sweeper.params
    assert sorted(study.order.split(",")) == sorted(orders())


def test_the_choices_of_the_config_are_those_of_the_library():
    hints = typing.get_type_hints(RunSettings)
    assert typing.get_args(hints["repair"]) == tuple(REPAIRS)
    assert typing.get_args(hints["rank_at"]) == (POOLING, CONVOLUTION)
    assert typing.get_args(typing.get_args(hints["export"])[0]) == tuple(EXPORTS) == tuple(PACKAGES)


def test_help_names_all_orders_and_stops():
    text = help_text()
    assert all(re.search(rf"\b{name}\b", text) for name in (*orders(), *STOPS))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["suspect=x"], "suspect: expected auto or a class, got 'x'"),
        (["suspect=-1"], "suspect: expected auto or a class, got -1"),
        (["repair=x"], "repair: expected 'prune', 'slim', 'finetune' or 'finetune_only', got 'x'"),
        (["export=[x]"], "export.0: expected 'tflite' or 'onnx', got 'x'"),
        (["valid_pictures=0"], "valid_pictures: expected at least 1, or null for all, got 0"),
        (["rank_at=conv", "order=l1"], "rank_at: expected pool for the order 'l1'"),
        (["stop=last"], "stop: expected one of first, before, false_alarms, got 'last'"),
    ],
)
def test_what_cannot_be_set_is_refused_before_anything_starts(overrides, said):
    with pytest.raises(UserError) as caught:
        check_run(settings_of(OmegaConf.create(composed(*overrides)), RunSettings))
    assert str(caught.value).startswith(said)


def test_a_run_is_named_after_what_is_unusual_of_it():
    def name(*overrides):
        return settings_of(OmegaConf.create(composed(*overrides)), RunSettings).name

    assert name() == "asc-2"
    assert name("stop=before", "repair=slim", "rank_at=conv") == "asc-2-before-conv-slim"


@pytest.mark.parametrize("key", ["cache", "tracking.folder"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(key, tmp_path, monkeypatch):
    """As on a file system that is mounted to be read alone; who is root may write all others."""
    locked, access = tmp_path / "locked", os.access
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow leaves behind
    monkeypatch.chdir(tmp_path)
    given = OmegaConf.create(composed(f"{key}={locked}/inner/most"))
    with pytest.raises(UserError, match="locked/inner/most: expected to read and write there, got"):
        check_run(settings_of(given, RunSettings))
    check_run(settings_of(OmegaConf.create(composed(f"{key}={tmp_path}/other")), RunSettings))
    if key == "tracking.folder":  # with a server nothing is written there
        elsewhere = composed(f"{key}={locked}", "tracking.uri=http://127.0.0.1:5000")
        check_run(settings_of(OmegaConf.create(elsewhere), RunSettings))
