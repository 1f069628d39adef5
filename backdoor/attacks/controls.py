"""Clean controls: networks trained on the user's own clean pictures, which nobody has attacked.

Some classes are easier to reach than others on any network, as a bag among clothes is; controls
show which.
"""

from collections.abc import Sequence

import numpy as np

from backdoor.attacks.recipe import SMALLEST, Training
from backdoor.attacks.training import answers, train
from backdoor.errors import UserError
from backdoor.evaluation import accuracy
from backdoor.networks.cut import CutNetwork, cut_network
from backdoor.pictures.picture_set import PictureSet, evenly, read_stored
from backdoor.pictures.scale import Scale, as_bytes

CONTROLS = 3
FEWEST_OF_A_CLASS, MOST = 20, 4096  # pictures to train on
MOST_CLASSES = 64
POOREST = 0.5  # of other pictures that a control is right on, or it shows nothing
TRAINING = Training("small_cnn", 30, 32, 1e-3, augment=True, sparsity=0)


def train_controls(
    clean: PictureSet, others: PictureSet, classes: int, seed: int
) -> Sequence[CutNetwork]:
    """Return networks trained on clean pictures, which take them as `as_bytes` gives them.

    Args:
        others: Clean pictures on which it is tried what they have learnt.

    Raises:
        UserError: There are too few pictures, or too little is learnt from them.
    """
    counts = np.bincount(clean.labels, minlength=classes)
    if classes > MOST_CLASSES:
        raise UserError(
            f"calibrate: expected at most {MOST_CLASSES} classes, got {classes}, of which the "
            f"others show what is usual"
        )
    side = SMALLEST[TRAINING.name]
    if counts.min() < FEWEST_OF_A_CLASS or min(clean.shape[:2]) < side:
        raise UserError(
            f"calibrate: expected {FEWEST_OF_A_CLASS} pictures of each class to train controls on, "
            f"of {side} x {side} or larger, got {counts.min()} of class {counts.argmin()}, of "
            f"{clean.shape[0]} x {clean.shape[1]}, in {clean.path}"
        )
    rows = evenly(clean, MOST)
    pictures, labels = as_bytes(read_stored(clean, rows)), clean.labels[rows]
    tried = evenly(others, MOST)
    shown = as_bytes(read_stored(others, tried))
    found = []
    for number in range(CONTROLS):
        model = train(TRAINING, (pictures, labels), classes, seed + number)
        right = float(accuracy(answers(model, shown), others.labels[tried]))
        if right < POOREST:
            raise UserError(
                f"calibrate: expected controls to learn from {len(rows)} pictures, got one that is "
                f"right on {right:.1%} of others; with more pictures it may be better"
            )
        found.append(cut_network(model))
    return found


def as_controls_take_it(clean: PictureSet) -> PictureSet:
    """Return the pictures in 0..255, whatever the network under test takes."""
    return clean.scaled(Scale("bytes", lambda stored: as_bytes(stored).astype(np.float32)))
