import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.launch.cli import known_keys

CONF = Path(__file__).parents[1] / "conf"
GIVEN = {
    "lab3": ["dataset.root=DIR"],
    "files": [f"dataset.{a}_{b}=F" for a in ("clean", "poisoned") for b in ("valid", "test")],
}
CHOICES = [
    (group, file.stem)
    for group in ("dataset", "badnet", "tracking", "experiment", "hydra/launcher")
    for file in sorted((CONF / group).glob("*.yaml"))
    if file.stem != "layout"
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
        for n in ("faces", "lab3", "files")
    ]
    assert keys[0] == keys[1] == keys[2]


def test_other_settings_are_drawn_into_another_folder():
    roots = {
        composed(*overrides)["dataset"]["root"]
        for overrides in (
            [],
            ["dataset.draw.seed=1"],
            ["dataset.draw.people=5"],
            ["dataset.target=3"],
        )
    }
    assert len(roots) == 4


def help_text(module="experiments.run"):
    return subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    ).stdout


def test_help_explains_every_key_without_tensorflow():
    text = help_text()
    named = set(re.findall(r"[\w.]+", text))
    ends = ("badnet", "dataset", "tracking", "dataset.draw", "dataset.sha256")
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


def test_what_help_needs_does_not_import_tensorflow_or_mlflow():
    code = "import sys, experiments.run; print({'tensorflow', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
