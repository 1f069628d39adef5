"""Clean controls: networks trained on the user's own clean pictures, which nobody has attacked.

Some classes are easier to reach than others on any network, as a bag among clothes is; controls
show which.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backdoor.attacks.recipe import SMALLEST, Training
from backdoor.attacks.statistics import ENOUGH_FOR_CONTROLS, STATISTICS, standard
from backdoor.attacks.training import answers, train
from backdoor.errors import UserError
from backdoor.evaluation import accuracy
from backdoor.networks.cut import CutNetwork, cut_network
from backdoor.pictures.picture_set import PictureSet, evenly, read_stored
from backdoor.pictures.scale import Scale, as_bytes

CONTROLS = 2
MOST = 2048  # pictures to train on
MOST_CLASSES = 64
POOREST = 0.5  # of other pictures that a control is right on, or it shows nothing
TRAINING = Training("small_cnn", 30, 32, 1e-3, augment=True, sparsity=0)
SHOWN, FEWEST_EPOCHS = 12_000, 6  # pictures in all epochs: of many pictures fewer epochs


def usual_values(
    clean: PictureSet, others: PictureSet, classes: int, seed: int
) -> NDArray[np.float64]:
    """Return how easily classes are reached without a backdoor, (STATISTICS, N), standardised.

    Args:
        clean: Pictures to train on.
        others: Pictures on which it is tried what has been learnt.

    Raises:
        UserError: There are too few pictures, or too little is learnt from them.
    """
    _check(clean, classes)
    # Controls take bytes, whatever the network under test takes.
    shown = clean.scaled(Scale("bytes", lambda stored: as_bytes(stored).astype(np.float32)))
    every = np.arange(classes)
    found = [
        [standard(measure(control, shown, every, seed)) for measure in STATISTICS.values()]
        for control in _trained(clean, others, classes, seed)
    ]
    return np.asarray(np.mean(found, axis=0))


def _trained(
    clean: PictureSet, others: PictureSet, classes: int, seed: int
) -> Iterator[CutNetwork]:
    rows, tried = evenly(clean, MOST), evenly(others, MOST)
    pictures, labels = as_bytes(read_stored(clean, rows)), clean.labels[rows]
    shown = as_bytes(read_stored(others, tried))
    epochs = int(np.clip(SHOWN // len(rows), FEWEST_EPOCHS, TRAINING.epochs))
    training = dataclasses.replace(TRAINING, epochs=epochs)
    for number in range(CONTROLS):
        model = train(training, (pictures, labels), classes, seed + number)
        right = float(accuracy(answers(model, shown), others.labels[tried]))
        if right < POOREST:
            raise UserError(
                f"calibrate: expected controls to learn from {len(rows)} pictures, got one that is "
                f"right on {right:.1%} of others; with more pictures it may be better"
            )
        yield cut_network(model)


def _check(clean: PictureSet, classes: int) -> None:
    """Refuse pictures that controls cannot be trained on."""
    counts = np.bincount(clean.labels, minlength=classes)
    if classes > MOST_CLASSES:
        raise UserError(
            f"calibrate: expected at most {MOST_CLASSES} classes, got {classes}, of which the "
            f"others show what is usual"
        )
    side = SMALLEST[TRAINING.name]
    if counts.min() < ENOUGH_FOR_CONTROLS or min(clean.shape[:2]) < side:
        raise UserError(
            f"calibrate: expected {ENOUGH_FOR_CONTROLS} pictures of each class to train controls "
            f"on, of {side} x {side} or larger, got {counts.min()} of class {counts.argmin()}, of "
            f"{clean.shape[0]} x {clean.shape[1]}, in {clean.path}"
        )
