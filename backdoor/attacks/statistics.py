"""How easily each class of a network is reached, by five statistics: a number a class.

Each takes a network, clean pictures, the classes that are asked for and a seed.
"""

from collections.abc import Callable, Mapping

import numpy as np

from backdoor.attacks.inversion import cheapest_triggers
from backdoor.attacks.reach import (
    LARGEST,
    Labels,
    Sample,
    Values,
    largest_margins,
    margins_behind_the_cut,
    quiet_places,
    sample_of,
    smallest_perturbations,
    towards,
)
from backdoor.attacks.stimuli import strongest_responses
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet

MANY_CLASSES = 64  # of which costly statistics look at candidates alone
# Pictures that a statistic looks at: among few classes more, at the same cost.
FEW, STIMULATED, SOME = (12, 40, 240), (16, 40, 320), (24, 60, 480)  # least, most, times classes
QUICK = {"starts": 1, "climbs": 30}  # of largest margins, where classes are many
MANY, EASIEST, HALF, CLEARLY = (72, 72, 0), 3, 0.5, 0.6  # steps tried again; shares moved
MOST_LOOKED_AT = 600  # pictures, by which it is known what a class looks like behind the cut
KNOWN, ENOUGH_FOR_CONTROLS = 5, 20  # pictures of the class that has fewest
TINY = 1e-9
MASK_STEPS, MASK_TURNED = 50, 0.8  # and share of the pictures

Statistic = Callable[[CutNetwork, PictureSet, Labels, int], Values]
"""Takes a network, clean pictures, classes (K,) and a seed; returns how easily each is reached."""


def perturbation(network: CutNetwork, clean: PictureSet, classes: Labels, seed: int) -> Values:
    """Score a class by the smallest universal perturbation towards it: -log of its size."""
    sample = _sample(network, clean, FEW, seed)
    sizes = smallest_perturbations(sample, towards(classes, sample))
    return -np.log(np.minimum(sizes, LARGEST))


def mask(network: CutNetwork, clean: PictureSet, classes: Labels, seed: int) -> Values:
    """Score a class by the cheapest mask and pattern towards it: -log of the share covered."""
    sample = _sample(network, clean, FEW, seed)
    shown = (network, sample.pictures, sample.labels, classes, seed)
    costs = cheapest_triggers(*shown, MASK_STEPS, MASK_TURNED).costs
    finite = costs[np.isfinite(costs)]
    dearest = finite.max() if len(finite) > 1 else 1  # what those cost that were not turned
    return -np.log(np.minimum(costs, dearest))


def activations(network: CutNetwork, clean: PictureSet, classes: Labels, seed: int) -> Values:
    """Score a class by its margin under the best addition behind the cut.

    Some classes look so that all that is odd is taken for them. Where there are too few pictures
    to train controls, which show that, and enough to know what each class looks like, nothing is
    added where a class's own pictures give more than all do.
    """
    sample = _sample(network, clean, SOME, seed)
    fewest = np.bincount(clean.labels, minlength=network.classes).min()
    if KNOWN <= fewest < ENOUGH_FOR_CONTROLS:
        quiet = quiet_places(network, clean, classes, MOST_LOOKED_AT)
    else:
        quiet = np.ones((len(classes), sample.activations[0].size), bool)
    return margins_behind_the_cut(sample, classes, quiet)


def margin(network: CutNetwork, clean: PictureSet, classes: Labels, seed: int) -> Values:
    """Score a class by the largest margin that any picture at all is given."""
    less = QUICK if len(classes) > MANY_CLASSES else {}
    return largest_margins(_sample(network, clean, SOME, seed), classes, seed, **less)


def stimuli(network: CutNetwork, clean: PictureSet, classes: Labels, seed: int) -> Values:
    """Score a class by the strongest response to things that triggers are made of."""
    return strongest_responses(_sample(network, clean, STIMULATED, seed), seed)[classes]


def common_step(network: CutNetwork, clean: PictureSet, seed: int) -> int | None:
    """Return by how many classes one perturbation moves pictures of all classes, if by one number.

    All-to-all attacks do that, mostly by 1. A few pictures can be moved by chance, so the easiest
    steps are tried again on more; networks that are easily moved at all are moved by several.
    """

    def easiest(steps: Labels, sizes: tuple[int, int, int], share: float) -> Labels:
        sample = _sample(network, clean, sizes, seed)
        wanted = (sample.labels + steps[:, None]) % network.classes
        found = smallest_perturbations(sample, wanted, share)
        return steps[np.argsort(found, kind="stable")][: np.isfinite(found).sum()]

    steps = easiest(np.arange(1, network.classes), FEW, HALF)[:EASIEST]
    steps = easiest(steps, MANY, HALF) if len(steps) else steps
    if len(steps) != 1 or not len(easiest(steps, MANY, CLEARLY)):
        return None
    return int(steps[0])


def standard(values: Values) -> Values:
    """Return values less their mean, in units of their deviation; 0 where all are the same."""
    return np.asarray((values - values.mean()) / max(values.std(ddof=1), TINY))


def _sample(
    network: CutNetwork, clean: PictureSet, sizes: tuple[int, int, int], seed: int
) -> Sample:
    least, most, product = sizes
    count = min(max(product // network.classes, least), most)
    return sample_of(network, clean, count, seed)


CHEAP: Mapping[str, Statistic] = {"activations": activations, "margin": margin, "stimuli": stimuli}
STATISTICS: Mapping[str, Statistic] = {"perturbation": perturbation, "mask": mask, **CHEAP}
