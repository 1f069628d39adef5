"""What is composed once is what Hydra composes anew."""

import pickle

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from test_conf import CONF

from experiments.launch.composing import JobConfigs, remember_composed

JOBS = {
    "nothing": [],
    "values": ["order=desc", "threshold=4"],
    "a value of a group's": ["dataset.draw.seed=7"],
    "a group": ["dataset=faces", "threshold=4"],
    "a value of another group's": ["dataset=faces", "dataset.draw.classes=20"],
    "null": ["threads=null"],
    "quoted": ["badnet.path='a b,c.keras'"],
    "a list": ["export=[onnx]"],
    "a mapping": ["badnet.limits={seconds: 3}"],
    "an interpolation": ["seed=${threshold}"],
    "an addition": ["+more=1", "order=desc"],
    "a deletion": ["~export", "order=desc"],
    "a global group": ["experiment=verdict", "seed=3"],
    "Hydra's": ["hydra.job.name=other", "order=desc"],
    "twice": ["threshold=2", "threshold=10"],
}
MISTAKES = {
    "no such key": ["treshold=2"],
    "no such option": ["dataset=nothing"],
    "a key of a group that is not taken": ["dataset=lab3", "dataset.draw.classes=20"],
    "a value that cannot be read": ["order=[asc"],
}


@pytest.fixture
def loader():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def master(loader, *overrides):
    return loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)


def as_plain(config):
    return OmegaConf.to_container(config), OmegaConf.is_struct(config)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gets_what_hydra_composes(name, loader):
    config = master(loader, "hydra.sweep.dir=here", "order=asc,desc")
    expected = as_plain(loader.load_sweep_config(config, JOBS[name]))
    remember_composed()
    for _ in range(2):  # composed, then remembered
        assert as_plain(loader.load_sweep_config(config, JOBS[name])) == expected


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_as_by_hydra(name, loader):
    config, job = master(loader), MISTAKES[name]
    with pytest.raises(HydraException) as expected:
        loader.load_sweep_config(config, job)
    remember_composed()
    with pytest.raises(type(expected.value)) as found:
        loader.load_sweep_config(config, job)
    assert str(found.value) == str(expected.value)


def test_values_alone_compose_nothing_again(loader, monkeypatch):
    config = master(loader)
    composed = []
    whole = type(loader).load_sweep_config
    monkeypatch.setattr(
        type(loader), "load_sweep_config", lambda *given: composed.append(given) or whole(*given)
    )
    remember_composed()
    for threshold in (2, 4, 10):
        for dataset in ("faces", "lab3"):
            job = [f"dataset={dataset}", f"threshold={threshold}"]
            assert loader.load_sweep_config(config, job).threshold == threshold
    assert len(composed) == 2


def test_jobs_do_not_change_each_other(loader):
    config = master(loader)
    remember_composed()
    first = loader.load_sweep_config(config, ["threshold=2"])
    OmegaConf.set_struct(first, False)
    first.badnet.path = "other"
    first.hydra.job.num = 7
    second = loader.load_sweep_config(config, ["threshold=2"])
    assert second.badnet.path != "other"
    assert OmegaConf.is_missing(second.hydra.job, "num")


def test_what_is_handed_to_jobs_later_counts(loader):
    """The sweep's id is known after jobs have been composed for what is announced."""
    config = master(loader)
    remember_composed()
    loader.load_sweep_config(config, ["threshold=2"])
    config.hydra.overrides.hydra.append("+hydra.job.env_set.SWEEP='7'")
    job = loader.load_sweep_config(config, ["threshold=2"])
    assert job.hydra.job.env_set.SWEEP == "7"


def test_another_process_composes_for_itself(loader):
    remember_composed()
    loader.load_sweep_config(master(loader), ["threshold=2"])
    sent = pickle.loads(pickle.dumps(loader))
    config = master(sent)
    assert isinstance(sent.load_sweep_config, JobConfigs)
    assert sent.load_sweep_config(config, ["threshold=4"]).threshold == 4
    assert len(vars(sent.load_sweep_config)["_composed"]) == 1
