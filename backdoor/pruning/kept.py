"""What is costly of an experiment: heads, orders and walks, each computed once and kept."""

import json
import logging
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backdoor.cache import DIGEST, Cache, Key, NoCache
from backdoor.device import device_name
from backdoor.errors import UserError
from backdoor.evaluation import Labels
from backdoor.networks.checks import check_bed
from backdoor.networks.cut import CutNetwork, activations_of
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import files_behind
from backdoor.pictures.test_bed import CLEAN_VALID, POISONED_VALID, TestBed
from backdoor.progress import Stopwatch
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.effects import PlainTail, Tail
from backdoor.pruning.evidence import Evidence, PoisonedEvidence, Suspicion
from backdoor.pruning.linear_layers import translated
from backdoor.pruning.orders import (
    CONVOLUTION,
    check_rank_at,
    is_oracle,
    rank_channels,
    suspects,
    version_of_order,
)
from backdoor.pruning.walk import Activations, walk
from backdoor.versions import version_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The channels, first to go first, shape (C,), and the seconds that finding that out took.

    Attributes:
        seconds: When it was computed, without the head.
        suspect: The class under suspicion, where the order asks for one.
    """

    channels: NDArray[np.int64]
    seconds: float
    suspect: int | None


class Kept:
    """Results of one network on one test bed, under a key of all that they depend on.

    Attributes:
        digests: SHA-256 of each set's file, by name.
        stage: Seconds of hashing the data, head, rank and walk.
    """

    def __init__(self, network: CutNetwork, bed: TestBed, cache: Cache | NoCache) -> None:
        self.network, self.bed, self.cache = network, bed, cache
        self.stage = Stopwatch()
        with self.stage("data"):
            self.digests = {
                name: cache.digest(*files_behind(pictures.path))
                for name, pictures in bed.sets.items()
            }

    def check(self) -> None:
        """Refuse pictures that do not fit the network, and warn, as `check_bed` does.

        That they fit is kept, with the warnings.

        Raises:
            UserError: The message says what does not fit.
        """
        told = None if self.bed.poisoned is None else self.bed.poisoned.target
        names = DIGEST(json.dumps([self.bed.clean_valid.names, self.bed.clean_test.names]).encode())
        key = [
            *(part for name in self.bed.sets for part in self.key(name)),
            "" if told is None else told,
        ]
        key += [names.hexdigest(), version_of(check_bed)]

        def compute() -> str:
            return "\n".join(check_bed(self.network, self.bed))

        with self.stage("network"):
            warnings = self.cache("checked", tuple(key), compute)
        for warning in warnings.splitlines():
            log.warning("%s", warning)

    def rank(self, order: str, seed: int, rank_at: str, suspicion: Suspicion) -> Ranking:
        """Return the channels in that order.

        Args:
            rank_at: `pool` ranks by the activations at the cut, `conv` by those that go into it.

        Raises:
            UserError: An oracle, and no poisoned pictures; or the network lacks what it looks at.
        """
        check_rank_at(order, rank_at)
        site = self.network.unpooled if rank_at == CONVOLUTION else self.network

        def compute() -> NDArray[np.float64]:
            rng, labels = np.random.default_rng(seed), self.bed.clean_valid.labels
            activations = self._activations(CLEAN_VALID, site)
            if suspects(order):
                suspicion.suspect()  # outside the time taken here: it may be there already
            known, start = suspicion.seconds, time.perf_counter()
            evidence = Evidence(self.network, activations, labels, rng, self.tail, suspicion)
            channels = rank_channels(order, evidence, lambda: self._poisoned(order, site))
            return np.array([known + time.perf_counter() - start, *channels])

        key: Key = (*self.key(CLEAN_VALID), version_of_order(order), seed, rank_at)
        if suspects(order):
            key += suspicion.key
        if is_oracle(order) and POISONED_VALID in self.digests:
            key += self.key(POISONED_VALID)
        with self.stage("rank"):
            seconds, *channels = self.cache("order", key, compute).tolist()
            suspect = suspicion.suspect() if suspects(order) else None
        return Ranking(np.array(channels, np.int64), seconds, suspect)

    def walk(self, name: str, channels: NDArray[np.int64]) -> Labels:
        """Return the labels of a set along the channels, at k = 0..C, shape (C + 1, n).

        Where the cache has them, no head is run.
        """
        what = f"Walk on {self.bed.sets[name].name}"

        def compute() -> Labels:
            return walk_network(self.network, self.activations(name), channels, what)

        key = (*self.key(name), version_of(walk), *channels.tolist())
        with self.stage("walk"):
            return self.cache("walk", key, compute)

    @cached_property
    def tail(self) -> Tail:
        """The layers behind the cut as they give logits, in NumPy where they are of known kinds."""
        return translated(self.network.logit_tail) or PlainTail(self.network.score_activations)

    def activations(self, name: str) -> Activations:
        """Return the head's output for a set, (n, ..., C)."""
        return self._activations(name, self.network)

    def _activations(self, name: str, site: CutNetwork) -> Activations:
        what = "activations" if site is self.network else "unpooled activations"
        pictures = self.bed.sets[name]
        shape = (len(pictures), *site.activation_shape)
        with self.stage("head"):
            return self.cache.large(
                what, self.key(name), shape, lambda: activations_of(site, pictures)
            )

    def _poisoned(self, order: str, site: CutNetwork) -> PoisonedEvidence:
        poisoned = self.bed.poisoned
        if poisoned is None:
            raise UserError(
                f"order: expected poisoned pictures for the oracle {order!r}, which looks at "
                f"them, got clean ones alone"
            )
        truth, labels = poisoned.valid.true_labels, self.bed.clean_valid.labels
        activations = self._activations(POISONED_VALID, site)
        twins = len(activations) == len(labels) and (truth is None or bool((truth == labels).all()))
        return PoisonedEvidence(activations, poisoned.valid.labels, twins)

    def key(self, name: str) -> Key:
        """Return what a set's activations depend on."""
        network, pictures = self.network, self.bed.sets[name]
        labels = DIGEST(pictures.labels.tobytes()).hexdigest()  # files may hold several
        origin = (self.digests[name], labels, *pictures.shape, pictures.scale.name, pictures.part)
        code = (device_name(), version_of(read_chunks))
        return (network.fingerprint, network.layer, *origin, *code)
