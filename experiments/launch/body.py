"""What a run computes, once TensorFlow is started."""

import functools
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Cache
from backdoor.detection import Outcome, detect
from backdoor.evaluation import Labels
from backdoor.networks.checks import check_pictures
from backdoor.networks.cut import CutNetwork, cut_network
from backdoor.networks.exports import export
from backdoor.networks.goodnet import CHECKED, build_goodnet, saved_and_loaded
from backdoor.networks.model_files import load_badnet
from backdoor.networks.scaling import find_scale, sample_of
from backdoor.networks.where import PLAIN
from backdoor.pictures.picture_set import PictureSet, evenly, read_pictures, read_stored
from backdoor.pictures.scale import AUTO, scale_named
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST, TestBed
from backdoor.progress import Stopwatch
from backdoor.pruning.orders import labelled
from backdoor.repaired import repair
from backdoor.reporting.figures import Panel, draw_curves, draw_samples
from backdoor.samples import sample_pictures
from backdoor.tracking import record
from experiments.launch.data import badnet_path, make_or_verify, open_bed
from experiments.launch.settings import Settings

log = logging.getLogger(__name__)


def detect_and_record(
    settings: Settings, run_id: str, cache: Cache, folder: Path
) -> dict[str, float]:
    """Run the experiment, log what it gives to the current MLflow run, return seconds by stage.

    Args:
        folder: An empty one, for files on their way.
    """
    stage, threshold = Stopwatch(), settings.threshold
    with stage("data"):
        make_or_verify(settings)
    with stage("network"):
        path = badnet_path(settings)
        sha256 = cache.digest(path) if path.is_file() else ""
        network = _network(path, sha256, settings.badnet.trust, settings.layer)
    if network.why != PLAIN and settings.layer == "auto":
        log.info("cut at %s, %s", network.layer, network.why)
    with stage("data"):
        bed = _in_scale(open_bed(settings, network.picture_shape), network, settings)
    outcome = _detected(network, bed, settings, cache)
    curves = outcome.curves()
    rng = np.random.default_rng(settings.seed)
    with stage("goodnet"):
        goodnet = build_goodnet(network, outcome.removed(threshold))
        answers = {name: outcome.answers(name, threshold)[2] for name in bed.tests}
        record.log_goodnet(_tried(goodnet, folder / "goodnet.keras", bed, answers, rng))
        (folder / "goodnet.keras").unlink()
    with stage("tracking"):
        record.log_outcome(run_id, outcome, threshold, curves)
    with stage("repair"):
        repaired = repair(outcome, threshold, settings.repair, settings.seed)
        file = folder / record.REPAIRED_FILE
        model = _tried(repaired.model, file, bed, repaired.answers, rng)
        for kind in settings.export:
            export(model, kind, file.with_suffix(f".{kind}"), _some(bed.clean_test))
        record.log_repaired(repaired.metrics())
    with stage("artifacts"):
        samples = sample_pictures(outcome, threshold, rng)
        figures = {
            record.CURVES_PICTURE: draw_curves([_panel(outcome, curves, settings)], "GoodNet"),
            record.SAMPLES_PICTURE: draw_samples(samples, network.classes, bed.clean_test.names),
        }
        record.log_artifacts(outcome, threshold, curves, samples, figures, repaired.labels, folder)
    return dict(Counter(stage.seconds) + Counter(outcome.seconds))


def _detected(network: CutNetwork, bed: TestBed, settings: Settings, cache: Cache) -> Outcome:
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


def _tried(
    model: keras.Model,
    file: Path,
    bed: TestBed,
    answers: Mapping[str, Labels],
    rng: np.random.Generator,
) -> keras.Model:
    """Save a network, load it again and compare some of its answers to the test sets."""
    return saved_and_loaded(
        model, file, [(pictures, answers[name]) for name, pictures in bed.tests.items()], rng
    )


def _some(pictures: PictureSet) -> NDArray[np.float32]:
    return read_pictures(pictures, evenly(pictures, CHECKED))


@functools.lru_cache(maxsize=1)
def _network(path: Path, sha256: str, trust: bool, layer: str) -> CutNetwork:
    """Return the network of that file, cut, as long as the file is the same.

    The next run of this process takes what has been loaded and compiled for this one.
    """
    return cut_network(load_badnet(path, trust), layer)


def _in_scale(bed: TestBed, network: CutNetwork, settings: Settings) -> TestBed:
    """Return the pictures in the scale that the settings name, or that fits the network best."""
    data, clean = settings.dataset, bed.clean_valid
    if data.preprocess == AUTO and data.divide_by is not None:
        return bed
    check_pictures(network, clean)
    if data.preprocess == AUTO:
        return bed.scaled(find_scale(network, clean))
    return bed.scaled(scale_named(data.preprocess, read_stored(clean, sample_of(clean))))


def _panel(outcome: Outcome, curves: record.Curves, settings: Settings) -> Panel:
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
