"""What is typed wrongly is answered with what was meant, before anything is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backdoor import __version__
from backdoor.errors import UserError
from experiments.launch.arguments import looked_at
from experiments.launch.cli import known_keys

WRONG = {
    "comma": (
        ["threshold=2,", "4"],
        "threshold=2,: expected no space after a comma: threshold=2,4",
    ),
    "space": (["dataset.clean=my", "pics"], """'dataset.clean="my pics"'"""),
    "equals": (["badnet.path=a=b.keras"], """quoted it can: 'badnet.path="a=b.keras"'"""),
    "bracket": (["dataset.clean=/a(b)"], """quoted it can: 'dataset.clean="/a(b)"'"""),
    "no key": (["asc"], "asc: expected KEY=VALUE"),
    "forgotten": (["order=asc,desc"], "expected -m to run each of them, run -m order=asc,desc"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_word_that_cannot_be_read_is_answered_with_how_it_is_written(name):
    typed, said = WRONG[name]
    with pytest.raises(UserError) as caught:
        looked_at(typed, "run", sweeps=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["order=asc", "threshold=2"],
        ["badnet.path='a=b.keras'"],
        ['cache="my cache"'],
        ["--help"],
        ["--cfg", "job", "order=asc"],
        ["~hydra.callbacks", "+x=1", "++y=2", "seed=range(1,3)"][:3],
    ],
)
def test_what_is_right_is_left_as_it_is(typed):
    assert looked_at([*typed], "run", sweeps=True) == typed


def test_clean_pictures_given_by_paths_are_no_drawn_faces():
    for typed in (["dataset.clean=p"], ["dataset.clean_valid=v", "dataset.clean_test=t"]):
        assert looked_at(typed, "run", sweeps=True) == ["dataset=files", *typed]
        assert looked_at(["dataset=lab3", *typed], "run", True) == ["dataset=lab3", *typed]
    assert looked_at(["dataset.clean_valid=v"], "run", True) == ["dataset.clean_valid=v"]


@pytest.mark.parametrize("place", range(3))
def test_m_stands_anywhere(place):
    typed = ["order=asc,desc", "threshold=2"]
    typed.insert(place, "-m")
    assert looked_at(typed, "run", True) == ["--multirun", "order=asc,desc", "threshold=2"]


def test_hints_are_keys_of_the_command_at_hand():
    assert "sweep" in known_keys("report")
    assert "order" not in known_keys("report")
    assert "dataset.clean" in known_keys("run")
    assert known_keys("prepare") == known_keys("run")


def script(name, *arguments, cwd, **environment):
    """Run an installed command, as one does in any folder."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    return subprocess.run(
        [Path(sys.executable).with_name(f"backdoor-{name}"), *arguments],
        cwd=cwd,
        env=own | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def elsewhere(tmp_path):
    """A folder that has packages of the same names."""
    for name in ("experiments", "backdoor", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not this one')")
    return tmp_path


def test_installed_commands_work_beside_packages_of_the_same_names(elsewhere):
    done = script("run", "--version", cwd=elsewhere)
    assert (done.returncode, done.stdout) == (0, f"backdoor {__version__}\n")
    done = script("report", "sweeep=3", cwd=elsewhere)
    assert (done.returncode, done.stderr) == (
        2,
        "error: unknown key 'sweeep'; did you mean 'sweep'?\n",
    )
    done = script("prepare", "dataset=lab", cwd=elsewhere)
    assert "mnist, pictures; did you mean 'lab3'?" in done.stderr
    for name in ("run", "report", "prepare", "benchmark"):
        done = script(name, "--help", cwd=elsewhere)
        assert done.returncode == 0, done.stderr


EARLY = {
    "order": ["order=up"],
    "threshold": ["threshold=abc"],
    "network": ["badnet.path=none.keras"],
    "pictures": ["dataset.clean=none", "badnet.path=none.keras"],
    "files": ["dataset=files", "dataset.clean_valid=none.h5"],
    "a sweep": ["-m", "order=up,down", "threshold=2,4"],
}


@pytest.mark.parametrize("name", EARLY)
def test_early_mistakes_are_said_without_starting_mlflow_or_tensorflow(name, tmp_path):
    code = (
        "import sys; from experiments import run; sys.argv[1:] = sys.argv[1:]\n"
        "try: code = run.main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(code, {'mlflow', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    own = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-c", code, *EARLY[name]],
        cwd=tmp_path,
        env=own,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2 set()\n"
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "mlruns").exists()


def test_a_full_traceback_can_be_asked_for(tmp_path):
    done = script("run", "order=up", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "UserError: order: expected one of asc, desc" in done.stderr


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_several_exports_are_a_list_and_no_sweep(multirun):
    read = looked_at([*multirun, "export=tflite,onnx"], "run", sweeps=True)
    assert read[-1] == "export=[tflite,onnx]"
    assert looked_at(["export=[onnx]"], "run", sweeps=True) == ["export=[onnx]"]
