"""In which order channels go: a score for each, the lowest goes first.

Liu, Dolan-Gavitt, Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
Networks", RAID 2018, arXiv 1805.12185, ranks by mean activation.

Each score is one function of the evidence. What a score has no source for was measured for this
project. Where a pass is needed for every channel, at most `evidence.MOST` pictures are looked at.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor.pruning.effects import cross_entropy, effect_of_each, greedy_removal, push_of_each
from backdoor.pruning.evidence import Evidence
from backdoor.pruning.needs import CLASSES, NOTHING, PICTURES, SUSPECT, WEIGHTS, needs
from backdoor.pruning.walk import Activations, parts_of
from backdoor.versions import version

Scores = NDArray[np.float64]

MOST_GREEDY = 256  # pictures on which every channel is tried after every removal
LEAST = 0.01  # of the largest stimulation: a mean over less would be over nothing


@version(1)
@needs(PICTURES)
def ascending(evidence: Evidence) -> Scores:
    """Least mean activation first: what clean pictures do not use goes first (fine-pruning)."""
    return mean_activation(evidence.activations)


@version(1)
@needs(PICTURES)
def descending(evidence: Evidence) -> Scores:
    """Most mean activation first: what clean pictures use most goes first."""
    return -mean_activation(evidence.activations)


@version(1)
@needs(NOTHING)
def drawn(evidence: Evidence) -> Scores:
    """Any channel first, by the seed: the bound from below."""
    return evidence.rng.permutation(evidence.activations.shape[-1]).astype(np.float64)


@version(1)
@needs(PICTURES)
def maximum(evidence: Evidence) -> Scores:
    """Least largest activation first."""
    return np.asarray(_by_channel(evidence).max(axis=0), np.float64)


@version(2)
@needs(PICTURES)
def deviation(evidence: Evidence) -> Scores:
    """Least standard deviation of the activation first."""
    mean = mean_activation(evidence.activations)
    squares = _sum_of(lambda part: np.square(part - mean), evidence.activations)
    return np.asarray(np.sqrt(squares / len(_by_channel(evidence))))


@version(1)
@needs(PICTURES)
def zeros(evidence: Evidence) -> Scores:
    """Largest share of zeros first.

    APoZ: Hu, Peng, Tai, Tang, "Network Trimming", arXiv 1607.03250.
    """
    zero = _sum_of(lambda part: part == 0, evidence.activations)
    return -np.asarray(zero / len(_by_channel(evidence)))


@version(1)
@needs(WEIGHTS)
def filter_norm(evidence: Evidence) -> Scores:
    """Least sum of the filter's absolute weights first.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv
    1608.08710. Needs a convolution before the cut.
    """
    kernel = evidence.network.filters.kernel
    return np.asarray(np.abs(kernel).sum(axis=(0, 1), dtype=np.float64))


@version(1)
@needs(WEIGHTS)
def lipschitz(evidence: Evidence) -> Scores:
    """Largest bound of the channel's Lipschitz constant first.

    CLP: Zheng, Tang, Li, Liu, "Data-free Backdoor Removal based on Channel Lipschitzness", ECCV
    2022, arXiv 2208.03111: the largest singular value of the channel's kernel, inputs x places,
    times the factor of the batch normalisation. Needs a convolution before the cut.
    """
    filters = evidence.network.filters
    largest = np.linalg.norm(filters.kernel.transpose(2, 0, 1), ord=2, axis=(1, 2))
    return -np.asarray(largest * filters.factor, np.float64)


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS)
def taylor(evidence: Evidence) -> Scores:
    """Least change of the loss to first order first.

    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", ICLR 2017, arXiv 1611.06440: the mean over pictures of |sum over places of
    activation x gradient|.
    """
    rows = evidence.rows()
    activations = evidence.activations[rows]
    change = activations * evidence.network.gradient(activations, evidence.labels[rows])
    by_picture = change.reshape(len(rows), -1, change.shape[-1]).sum(axis=1, dtype=np.float64)
    return np.asarray(np.abs(by_picture).mean(axis=0))


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS)
def leave_one_out(evidence: Evidence) -> Scores:
    """Least loss (cross-entropy) without the channel first."""
    rows = evidence.rows()
    loss = cross_entropy(evidence.labels[rows])
    return effect_of_each(evidence.tail, evidence.activations[rows], 0, loss, "Leave one out")


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS)
def greedy_leave_one_out(evidence: Evidence) -> Scores:
    """Least loss without the channel and all that went before it first, found out step by step."""
    rows = evidence.rows(MOST_GREEDY)
    loss = cross_entropy(evidence.labels[rows])
    return greedy_removal(evidence.tail, evidence.activations[rows], loss, "Greedy leave one out")


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS, SUSPECT)
def stimulation(evidence: Evidence) -> Scores:
    """Largest push towards the suspected class first.

    How far raising the channel to the layer's clean maximum (the 99.9 % quantile, at all places)
    moves the mean margin of other classes' clean pictures towards the suspect.
    """
    return -_push(evidence)


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS, SUSPECT)
def mean_over_stimulation(evidence: Evidence) -> Scores:
    """Least mean activation for its push towards the suspected class first; both scaled to 0..1."""
    push = _scaled(_push(evidence))
    return _scaled(mean_activation(evidence.activations)) / np.maximum(push, LEAST)


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS, SUSPECT)
def estimated_trigger(evidence: Evidence) -> Scores:
    """Least loss without the channel, on clean pictures and with the estimated trigger, first.

    The trigger is the cheapest mask and pattern that turn clean pictures to the suspect (Wang et
    al., "Neural Cleanse", S&P 2019); the class of a picture stays its own.
    """
    rows = evidence.rows()
    both = np.concatenate([evidence.activations[rows], evidence.suspicion.triggered(rows)])
    loss = cross_entropy(np.tile(evidence.labels[rows], 2))
    return effect_of_each(evidence.tail, both, 0, loss, "Leave one out, with the trigger")


SCORES: dict[str, Callable[[Evidence], Scores]] = {
    "asc": ascending,
    "desc": descending,
    "random": drawn,
    "max": maximum,
    "std": deviation,
    "apoz": zeros,
    "l1": filter_norm,
    "clp": lipschitz,
    "taylor": taylor,
    "leave_one_out": leave_one_out,
    "greedy_leave_one_out": greedy_leave_one_out,
    "stimulation": stimulation,
    "mean_over_stimulation": mean_over_stimulation,
    "estimated_trigger": estimated_trigger,
}
"""Each takes the evidence and returns a score a channel, shape (C,)."""


def mean_activation(activations: NDArray[np.float32]) -> Scores:
    """Return each channel's mean over all other axes (pictures, height, width), shape (C,)."""
    axes = tuple(range(activations.ndim - 1))
    return np.asarray(activations.mean(axis=axes, dtype=np.float64))


def _sum_of(
    measure: Callable[[NDArray[np.float32]], NDArray[Any]], activations: Activations
) -> Scores:
    """Return each channel's sum of a measure of its activations, shape (C,)."""
    parts = (activations[rows] for rows in parts_of(activations))
    flat = (part.reshape(-1, part.shape[-1]) for part in parts)
    return np.asarray(sum(measure(part).sum(axis=0, dtype=np.float64) for part in flat))


def _by_channel(evidence: Evidence) -> NDArray[np.float32]:
    return evidence.activations.reshape(-1, evidence.activations.shape[-1])


def _push(evidence: Evidence) -> Scores:
    rows = evidence.rows()
    activations, labels = evidence.activations[rows], evidence.labels[rows]
    push = push_of_each(evidence.tail, activations, labels)
    return np.asarray(push[:, evidence.suspicion.suspect()], np.float64)


def _scaled(values: Scores) -> Scores:
    span = values.max() - values.min()
    return np.asarray((values - values.min()) / (span or 1))
