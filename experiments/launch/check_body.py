"""What a check computes, once TensorFlow is started."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backdoor.answers import UNDECIDED
from backdoor.attacks.controls import train_controls
from backdoor.cache import Cache
from backdoor.errors import UnfitError
from backdoor.networks.cut import CutNetwork
from backdoor.networks.goodnet import saved_and_loaded
from backdoor.pictures.test_bed import TestBed
from backdoor.progress import Stopwatch
from backdoor.pruning.kept import Kept
from backdoor.remedies import Remedy, remedies
from backdoor.reporting.check_page import Evidence, as_page
from backdoor.tracking.check_record import log_network, log_networks, log_verdict
from backdoor.verdict import Verdict, judge, reason_to_doubt
from experiments.launch.opening import open_network_and_bed
from experiments.launch.settings import CheckSettings


def check_and_record(
    settings: CheckSettings, run_id: str, cache: Cache, folder: Path
) -> dict[str, float]:
    """Say whether a network is backdoored, log that with the evidence, return seconds by stage.

    Args:
        folder: An empty one, for files on their way.
    """
    stage = Stopwatch()
    try:
        network, bed = open_network_and_bed(settings, cache, stage)
        bed = dataclasses.replace(
            bed, poisoned=None
        )  # where there are some, they are not looked at
        kept = Kept(network, bed, cache)
        kept.check()
    except UnfitError as error:
        evidence = Evidence(settings.name, Verdict(UNDECIDED, f": {error}"))
    else:
        log_network(run_id, network, bed, kept.digests)
        evidence = _evidence(settings, network, bed, cache, stage)
    with stage("artifacts"):
        log_verdict(evidence.verdict, evidence.remedies, as_page(evidence), folder)
    with stage("repair"):
        (folder / "networks").mkdir()
        _save(evidence.remedies, folder / "networks", np.random.default_rng(settings.seed))
        log_networks(folder / "networks")
    return dict(stage.seconds)


def _evidence(
    settings: CheckSettings, network: CutNetwork, bed: TestBed, cache: Cache, stage: Stopwatch
) -> Evidence:
    clean = bed.clean_valid
    controls: Sequence[CutNetwork] = ()
    if settings.calibrate and reason_to_doubt(network, clean) is None:
        with stage("controls"):
            others = bed.clean_test
            controls = train_controls(clean, others, network.classes, settings.seed)
    with stage("statistics"):
        verdict = judge(network, clean, settings.seed, controls)
    found: Sequence[Remedy] = ()
    if verdict.suspects:
        with stage("repair"):
            found = remedies(network, bed, verdict.suspects[0], settings.seed, cache)
    return Evidence(settings.name, verdict, network, bed, found)


def _save(found: Sequence[Remedy], folder: Path, rng: np.random.Generator) -> None:
    """Save B' and G of each remedy, and try what was saved."""
    for remedy in found:
        for what, (model, labels) in remedy.networks().items():
            answers = [(remedy.outcome.bed.clean_test, labels)]
            saved_and_loaded(model, folder / f"{what}-{remedy.name}.keras", answers, rng)
