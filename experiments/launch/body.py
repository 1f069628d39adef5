"""What a run computes, once TensorFlow is started."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Cache
from backdoor.detection import Outcome, detect
from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork, fingerprint
from backdoor.networks.exports import export
from backdoor.networks.goodnet import CHECKED, build_goodnet, saved_and_loaded
from backdoor.pictures.brightness import brightness
from backdoor.pictures.picture_set import PictureSet, evenly, read_pictures
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST, TestBed
from backdoor.progress import Stopwatch
from backdoor.pruning.orders import labelled
from backdoor.repaired import repair
from backdoor.reporting.figures import Panel, draw_curves, draw_samples
from backdoor.samples import Samples, sample_pictures, worst_mistakes
from backdoor.tracking import record
from experiments.launch.again import made_once
from experiments.launch.opening import open_network_and_bed
from experiments.launch.settings import RunSettings


def detect_and_record(
    settings: RunSettings, run_id: str, cache: Cache, folder: Path
) -> dict[str, float]:
    """Run the experiment, log what it gives to the current MLflow run, return what is measured.

    Args:
        folder: An empty one, for files on their way.
    """
    stage, threshold = Stopwatch(), settings.threshold
    network, bed = open_network_and_bed(settings, cache, stage)
    outcome = _detected(network, bed, settings, cache)
    curves = outcome.curves()
    # All that a run depends on, but what is removed in place of the threshold that says so.
    same = dataclasses.replace(settings, threshold=outcome.removed(threshold))
    key: tuple[object, ...] = (same, network.fingerprint, outcome.digests)
    with stage("goodnet"):
        _log_goodnet(settings, outcome, key, folder / f"{record.MODEL}.keras")
    with stage("tracking"):
        metrics = outcome.metrics(threshold)
        record.log_outcome(run_id, outcome, metrics, curves)
    with stage("repair"):
        repaired = repair(outcome, threshold, settings.repair, settings.seed)
        file = folder / record.REPAIRED_FILE
        if repaired.own:  # a network that was trained, which need not give the same again
            key = (*key, fingerprint(repaired.model))
        made_once(file, key, _tried(repaired.model, bed, repaired.answers, settings.seed))
        record.show_metrics(repaired.metrics())
        for kind in settings.export:
            loaded = keras.models.load_model(file)
            export(loaded, kind, file.with_suffix(f".{kind}"), _some(bed.clean_test))
    with stage("artifacts"):
        samples = _drawn(settings, outcome, curves, key, folder)
        record.log_artifacts(outcome, threshold, curves, samples, repaired.labels, folder)
    return {
        **metrics,
        **repaired.metrics(),
        **record.in_seconds(Counter(stage.seconds) + Counter(outcome.seconds)),
        record.ORDER_SECONDS: outcome.ranking.seconds,
    }


def _detected(network: CutNetwork, bed: TestBed, settings: RunSettings, cache: Cache) -> Outcome:
    return detect(
        network,
        bed,
        settings.order,
        [settings.threshold],
        settings.seed,
        cache,
        stop=settings.stop,
        rank_at=settings.rank_at,
        suspect=settings.given_suspect,
    )


def _log_goodnet(settings: RunSettings, outcome: Outcome, key: object, file: Path) -> None:
    network, bed, threshold = outcome.network, outcome.bed, settings.threshold
    goodnet = build_goodnet(network, outcome.removed(threshold))
    answers = {name: outcome.answers(name, threshold)[2] for name in bed.tests}
    made_once(file, key, _tried(goodnet, bed, answers, settings.seed))
    scale, names = brightness(bed.clean_valid), bed.names(network.classes)
    record.log_goodnet(file, settings.name, network.picture_shape, scale, names)
    file.unlink()


def _drawn(
    settings: RunSettings, outcome: Outcome, curves: record.Curves, key: object, folder: Path
) -> dict[str, Samples]:
    """Draw the run's figures into the folder, and return the samples by their artifact's name."""
    threshold, clean = settings.threshold, outcome.bed.clean_test
    drawn = sample_pictures(outcome, threshold, np.random.default_rng(settings.seed))
    figure = draw_samples(drawn, outcome.network.classes, clean.names)
    made_once(folder / record.SAMPLES_PICTURE, key, figure.savefig)
    panel = _panel(outcome, curves, settings)
    draw_curves([panel], "GoodNet").savefig(folder / record.CURVES_PICTURE)
    return {
        record.SAMPLES_FILE: drawn,
        record.MISTAKES_FILE: worst_mistakes(outcome, threshold),
    }


def _tried(
    model: keras.Model, bed: TestBed, answers: Mapping[str, Labels], seed: int
) -> Callable[[Path], keras.Model]:
    """Return what saves a network, loads it again and compares its answers to the test sets."""
    sets = [(pictures, answers[name]) for name, pictures in bed.tests.items()]
    return lambda file: saved_and_loaded(model, file, sets, np.random.default_rng(seed))


def _some(pictures: PictureSet) -> NDArray[np.float32]:
    return read_pictures(pictures, evenly(pictures, CHECKED))


def _panel(outcome: Outcome, curves: record.Curves, settings: RunSettings) -> Panel:
    points = {name: curve.tolist() for name, curve in curves.items()}
    accuracy, attack = record.TEST_CURVES
    stops = {float(settings.threshold): outcome.stops[settings.threshold]}
    sizes = {name: len(pictures) for name, pictures in outcome.bed.tests.items()}
    return Panel(
        labelled(settings.order),
        points[accuracy],
        points.get(attack),
        stops,
        sizes[CLEAN_TEST],
        sizes.get(POISONED_TEST, 0),
    )
