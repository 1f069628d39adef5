"""Scores that see poisoned pictures: a bound on what an order can do, never a defence."""

from collections.abc import Callable

import numpy as np

from backdoor.pruning.effects import cross_entropy, effect_of_each, not_answered
from backdoor.pruning.evidence import Evidence, PoisonedEvidence
from backdoor.pruning.needs import CLASSES, PICTURES, POISONED, WEIGHTS, needs
from backdoor.pruning.scores import Scores
from backdoor.pruning.walk import parts_of
from backdoor.versions import version


@version(2)
@needs(PICTURES, POISONED)
def trigger_activated_change(evidence: Evidence, poisoned: PoisonedEvidence) -> Scores:
    """Largest change of activation by the trigger first.

    TAC: Zheng, Tang, Li, Liu, ECCV 2022, arXiv 2208.03111: the norm over places of a(T(x)) - a(x),
    mean over pictures. Where poisoned pictures are not the clean ones' twins, row by row, means
    over pictures are compared.
    """
    clean, triggered = evidence.activations, poisoned.activations
    if not poisoned.twins:
        clean, triggered = clean.mean(axis=0)[None], triggered.mean(axis=0)[None]
    total = np.zeros(clean.shape[-1])
    for rows in parts_of(clean):
        change = triggered[rows] - clean[rows]
        by_place = change.reshape(len(change), -1, change.shape[-1])
        total += np.linalg.norm(by_place, axis=1).sum(axis=0, dtype=np.float64)
    return -total / len(clean)


@version(1)
@needs(PICTURES, CLASSES, WEIGHTS, POISONED)
def oracle_leave_one_out(evidence: Evidence, poisoned: PoisonedEvidence) -> Scores:
    """Least loss without the channel first: of clean pictures, and of poisoned ones' not answering.

    On poisoned pictures the loss is that of the target, -log(1 - p), which needs no true class.
    """
    rows = evidence.rows()
    some = np.unique(np.linspace(0, len(poisoned.activations) - 1, len(rows)).astype(np.int64))
    clean = effect_of_each(
        evidence.tail,
        evidence.activations[rows],
        0,
        cross_entropy(evidence.labels[rows]),
        "Leave one out, clean",
    )
    attacked = effect_of_each(
        evidence.tail,
        poisoned.activations[some],
        0,
        not_answered(poisoned.targets[some]),
        "Leave one out, poisoned",
    )
    return clean + attacked


ORACLES: dict[str, Callable[[Evidence, PoisonedEvidence], Scores]] = {
    "oracle_tac": trigger_activated_change,
    "oracle_leave_one_out": oracle_leave_one_out,
}
"""Each takes the evidence and what poisoned validation pictures show; the lowest goes first."""
