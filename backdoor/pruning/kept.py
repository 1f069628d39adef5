"""What is costly of an experiment: heads, orders and walks, each computed once and kept."""

import numpy as np
from numpy.typing import NDArray

from backdoor.cache import Cache, Key, NoCache
from backdoor.device import device_name
from backdoor.errors import UserError
from backdoor.evaluation import Labels
from backdoor.networks.cut import CutNetwork, compute_activations
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import files_behind
from backdoor.pictures.test_bed import CLEAN_VALID, POISONED_VALID, TestBed
from backdoor.progress import Stopwatch
from backdoor.pruning.any_walk import walk_network
from backdoor.pruning.orders import is_oracle, rank_channels, version_of_order
from backdoor.pruning.scores import Evidence
from backdoor.pruning.walk import Activations, walk
from backdoor.versions import version_of


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

    def rank(self, order: str, seed: int) -> NDArray[np.int64]:
        """Return the channels in that order, first to go first, shape (C,).

        Raises:
            UserError: An oracle, and no poisoned pictures.
        """

        def compute() -> NDArray[np.int64]:
            labels, rng = self.bed.clean_valid.labels, np.random.default_rng(seed)
            evidence = Evidence(self.network, self._activations(CLEAN_VALID), labels, rng)
            return rank_channels(order, evidence, lambda: self._poisoned(order))

        key = (*self._key(CLEAN_VALID), version_of_order(order), seed)
        if is_oracle(order) and POISONED_VALID in self.digests:
            key += (self.digests[POISONED_VALID],)
        with self.stage("rank"):
            return self.cache("order", key, compute)

    def walk(self, name: str, channels: NDArray[np.int64]) -> Labels:
        """Return the labels of a set along the channels, at k = 0..C, shape (C + 1, n).

        Where the cache has them, no head is run.
        """
        smallest = np.min_scalar_type(self.network.classes)
        what = f"Walk on {self.bed.sets[name].name}"

        def compute() -> NDArray[np.unsignedinteger]:
            activations = self._activations(name)
            return walk_network(self.network, activations, channels, what).astype(smallest)

        key = (*self._key(name), version_of(walk), *channels.tolist())
        with self.stage("walk"):
            return self.cache("walk", key, compute).astype(np.int64)

    def _activations(self, name: str) -> Activations:
        with self.stage("head"):
            return self.cache(
                "activations",
                self._key(name),
                lambda: compute_activations(self.network, self.bed.sets[name]),
            )

    def _poisoned(self, order: str) -> Activations:
        if self.bed.poisoned is None:
            raise UserError(
                f"order: expected poisoned pictures for the oracle {order!r}, which looks at "
                f"them, got clean ones alone"
            )
        return self._activations(POISONED_VALID)

    def _key(self, name: str) -> Key:
        network, pictures = self.network, self.bed.sets[name]
        origin = (self.digests[name], *pictures.shape, pictures.scale.name, pictures.part)
        code = (device_name(), version_of(read_chunks))
        return (network.fingerprint, network.layer, *origin, *code)
