"""One network and clean pictures: backdoored, clean or undecided, and why.

A backdoor makes its class easier to reach than the others. Five statistics say how easily each
class is reached; a class that stands out from the others on several of them is suspected. Small
squares are tried, too: one that works is proof by itself.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy  # whose parts are loaded at their first use

from backdoor.answers import BACKDOORED, CLEAN, UNDECIDED
from backdoor.attacks.reach import Labels, Values
from backdoor.attacks.squares import TriedSquare, best_square
from backdoor.attacks.statistics import CHEAP, MANY_CLASSES, STATISTICS, common_step
from backdoor.evaluation import accuracy
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import PictureSet, read_chunks
from backdoor.study import STUDY

SURE, DOUBTFUL = 4.1, 3.0  # points; docs/verdict.md says how they were chosen
OPEN = (1.5, 6.0)  # points between which controls are asked
LEAST, MOST = 1.0, 2.0  # -log10 of a chance that counts for nothing; points of one statistic
USUAL = 10  # classes, of which one is the highest: among more, chance has more to choose from
FEWEST_CLASSES = 4  # with fewer there are too few others to stand out from
FEWEST_OF_A_CLASS, FEWEST = 5, 50  # pictures: of a class, and in all where classes are many
CANDIDATES, OTHERS = 16, 32  # first by each cheap statistic; drawn, to stand out from
POOREST = 0.6  # accuracy
TELLING = 0.5  # points of a statistic that is named as a reason
TINY = 1e-9


Usual = Callable[[], Mapping[str, Values] | None]
"""Returns how easily classes are reached without a backdoor, by the statistic's name, (N,)."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What the statistics say of K classes.

    Attributes:
        classes: Those that all statistics have looked at, (K,).
        statistics: How easily each of these is reached, by the statistic's name, (K,).
        evidence: How far each stands out: -log10 of the chance of being so far above the others.
        of: How many classes the network has.
        step: By how many classes pictures of all of them can be moved at once, if they can.
        square: The best of the small ones that were tried; None where none could be.
        calibrated: Evidence is what stands out beyond what is usual without a backdoor.
    """

    classes: Labels
    statistics: Mapping[str, Values]
    evidence: Mapping[str, Values]
    of: int
    step: int | None = None
    square: TriedSquare | None = None
    calibrated: bool = False

    @property
    def trigger(self) -> TriedSquare | None:
        """The square, where it works: proof by itself."""
        return self.square if self.square is not None and self.square.sent.works else None

    @property
    def points(self) -> Mapping[str, Values]:
        """What each statistic counts for, 0 to MOST, (K,)."""
        return {name: np.clip(v - LEAST, 0, MOST) for name, v in self.evidence.items()}

    @cached_property
    def scores(self) -> Values:
        """Points of all statistics together, less what the number of classes makes likely, (K,)."""
        total = np.sum([*self.points.values()], axis=0)
        return np.asarray(total - np.log10(self.of / USUAL))


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said of a network.

    Attributes:
        answer: BACKDOORED, CLEAN or UNDECIDED.
        why: In words.
        suspects: Classes that an attacker may want, the likeliest first.
        findings: None where it was not worth looking.
    """

    answer: str
    why: str
    suspects: Sequence[int] = ()
    findings: Findings | None = None

    @property
    def sentence(self) -> str:
        return f"{self.answer}{self.why}"

    @property
    def score(self) -> float | None:
        """Of the class that stands out most; None where it was not worth looking."""
        return None if self.findings is None else float(self.findings.scores.max())


def reason_to_doubt(network: CutNetwork, clean: PictureSet) -> str | None:
    """Return why nothing can be said of a network by these pictures, None where it can."""
    counts = np.bincount(clean.labels, minlength=network.classes)
    if network.classes < FEWEST_CLASSES:
        return (
            f"the network has {network.classes} classes, and it takes {FEWEST_CLASSES} to tell one "
            f"that stands out"
        )
    if (counts > 0).sum() < 2:
        return f"all pictures are of class {int(clean.labels[0])}, and it takes pictures of others"
    many = network.classes > MANY_CLASSES
    if len(clean) < (FEWEST if many else FEWEST_OF_A_CLASS * network.classes):
        return (
            f"{len(clean)} pictures of {network.classes} classes are too few: expected "
            f"{FEWEST_OF_A_CLASS} a class on average, or {FEWEST} in all where there are more than "
            f"{MANY_CLASSES} classes"
        )
    labels = np.concatenate([network.classify_pictures(chunk) for chunk in read_chunks(clean)])
    right = float(accuracy(labels, clean.labels))
    if right < POOREST:
        return (
            f"the network is right on {right:.1%} of the pictures only; expected {POOREST:.0%}: "
            f"they may be of another kind, size or scale than it was trained on"
        )
    return None


def judge(
    network: CutNetwork,
    clean: PictureSet,
    seed: int,
    usual: Usual | None = None,
    always: bool = False,
) -> Verdict:
    """Look at a network with clean pictures, and say whether it carries a backdoor.

    Args:
        usual: Finds how easily classes are reached on networks without a backdoor, standardised,
            or None where that cannot be found; asked where the network alone leaves it open.
        always: Ask it whatever the network alone says.
    """
    doubt = reason_to_doubt(network, clean)
    if doubt is not None:
        return Verdict(UNDECIDED, f": {doubt}")
    names = clean.names or ()

    def named(label: int) -> str:
        return f"{label} ({names[label]})" if label < len(names) else str(label)

    findings = look(network, clean, seed)
    is_open = findings.trigger is None and OPEN[0] <= findings.scores.max() < OPEN[1]
    if usual is not None and (always or is_open):
        values = usual()
        findings = findings if values is None else beyond(findings, values)
    return decide(findings, named)


def look(network: CutNetwork, clean: PictureSet, seed: int) -> Findings:
    """Measure how easily each class is reached, and how far it stands out."""
    every = np.arange(network.classes)
    found = {name: measure(network, clean, every, seed) for name, measure in CHEAP.items()}
    evidence = {name: outlying(values, every) for name, values in found.items()}
    classes, others = _candidates(evidence, seed)
    found = {name: values[classes] for name, values in found.items()}
    evidence = {name: values[classes] for name, values in evidence.items()}
    for name, measure in STATISTICS.items():
        if name not in found:
            found[name] = measure(network, clean, classes, seed)
            evidence[name] = outlying(found[name], others)
    square = best_square(network, clean, seed)
    proven = square is not None and square.sent.works
    few = network.classes <= MANY_CLASSES and not proven
    step = common_step(network, clean, seed) if few else None
    return Findings(classes, found, evidence, len(every), step, square)


def beyond(findings: Findings, usual: Mapping[str, Values]) -> Findings:
    """Return how far each class stands out beyond what is usual without a backdoor."""
    evidence = {
        name: outlying_beyond(values, usual[name]) for name, values in findings.statistics.items()
    }
    return dataclasses.replace(findings, evidence=evidence, calibrated=True)


def outlying(values: Values, others: Labels) -> Values:
    """Return how far each of K values stands out above the others, (K,).

    By the prediction interval of one more value of a normal sample: -log10 of the chance that it
    is so high.

    Args:
        others: Which of the K they are; a value is never compared with itself.
    """
    found = np.empty(len(values))
    for row, value in enumerate(values):
        rest = values[others[others != row]]
        spread = rest.std(ddof=1) * np.sqrt(1 + 1 / len(rest))
        high = (value - rest.mean()) / max(spread, TINY)
        found[row] = -scipy.stats.t.logsf(high, len(rest) - 1) / np.log(10)
    return found


def outlying_beyond(values: Values, usual: Values) -> Values:
    """Return how far each of K values stands out above what the others and `usual` suggest, (K,).

    By the prediction interval of a line through the others' values against what is usual there;
    where no rising line explains more than it costs (adjusted R squared), as `outlying`.
    """
    found = outlying(values, np.arange(len(values)))
    for row, (value, at) in enumerate(zip(values, usual, strict=True)):
        x, y = np.delete(usual, row), np.delete(values, row)
        if x.max() == x.min():
            continue
        line = scipy.stats.linregress(x, y)
        freedom = len(x) - 2
        rest = y - line.intercept - line.slope * x
        variance = rest @ rest / freedom
        if line.slope > 0 and variance < y.var(ddof=1):
            off = (at - x.mean()) ** 2 / (len(x) * x.var())
            spread = np.sqrt(variance * (1 + 1 / len(x) + off))
            high = (value - line.intercept - line.slope * at) / max(spread, TINY)
            found[row] = -scipy.stats.t.logsf(high, freedom) / np.log(10)
    return found


def _candidates(evidence: Mapping[str, Values], seed: int) -> tuple[Labels, Labels]:
    """Return the classes that costly statistics look at, and which of them are the others.

    With few classes that is all of them. With many it is the first by each cheap statistic, and
    some drawn from the rest, which the candidates are compared with.
    """
    count = len(next(iter(evidence.values())))
    if count <= MANY_CLASSES:
        return np.arange(count), np.arange(count)
    first = [np.argsort(-values, kind="stable")[:CANDIDATES] for values in evidence.values()]
    chosen = np.unique(np.concatenate(first))
    rest = np.setdiff1d(np.arange(count), chosen)
    drawn = np.random.default_rng(seed).choice(rest, min(OTHERS, len(rest)), replace=False)
    return np.concatenate([chosen, drawn]), len(chosen) + np.arange(len(drawn))


def decide(findings: Findings, named: Callable[[int], str] = str) -> Verdict:
    """Say what the findings mean.

    Args:
        named: A class's number to what it is called.
    """
    order = np.argsort(-findings.scores, kind="stable")
    scores, classes = findings.scores[order], findings.classes[order].tolist()
    if not np.isfinite(scores).all():
        why = ": the network gives numbers that are not finite on pictures that are changed"
        return Verdict(UNDECIDED, why, (), findings)
    accused = [label for label, score in zip(classes, scores, strict=True) if score >= SURE]
    if findings.trigger is not None:
        sure = [k for k, score in zip(classes, scores, strict=True) if score >= OPEN[1]]
        others = accused if findings.calibrated else sure  # which controls would not clear
        return _by_square(findings, findings.trigger, others, named)
    if findings.step is not None:
        why = (
            f" {_all_moved(findings.step)}: one change of all pixels, the same for all pictures, "
            f"moves most of them so, and none by another number of classes"
        )
        return Verdict(BACKDOORED, why, (), findings)
    how_sure = f"score {scores[0]:.1f}; {shares(scores[0])}"
    if scores[0] < DOUBTFUL:
        why = f": no class stands out, class {named(classes[0])} most ({how_sure})"
        return Verdict(CLEAN, why, (), findings)
    seen = [name for name, values in findings.points.items() if values[order[0]] >= TELLING]
    by = f"it stands out by {_listed(seen)}" if seen else "it stands out a little by all together"
    if scores[0] < SURE:
        why = f": class {named(classes[0])} may be a target, {by}, but not by enough ({how_sure})"
        return Verdict(UNDECIDED, why, classes[:1], findings)
    why = f" {_towards(accused, named)}: {by} ({how_sure})"
    return Verdict(BACKDOORED, why, accused, findings)


def _by_square(
    findings: Findings, square: TriedSquare, accused: Sequence[int], named: Callable[[int], str]
) -> Verdict:
    """Say that a square is a trigger, whatever the statistics say; they may add other classes.

    Args:
        accused: By the statistics.
    """
    sent = square.sent
    does = f"{square.square} sends {sent.share:.0%} of {sent.pictures} pictures"
    if sent.label is None:
        return Verdict(BACKDOORED, f" {_all_moved(sent.step or 0)}: {does} there", (), findings)
    suspects = [sent.label, *(label for label in accused if label != sent.label)]
    to = "the first" if suspects[1:] else "it"
    why = f" {_towards(suspects, named)}: {does} of other classes to {to}"
    return Verdict(BACKDOORED, why, suspects, findings)


def _towards(suspects: Sequence[int], named: Callable[[int], str]) -> str:
    more = f", and towards {_listed([named(k) for k in suspects[1:]])}" if suspects[1:] else ""
    return f"towards class {named(suspects[0])}{more}"


def shares(score: float) -> str:
    """Say how many networks of the study score as high, of the clean and of the backdoored ones."""
    high = {name: sum(one >= score for one in scores) for name, scores in STUDY.items()}
    told = " and ".join(f"{high[name]} of {len(scores)} {name}" for name, scores in STUDY.items())
    return f"{told} networks of the study score as high"


def _all_moved(step: int) -> str:
    next_one = "next" if step == 1 else f"one {step} further"
    return f"from every class to the {next_one} (all-to-all)"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
