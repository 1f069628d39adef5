"""A GoodNet at work: which of many unlabelled pictures are flagged, and is that too many."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.evaluation import Labels, flip_depth, interval
from backdoor.networks.cut import CutNetwork
from backdoor.networks.goodnet import BADNET, PRUNED, PRUNING, SCORES
from backdoor.pictures.picture_set import PictureSet, read_chunks
from backdoor.progress import progress
from backdoor.pruning.any_walk import walk_network

LONG_CHUNK = 2048  # pictures that are read at once
BY_CHANCE = 0.01  # more flagged pictures than this would give by chance are an alarm


@dataclass(frozen=True)
class Alarm:
    """How many pictures are flagged, against how many clean ones are.

    Attributes:
        usual: Share of clean pictures that is flagged, as measured; None where it is not known.
        measured_on: How many clean pictures that was measured on; None where the share is given.
    """

    flagged: int
    pictures: int
    usual: float | None
    measured_on: int | None = None

    @property
    def share(self) -> float:
        return self.flagged / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.flagged, self.pictures)

    @property
    def chance(self) -> float | None:
        """That so many or more are flagged of pictures that are all clean.

        By Fisher's exact test, since a share that was measured may be another by chance, too; of
        one that is given, by the binomial test.
        """
        if self.usual is None:
            return None
        if self.measured_on is None:
            test = scipy.stats.binomtest(self.flagged, self.pictures, self.usual, "greater")
            return float(test.pvalue)
        before = round(self.usual * self.measured_on)
        table = [[self.flagged, self.pictures - self.flagged], [before, self.measured_on - before]]
        return float(scipy.stats.fisher_exact(table, "greater").pvalue)

    @property
    def sentence(self) -> str:
        low, high = self.interval
        told = (
            f"{self.flagged} of {self.pictures} pictures are flagged, {self.share:.1%} (95 % "
            f"interval {low:.1%} to {high:.1%})"
        )
        if self.usual is None or self.chance is None:
            return f"{told}; how many clean pictures are is not known: false_alarm_rate=SHARE"
        said = "more than" if self.raised else "no more than"
        return (
            f"{told}, {said} chance makes of clean pictures, of which {self.usual:.1%} "
            f"{f'of {self.measured_on} ' if self.measured_on else ''}are flagged "
            f"(p = {self.chance:.2g})"
        )

    @property
    def raised(self) -> bool:
        """Whether more are flagged than chance makes of clean pictures."""
        return self.chance is not None and self.chance < BY_CHANCE


@dataclass(frozen=True, eq=False)
class TakenApart:
    """What a GoodNet compares: B, and B' by the factor of each channel, 1 or 0, (C,)."""

    network: CutNetwork
    keep: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Screened:
    """What is said of pictures: by B, by B', and at which k the label changes first, (n,) each.

    The last is None where the order of the channels is not known, and C + 1 of a picture whose
    label never changes.
    """

    badnet: Labels
    pruned: Labels
    depth: Labels | None

    @property
    def flagged(self) -> NDArray[np.bool_]:
        return np.asarray(self.badnet != self.pruned)


def taken_apart(goodnet: keras.Model) -> TakenApart:
    """Return the parts of a GoodNet.

    Raises:
        UserError: It is no GoodNet as `networks.goodnet` builds it.
    """
    try:
        head, pruning, tail, scores, _, _ = map(
            goodnet.get_layer, ("head", PRUNING, "tail", SCORES, BADNET, PRUNED)
        )
    except ValueError as error:
        raise UserError(
            "goodnet: expected a GoodNet that this version has made, which compares a network with "
            "its pruned copy, found another network"
        ) from error
    badnet = keras.Model(goodnet.inputs, scores.output)
    keep = np.asarray(pruning.scale, np.float32)
    return TakenApart(CutNetwork(badnet, PRUNING, "", head, tail, ""), keep)


def screen(
    goodnet: TakenApart, pictures: PictureSet, order: NDArray[np.int64] | None = None
) -> Iterator[Screened]:
    """Yield what is said of the pictures, in chunks.

    Args:
        order: Of the channels, by which the flip depth is told.
    """
    network = goodnet.network
    chunks = read_chunks(pictures, LONG_CHUNK)
    what = f"Screening {len(pictures)} pictures"
    for chunk in progress(chunks, what, -(-len(pictures) // LONG_CHUNK)):
        activations = network.activate_pictures(chunk)
        badnet = network.classify_activations(activations)
        pruned = network.classify_activations(activations * goodnet.keep)
        depth = None if order is None else flip_depth(walk_network(network, activations, order, ""))
        yield Screened(badnet, pruned, depth)


def joined(parts: Iterable[Screened]) -> Screened:
    """Return what is said of all chunks."""
    several = [*parts]
    badnet = np.concatenate([part.badnet for part in several])
    pruned = np.concatenate([part.pruned for part in several])
    depths = [part.depth for part in several if part.depth is not None]
    return Screened(badnet, pruned, np.concatenate(depths) if depths else None)
