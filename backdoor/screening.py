"""A GoodNet at work: which of many unlabelled pictures are flagged, and is that too many."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import scipy.stats

from backdoor.errors import UserError
from backdoor.evaluation import Labels, interval
from backdoor.networks.goodnet import BADNET, PRUNED
from backdoor.pictures.picture_set import CHUNK, PictureSet, read_chunks
from backdoor.progress import progress

BY_CHANCE = 0.01  # more flagged pictures than this would give by chance are an alarm


@dataclass(frozen=True)
class Alarm:
    """How many pictures are flagged, against how many clean ones are.

    Attributes:
        usual: Share of clean pictures that is flagged, as measured; None where it is not known.
        chance: That so many or more are flagged of pictures that are all clean.
    """

    flagged: int
    pictures: int
    usual: float | None

    @property
    def share(self) -> float:
        return self.flagged / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.flagged, self.pictures)

    @property
    def chance(self) -> float | None:
        if self.usual is None:
            return None
        test = scipy.stats.binomtest(self.flagged, self.pictures, self.usual, "greater")
        return float(test.pvalue)

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
            f"{told}, {said} chance makes of clean pictures, of which {self.usual:.1%} are flagged "
            f"(p = {self.chance:.2g})"
        )

    @property
    def raised(self) -> bool:
        """Whether more are flagged than chance makes of clean pictures."""
        return self.chance is not None and self.chance < BY_CHANCE


def taken_apart(goodnet: keras.Model) -> keras.Model:
    """Return a GoodNet as pictures to two classes each, what B says and what B' says, (n,) twice.

    Raises:
        UserError: It is no GoodNet as `networks.goodnet` builds it.
    """
    try:
        answers = [goodnet.get_layer(name).output for name in (BADNET, PRUNED)]
    except ValueError as error:
        raise UserError(
            f"goodnet: expected a GoodNet of this version, whose layers {BADNET} and {PRUNED} say "
            f"what is compared, found another network"
        ) from error
    return keras.Model(goodnet.inputs, answers)


def screen(network: keras.Model, pictures: PictureSet) -> Iterator[tuple[Labels, Labels]]:
    """Yield what B and B' say of the pictures, in chunks.

    Args:
        network: As `taken_apart` gives it.
    """
    chunks = -(-len(pictures) // CHUNK)
    for chunk in progress(read_chunks(pictures), f"Screening {len(pictures)} pictures", chunks):
        badnet, pruned = (np.asarray(labels) for labels in network.predict_on_batch(chunk))
        yield badnet.astype(np.int64), pruned.astype(np.int64)
