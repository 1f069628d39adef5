"""The network and the pictures of a run: in place, opened, cut, in a scale that fits."""

import functools
import logging
from pathlib import Path

from backdoor.cache import Cache
from backdoor.networks.checks import check_pictures
from backdoor.networks.cut import CutNetwork, cut_network
from backdoor.networks.model_files import load_badnet
from backdoor.networks.sandbox import Limits
from backdoor.networks.scaling import find_scale, sample_of
from backdoor.networks.where import PLAIN
from backdoor.pictures.picture_set import read_stored
from backdoor.pictures.scale import AUTO, scale_named
from backdoor.pictures.test_bed import TestBed
from backdoor.progress import Stopwatch
from experiments.launch.data import badnet_path, made_here, make_or_verify, open_bed
from experiments.launch.settings import Settings

log = logging.getLogger(__name__)


def open_network_and_bed(
    settings: Settings, cache: Cache, stage: Stopwatch
) -> tuple[CutNetwork, TestBed]:
    """Return the network that the settings name, cut, and the pictures to look at it with."""
    with stage("data"):
        make_or_verify(settings)
    with stage("network"):
        path = badnet_path(settings)
        sha256 = cache.digest(path) if path.is_file() else ""
        limits = None if made_here(path, settings) else settings.badnet.limits
        network = _network(path, sha256, settings.badnet.trust, limits, settings.layer)
    if network.why != PLAIN and settings.layer == "auto":
        log.info("cut at %s, %s", network.layer, network.why)
    with stage("data"):
        bed = _in_scale(open_bed(settings, network.picture_shape), network, settings)
    return network, bed


@functools.lru_cache(maxsize=1)
def _network(path: Path, sha256: str, trust: bool, limits: Limits | None, layer: str) -> CutNetwork:
    """Return the network of that file, cut, as long as the file is the same.

    The next run of this process takes what has been loaded and compiled for this one.
    """
    return cut_network(load_badnet(path, trust, limits), layer)


def _in_scale(bed: TestBed, network: CutNetwork, settings: Settings) -> TestBed:
    """Return the pictures in the scale that the settings name, or that fits the network best."""
    data, clean = settings.dataset, bed.clean_valid
    if data.preprocess == AUTO and data.divide_by is not None:
        return bed
    check_pictures(network, clean)
    if data.preprocess == AUTO:
        return bed.scaled(find_scale(network, clean))
    return bed.scaled(scale_named(data.preprocess, read_stored(clean, sample_of(clean))))
