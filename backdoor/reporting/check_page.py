"""The page of a check: the verdict and its evidence in words, bars and pictures; one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from backdoor.answers import BACKDOORED
from backdoor.attacks.inversion import stamp
from backdoor.attacks.squares import TriedSquare
from backdoor.evaluation import goodnet_labels
from backdoor.networks.cut import CutNetwork
from backdoor.pictures.picture_set import read_pictures
from backdoor.pictures.test_bed import TestBed
from backdoor.remedies import Remedy, Trigger, best_remedy
from backdoor.reporting.check_figures import draw_evidence, draw_trigger, shown_rows
from backdoor.reporting.html import as_svg, inline, rendered
from backdoor.verdict import DOUBTFUL, SURE, Verdict

PAGE = "check.html"
TOLD = {  # of each statistic, what it looks for
    "perturbation": "the smallest change of all pixels",
    "mask": "the smallest patch",
    "activations": "the best addition to what the last layers see",
    "margin": "the picture that is most surely of the class",
    "stimuli": "the strongest of 480 patches, noises and stripes drawn at random",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a check has found.

    Attributes:
        name: Of the network.
        network, bed: None where they could not be looked at.
        remedies: None of a network that is under no suspicion.
    """

    name: str
    verdict: Verdict
    network: CutNetwork | None = None
    bed: TestBed | None = None
    remedies: Sequence[Remedy] = ()

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, their numbers where they have none."""
        if self.network is None or self.bed is None:
            return []
        names = self.bed.clean_valid.names or ()
        numbers = map(str, range(self.network.classes))
        return [
            f"{number} ({names[int(number)]})" if int(number) < len(names) else number
            for number in numbers
        ]


def as_page(evidence: Evidence) -> str:
    """Return the page, which needs nothing beside it."""
    verdict, findings = evidence.verdict, evidence.verdict.findings
    shown: dict[str, object] = {"evidence": evidence, "verdict": verdict, "told": TOLD}
    shown["limits"] = {"sure": SURE, "doubtful": DOUBTFUL}
    if findings is not None:
        bars = draw_evidence(findings, verdict.suspects, evidence.classes)
        shown["bars"] = inline(as_svg(bars))
    if evidence.remedies:
        remedy = best_remedy(evidence.remedies)
        shown["rows"] = [{"name": some.name, **some.metrics()} for some in evidence.remedies]
        shown["before"], shown["shown_remedy"] = remedy.before(), remedy.name
        shown["pictures"] = inline(as_svg(_trigger_figure(remedy, evidence.classes)))
    elif verdict.answer == BACKDOORED and findings is not None and findings.trigger is not None:
        shown["square_picture"] = inline(as_svg(_square_figure(evidence, findings.trigger)))
    return rendered(PAGE, shown)


def _square_figure(evidence: Evidence, tried: TriedSquare) -> Figure:
    """Draw pictures with the square, and what B says of them."""
    assert evidence.network is not None, "it was looked at"
    assert evidence.bed is not None, "it was looked at"
    clean = evidence.bed.clean_test
    others = np.flatnonzero(clean.labels != tried.sent.label)
    trigger = Trigger(tried.sent.label, tried.mask, tried.pattern, others)
    rows = others[shown_rows(trigger)]
    pictures = read_pictures(clean, rows)
    stamped = stamp(pictures, tried.mask, tried.pattern)
    captions = [
        [f"B: {evidence.classes[label]}" for label in evidence.network.classify_pictures(some)]
        for some in (pictures, stamped)
    ]
    return draw_trigger(trigger, clean, captions, rows)


def _trigger_figure(remedy: Remedy, classes: Sequence[str]) -> Figure:
    """Draw pictures with the trigger, and what B, B' and G say of them."""
    trigger, named = remedy.trigger, [*classes, "backdoored"]
    rows = shown_rows(trigger)
    chosen = trigger.others[rows]
    captions = []
    for (badnet, pruned), some in ((remedy.clean, chosen), (remedy.triggered, rows)):
        goodnet = goodnet_labels(badnet[some], pruned[some], len(classes))
        several = zip(badnet[some], pruned[some], goodnet, strict=True)
        captions.append([f"B: {named[b]}\nB': {named[p]}\nG: {named[g]}" for b, p, g in several])
    return draw_trigger(trigger, remedy.outcome.bed.clean_test, captions, chosen)
