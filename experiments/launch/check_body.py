"""What a check computes, once TensorFlow is started."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backdoor.answers import UNDECIDED
from backdoor.attacks.controls import usual_values
from backdoor.attacks.reach import Values
from backdoor.attacks.statistics import STATISTICS
from backdoor.cache import Cache
from backdoor.errors import UnfitError, UserError
from backdoor.networks.goodnet import saved_and_loaded
from backdoor.pictures.test_bed import CLEAN_VALID
from backdoor.progress import Stopwatch
from backdoor.pruning.kept import Kept
from backdoor.remedies import Remedy, best_remedy, remedies
from backdoor.reporting.check_page import Evidence, as_page
from backdoor.tracking.check_record import (
    log_network,
    log_networks,
    log_verdict,
    measure_known,
    metrics_of,
)
from backdoor.tracking.record import in_seconds, show_metrics
from backdoor.verdict import Usual, Verdict, judge
from backdoor.versions import VERDICT
from experiments.launch.opening import open_network_and_bed
from experiments.launch.settings import CheckSettings

log = logging.getLogger(__name__)


def check_and_record(
    settings: CheckSettings, run_id: str, cache: Cache, folder: Path
) -> dict[str, float]:
    """Say whether a network is backdoored, log that with the evidence, return what is measured.

    Args:
        folder: An empty one, for files on their way.
    """
    stage = Stopwatch()
    measured: dict[str, float] = {}
    try:
        network, bed = open_network_and_bed(settings, cache, stage)
        poisoned = bed.poisoned
        bed = dataclasses.replace(bed, poisoned=None)  # nothing is decided by what it shows
        kept = Kept(network, bed, cache)
        kept.check()
    except UnfitError as error:
        evidence = Evidence(settings.name, Verdict(UNDECIDED, f": {error}"))
    else:
        log_network(run_id, network, bed, kept.digests)
        evidence = _evidence(settings, kept, cache, stage)
        if poisoned is not None:
            measured |= measure_known(network, poisoned.test)
    with stage("artifacts"):
        best = best_remedy(evidence.remedies).name if evidence.remedies else None
        log_verdict(evidence.verdict, best, as_page(evidence), folder)
    with stage("repair"):
        (folder / "networks").mkdir()
        _save(evidence.remedies, folder / "networks", np.random.default_rng(settings.seed))
        log_networks(folder / "networks")
    measured |= metrics_of(evidence.verdict, evidence.remedies)
    show_metrics(measured)
    return measured | in_seconds(stage.seconds)


def _evidence(settings: CheckSettings, kept: Kept, cache: Cache, stage: Stopwatch) -> Evidence:
    network, bed = kept.network, kept.bed
    usual, always = _usual(settings, kept, stage), settings.calibrate is True
    with stage("statistics"):
        verdict = judge(network, bed.clean_valid, settings.seed, usual, always)
    found: Sequence[Remedy] = ()
    if verdict.suspects:
        square = verdict.findings and verdict.findings.trigger
        known = (square.mask, square.pattern) if square else None
        with stage("repair"):
            found = remedies(network, bed, verdict.suspects[0], settings.seed, cache, known)
    return Evidence(settings.name, verdict, network, bed, found)


def _usual(settings: CheckSettings, kept: Kept, stage: Stopwatch) -> Usual | None:
    """Return what trains controls when it is asked; None where there are to be none."""
    if settings.calibrate is False:
        return None
    clean, others, classes = kept.bed.clean_valid, kept.bed.clean_test, kept.network.classes
    key = (kept.digests[CLEAN_VALID], len(clean), len(others), classes, settings.seed, VERDICT)

    def values() -> NDArray[np.float64]:
        return usual_values(clean, others, classes, settings.seed)

    def usual() -> Mapping[str, Values] | None:
        try:
            with stage("controls"):
                found = kept.cache("usual", key, values)
        except UserError as error:
            if settings.calibrate is True:
                raise
            log.info("no controls, which would tell more: %s", error)
            return None
        return dict(zip(STATISTICS, found, strict=True))

    return usual


def _save(found: Sequence[Remedy], folder: Path, rng: np.random.Generator) -> None:
    """Save B' and G of each remedy, and try what was saved."""
    for remedy in found:
        for what, (model, labels) in remedy.networks().items():
            answers = [(remedy.outcome.bed.clean_test, labels)]
            saved_and_loaded(model, folder / f"{what}-{remedy.name}.keras", answers, rng)
