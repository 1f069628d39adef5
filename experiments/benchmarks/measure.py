"""What is timed: one plain pass, the numeric work of the six runs, the lab's loop, their growth."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import CHUNK
from backdoor.pictures.test_bed import CLEAN_TEST, CLEAN_VALID
from backdoor.pruning.any_walk import linear_tail, walk_network
from backdoor.pruning.evidence import Evidence
from backdoor.pruning.fast_walk import LinearTail, linear_walk
from backdoor.pruning.orders import by_score
from backdoor.pruning.scores import SCORES
from backdoor.pruning.stop import channels_to_remove
from backdoor.reporting.published import PUBLISHED

# The lab's loop at the published stops: the whole valid set once before and once after every
# channel removed; then B and B' on both test sets.
STOPS = [line.removed for lines in PUBLISHED.values() for line in lines.values()]
VALID_PASSES = len(STOPS) + sum(STOPS)
TEST_PASSES = 4 * len(STOPS)
PLAIN, LAB = "plain_pass", "lab_loop"
TIMED = 6  # valid passes of each repeat; single ones differ by a factor of two

Pictures = Mapping[str, NDArray[np.float32]]
Order = NDArray[np.int64]
Seconds = dict[str, float]


def measure(network: CutNetwork, pictures: Pictures) -> Seconds:
    """Time one repeat of everything, in memory: reading files is no part of it."""
    work = measure_work(network, pictures)
    plain = timed(lambda: [network.classify_pictures(values) for values in pictures.values()])[0]
    return {PLAIN: plain, **work}


def measure_work(network: CutNetwork, pictures: Pictures) -> Seconds:
    """Time the numeric work of the six runs, stage by stage."""
    _compile(network, pictures)
    head, activations = timed(
        lambda: {name: activate(network, values) for name, values in pictures.items()}
    )
    rank, orders = timed(lambda: published_orders(activations[CLEAN_VALID]))

    def seconds_of_walk(order: Order) -> float:
        return timed(lambda: [walk_network(network, a, order) for a in activations.values()])[0]

    walks = {f"walk_{name}": seconds_of_walk(order) for name, order in orders.items()}
    return {"head": head, "rank": rank, **walks}


def active_share(network: CutNetwork, pictures: NDArray[np.float32]) -> float:
    """Return the share of channels that are not zero on a picture, mean over pictures.

    A walk scores a picture again for each of these alone.
    """
    activations = activate(network, pictures)
    return float((activations != 0).any(axis=tuple(range(1, activations.ndim - 1))).mean())


def numeric_work(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the stages that the numeric work of the six runs consists of."""
    return {stage: value for stage, value in seconds.items() if stage not in (PLAIN, LAB)}


def median_of(repeats: Sequence[Seconds]) -> Seconds:
    """Return the median of each stage."""
    return {stage: statistics.median(repeat[stage] for repeat in repeats) for stage in repeats[0]}


def spread_of(repeats: Sequence[Seconds]) -> dict[str, tuple[float, float]]:
    """Return the least and the most of each stage."""
    every = {stage: [repeat[stage] for repeat in repeats] for stage in repeats[0]}
    return {stage: (min(values), max(values)) for stage, values in every.items()}


def published_orders(activations: NDArray[np.float32]) -> dict[str, Order]:
    """Return the orders of the published tables, by name, from clean validation activations."""
    evidence = Evidence.of_activations(activations)
    return {name: by_score(SCORES[name](evidence)) for name in PUBLISHED}


def activate(network: CutNetwork, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the head's output for pictures in memory, in the chunks in which files are read."""
    starts = range(0, len(pictures), CHUNK)
    return network.activate((pictures[s : s + CHUNK] for s in starts), len(pictures))


def lab_loop(network: CutNetwork, pictures: Pictures) -> float:
    """Estimate the seconds of the lab's loop from its beginning, which is run as the course has it.

    A fresh network; pictures as its loader gives them, the valid set in float64 as published, axes
    swapped without a copy; `predict` at batch 32 after every channel. The seconds in which a fresh
    network is traced, six times in the loop, are left out.
    """

    def passes(name: str, channels: int) -> float:
        """Return the mean seconds of one channel's removal and the pass after it."""
        stored = np.float64 if name.endswith("valid") else np.float32
        loaded = np.moveaxis(np.moveaxis(pictures[name], -1, 1).astype(stored, order="C"), 1, -1)
        badnet = keras.models.clone_model(network.model)
        badnet.set_weights(network.model.get_weights())
        convolution = badnet.get_layer("conv_3")
        badnet.predict(loaded[:32], 32, verbose=0)

        def remove_and_predict(channel: int) -> NDArray[np.int64]:
            kernel, bias = convolution.get_weights()
            kernel[..., channel], bias[channel] = 0, 0
            convolution.set_weights([kernel, bias])
            labels: NDArray[np.int64] = badnet.predict(loaded, 32, verbose=0).argmax(axis=1)
            return labels

        return (
            timed(lambda: [remove_and_predict(channel) for channel in range(channels)])[0]
            / channels
        )

    return VALID_PASSES * passes(CLEAN_VALID, TIMED) + TEST_PASSES * passes(CLEAN_TEST, 2)


def measure_growth(
    network: CutNetwork, pictures: NDArray[np.float32]
) -> dict[str, dict[int, float]]:
    """Return seconds of head and walk by pictures, of walks by channels, of stops by thresholds.

    A stop is all that another threshold computes.
    """
    many = np.resize(pictures, (min(16384, 8 * len(pictures)), *pictures.shape[1:]))
    activations = activate(network, many)
    order = next(iter(published_orders(activations).values()))
    tail = linear_tail(network.tail)
    assert tail is not None, "the benchmark's network is of a known kind"

    def for_pictures(count: int) -> float:
        walked = timed(lambda: walk_network(network, activations[:count], order))[0]
        return walked + timed(lambda: activate(network, many[:count]))[0]

    def for_channels(count: int) -> float:
        some = order[-count:]  # the last to go; of the published network's, 31 of 60 are dead
        fewer = LinearTail(tail.bias, tail.spread[some], tail.score, tail.rest)
        seen = np.ascontiguousarray(activations[..., some])
        threads = os.cpu_count() or 1
        return timed(lambda: linear_walk(seen, np.arange(count), fewer, threads))[0]

    def for_thresholds(count: int) -> float:
        correct = np.linspace(len(many), 0, network.channels + 1).astype(np.int64)
        stops = np.linspace(1, 90, count)
        return timed(lambda: [channels_to_remove(correct, len(many), points) for points in stops])[
            0
        ]

    for_thresholds(1)  # the first call takes longer
    by_pictures = {n: for_pictures(n) for n in (len(many) // part for part in (8, 4, 2, 1))}
    by_channels = {n: for_channels(n) for n in (15, 30, 45, 60)}
    by_thresholds = {n: for_thresholds(n) for n in (1, 10, 100)}
    return {"pictures": by_pictures, "channels": by_channels, "thresholds": by_thresholds}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many seconds the work took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _compile(network: CutNetwork, pictures: Pictures) -> None:
    few = pictures[CLEAN_VALID][:64]
    network.classify_pictures(few)
    walk_network(network, activate(network, few), np.arange(network.channels))
