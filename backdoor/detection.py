"""The stages of a run: data, network, head, rank, walk, stop; what is costly is kept on disk."""

import functools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Cache, Key
from backdoor.evaluation import evaluate, goodnet_labels, share_answered
from backdoor.networks.cut import (
    CutNetwork,
    check_pictures,
    check_scale,
    check_target,
    compute_activations,
    cut_network,
)
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import PictureSet
from backdoor.pruning.walk import ORDERS, channels_to_remove
from backdoor.tracking.resume import digest
from experiments.launch.settings import Setting
from experiments.prepare import badnet_path, open_data_set

Labels = NDArray[np.int64]


class Stopwatch:
    """Seconds of each stage; those of a stage within another count for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[stage] += elapsed - self._inner.pop()
            self._inner[-1] += elapsed


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one setting gives.

    Attributes:
        sets, digests: The four sets and their files' SHA-256, by name.
        order: Channels, first to go first.
        labels: Of each set at every k along the order, `labels[set]` of shape (C + 1, n).
        k: Channels removed at the threshold.
    """

    network: CutNetwork
    sets: Mapping[str, PictureSet]
    digests: Mapping[str, str]
    target: int
    order: NDArray[np.int64]
    labels: Mapping[str, Labels]
    k: int

    @property
    def removed(self) -> list[int]:
        return [int(channel) for channel in self.order[: self.k]]

    def answers(self, name: str) -> tuple[Labels, Labels, Labels]:
        """Return the labels that B, B' and G give the pictures of a set."""
        badnet, pruned = self.labels[name][0], self.labels[name][self.k]
        return badnet, pruned, goodnet_labels(badnet, pruned, self.network.classes)

    def metrics(self) -> dict[str, float]:
        """Return the metrics on the test sets by the names they are logged under."""
        clean, poisoned = self.answers("clean_test"), self.answers("poisoned_test")
        return evaluate(
            clean[:2],
            poisoned[:2],
            self.sets["clean_test"].labels,
            self.target,
            self.network.classes,
            self.sets["poisoned_test"].true_labels,
        ) | {"channels_removed": self.k, "channels_total": self.network.channels}

    def curves(self) -> dict[str, NDArray[np.float64]]:
        """Return accuracy and attack success rate at k = 0..C, of B' on valid and of G on test."""
        found: dict[str, NDArray[np.float64]] = {}
        for prefix, split, labels in (
            ("valid", "valid", self.labels),
            ("test_goodnet", "test", self._goodnet_walks()),
        ):
            truth = self.sets[f"clean_{split}"].labels
            found[f"{prefix}_accuracy"] = np.asarray(
                (labels[f"clean_{split}"] == truth).mean(axis=1)
            )
            found[f"{prefix}_attack_success_rate"] = share_answered(
                labels[f"poisoned_{split}"], self.target
            )
        return found

    def _goodnet_walks(self) -> dict[str, Labels]:
        return {n: goodnet_labels(w[0], w, self.network.classes) for n, w in self.labels.items()}


def compute(setting: Setting, cache: Cache, device: str, stage: Stopwatch) -> Outcome:
    """Rank the channels, walk all four sets along the order and stop at the threshold."""
    data, badnet = setting.dataset, setting.badnet.path
    with stage("data"):
        sets = open_data_set(data, badnet)
        digests = {name: digest(pictures.path, cache) for name, pictures in sets.items()}
    with stage("network"):
        path = badnet_path(data, badnet)
        sha256 = digest(path, cache) if path.is_file() else ""
        network = _network(path, sha256, setting.badnet.trust, setting.layer)
        for pictures in sets.values():
            check_pictures(network, pictures)
        for name in ("poisoned_valid", "poisoned_test"):
            check_target(network, sets[name], data.target)
        for name in ("clean_valid", "clean_test"):
            check_scale(network, sets[name])
    channels, labels = _walks(network, sets, digests, setting.order, cache, device, stage)
    correct = (labels["clean_valid"] == sets["clean_valid"].labels).sum(axis=1)
    k = channels_to_remove(correct, len(sets["clean_valid"]), setting.threshold)
    return Outcome(network, sets, digests, data.target, channels, labels, k)


@functools.lru_cache(maxsize=1)
def _network(path: Path, sha256: str, trust: bool, layer: str) -> CutNetwork:
    """Return the network of that file, cut, as long as the file is the same.

    The next run of this process takes what has been loaded and compiled for this one.
    """
    return cut_network(load_badnet(path, trust), layer)


def _walks(
    network: CutNetwork,
    sets: Mapping[str, PictureSet],
    digests: Mapping[str, str],
    order: str,
    cache: Cache,
    device: str,
    stage: Stopwatch,
) -> tuple[NDArray[np.int64], dict[str, Labels]]:
    """Return the order and the labels along it; where the cache has both, no head is run."""

    def key(name: str) -> Key:
        return (network.fingerprint, network.layer, digests[name], sets[name].divide_by, device)

    def activations(name: str) -> NDArray[np.float32]:
        with stage("head"):
            return cache("activations", key(name), lambda: compute_activations(network, sets[name]))

    def labels(name: str) -> Labels:
        walked = network.walk(activations(name), channels, f"Walk on {sets[name].path.name}")
        return walked.astype(np.min_scalar_type(network.classes))

    with stage("rank"):
        channels = cache(
            "order", (*key("clean_valid"), order), lambda: ORDERS[order](activations("clean_valid"))
        )
    with stage("walk"):
        walked = {
            name: cache("walk", (*key(name), *channels.tolist()), functools.partial(labels, name))
            for name in sets
        }
    return channels, {name: found.astype(np.int64) for name, found in walked.items()}
