"""What a sweep is said to run is what Hydra runs."""

import re

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from test_conf import CONF

from experiments.launch.plan import planned, task_of

ASKED = {
    "nothing": ([], {}),
    "one value": (["order=asc"], {}),
    "a grid": (["order=asc,desc", "threshold=2,4,10"], {}),
    "a range": (["seed=range(0,4)", "order=asc"], {}),
    "choices": (["threshold=choice(2,4)", "+x='a b','c'"], {}),
    "a group": (["dataset=faces,lab3"], {}),
    "a glob": (["dataset=glob(*a*)"], {}),
    "the sweeper's": ([], {"order": "asc,desc", "threshold": "2,4"}),
    "both, the command line last": (["order=desc"], {"order": "asc,desc", "threshold": "2,4"}),
    "twice": (["order=asc,desc", "order=asc"], {}),
}


@pytest.fixture
def hydra():
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def multirun(task, params):
    hydra = {"sweeper": {"params": params}, "overrides": {"task": task}}
    return OmegaConf.create({"hydra": hydra})


@pytest.mark.parametrize("name", ASKED)
def test_the_plan_is_that_of_hydras_own_sweeper(name, hydra):
    """Hydra's sweeper is private: where a new Hydra moves or changes it, this says so."""
    task, params = ASKED[name]
    given = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create(hydra).parse_overrides([*given, *task])
    (expected,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    assert planned(multirun(task, params)).jobs == expected


def test_a_plan_is_named_after_what_it_varies(hydra):
    plan = planned(multirun(["order=asc,desc", "seed=3", "threshold=2,4"], {}))
    assert plan.name == "order=asc,desc threshold=2,4"
    assert plan.axes == {"order": ["asc", "desc"], "threshold": ["2", "4"]}
    assert plan.title(plan.jobs[1]) == "order=asc threshold=4"
    assert planned(multirun([], {})).name == "one run"


def test_a_job_gets_its_own_config(hydra):
    config = hydra.load_configuration("config", ["order=asc,desc"], run_mode=_multirun())
    task = task_of(config, ["order=desc"])
    assert task.order == "desc"
    assert "hydra" not in task


def _multirun():
    from hydra.types import RunMode

    return RunMode.MULTIRUN


def test_the_library_uses_nothing_private_of_hydra():
    private = re.compile(r"hydra\._internal")
    for folder in ("backdoor", "experiments"):
        for path in (CONF.parent / folder).rglob("*.py"):
            assert not private.search(path.read_text()), path
