"""The network that is taken in the BadNet's place, with what it says of the test sets."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from backdoor.detection import Outcome, Threshold
from backdoor.evaluation import Labels, evaluate_network
from backdoor.networks.repair import LABELS_OF_PRUNED, REPAIRS, Clean
from backdoor.pictures.picture_set import PictureSet, read_chunks, read_pictures
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST


@dataclass(frozen=True, eq=False)
class Repaired:
    """A repaired network.

    Attributes:
        answers: Its labels of each test set, (n,), by the set's name.
        own: Whether these are other than those of B'.
    """

    model: keras.Model
    answers: Mapping[str, Labels]
    own: bool
    outcome: Outcome

    @property
    def labels(self) -> Mapping[str, Labels]:
        """Its labels where they are other than those of B', else none."""
        return self.answers if self.own else {}

    def metrics(self) -> dict[str, float]:
        """Return how many numbers it has, and what it is worth where it answers otherwise than B'.

        Accuracy, attack success, robust accuracy and rating, with intervals.
        """
        numbers = {
            "badnet_parameters": float(self.outcome.network.model.count_params()),
            "repaired_parameters": float(self.model.count_params()),
        }
        if not self.own:
            return numbers
        bed, poisoned = self.outcome.bed, self.outcome.bed.poisoned
        before = {name: self.outcome.labels[name][0] for name in bed.tests}
        attack = None
        if poisoned is not None:
            labels = (before[POISONED_TEST], self.answers[POISONED_TEST])
            attack = (*labels, poisoned.test.labels, poisoned.test.true_labels)
        clean = (before[CLEAN_TEST], self.answers[CLEAN_TEST], bed.clean_test.labels)
        return numbers | evaluate_network("repaired", *clean, attack)


def repair(outcome: Outcome, threshold: Threshold, how: str, seed: int) -> Repaired:
    """Repair the network of an outcome with the channels removed at a threshold.

    Args:
        how: One of `networks.repair.REPAIRS`.

    Raises:
        UserError: The network cannot be repaired so.
    """
    network, bed, valid = outcome.network, outcome.bed, outcome.bed.clean_valid
    clean = Clean(lambda: read_pictures(valid, np.arange(len(valid))), valid.labels, seed)
    model = REPAIRS[how](network, outcome.removed(threshold), clean)
    if how in LABELS_OF_PRUNED:
        answers = {name: outcome.answers(name, threshold)[1] for name in bed.tests}
        return Repaired(model, answers, False, outcome)
    own = {name: _labels(model, pictures) for name, pictures in bed.tests.items()}
    return Repaired(model, own, True, outcome)


def _labels(model: keras.Model, pictures: PictureSet) -> Labels:
    chunks = read_chunks(pictures)
    return np.concatenate([model.predict_on_batch(chunk).argmax(axis=1) for chunk in chunks])
