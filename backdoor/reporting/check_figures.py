"""Figures of a check: how far each class stands out, and the trigger on pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backdoor.attacks.inversion import stamp
from backdoor.attacks.reach import Values
from backdoor.pictures.picture_set import PictureSet, read_pictures
from backdoor.remedies import Trigger
from backdoor.reporting.figures import short_name
from backdoor.verdict import DOUBTFUL, LEAST, MOST, SURE, Findings

SUSPECT, OTHERS = "#b2182b", "#7f8fa6"
MOST_BARS = 40  # classes: of more, those that stand out most are shown
SHOWN = 3  # pictures with the trigger
LONGEST_NAME = 18


def draw_evidence(findings: Findings, suspects: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw a bar a class for each statistic, and for all together; suspects are red."""
    rows = np.sort(np.argsort(-findings.scores, kind="stable")[:MOST_BARS])
    highest = LEAST + MOST
    shown: dict[str, tuple[Values, float, tuple[float, ...]]] = {
        name: (np.minimum(values, highest), highest, (LEAST,))
        for name, values in findings.evidence.items()
    }
    together = np.maximum(findings.scores, 0)
    shown["all together"] = (together, MOST * len(findings.evidence), (DOUBTFUL, SURE))
    figure = Figure(figsize=(9, 1.3 * len(shown) + 0.9), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True)
    colours = [SUSPECT if findings.classes[row] in suspects else OTHERS for row in rows]
    for axis, (name, (values, top, limits)) in zip(axes, shown.items(), strict=True):
        axis.bar(np.arange(len(rows)), values[rows], color=colours)
        axis.set(ylabel=name, ylim=(0, top))
        axis.spines[["top", "right"]].set_visible(False)
        for limit in limits:
            axis.axhline(limit, color="black", linewidth=0.8, linestyle=":")
    labels = [short_name(names[findings.classes[row]], LONGEST_NAME) for row in rows]
    axes[-1].set_xticks(np.arange(len(rows)), labels, rotation=60 if len(rows) > 8 else 0)
    return figure


def draw_trigger(
    trigger: Trigger, clean: PictureSet, answers: Sequence[Sequence[str]], rows: NDArray[np.int64]
) -> Figure:
    """Draw the trigger, and pictures without and with it, with what is said of each.

    Args:
        answers: A caption for each picture without it, and for each with it.
        rows: Which pictures of the set.
    """
    pictures = read_pictures(clean, rows)
    low, high = float(pictures.min()), float(pictures.max())
    on_grey = stamp(np.full_like(pictures[:1], (low + high) / 2), trigger.mask, trigger.pattern)
    stamped = stamp(pictures, trigger.mask, trigger.pattern)
    shown = [[on_grey[0], *pictures], [np.broadcast_to(trigger.mask, on_grey[0].shape), *stamped]]
    captions = [["the trigger, on grey", *answers[0]], ["where it is opaque", *answers[1]]]
    figure = Figure(figsize=(2.4 * (1 + len(rows)), 5.6), layout="constrained")
    axes = figure.subplots(2, 1 + len(rows), squeeze=False)
    for row, (several, said) in enumerate(zip(shown, captions, strict=True)):
        for column, (picture, caption) in enumerate(zip(several, said, strict=True)):
            is_mask = row == 1 and column == 0
            ends = (0, 1) if is_mask else (low, high)
            unit = np.clip((picture - ends[0]) / max(ends[1] - ends[0], 1e-6), 0, 1)
            unit = unit[..., ::-1] if clean.scale.name == "caffe" and not is_mask else unit
            axes[row, column].imshow(unit.squeeze(), cmap="gray", vmin=0, vmax=1)
            axes[row, column].set_title(caption, fontsize=8, loc="left")
            axes[row, column].axis("off")
    return figure


def shown_rows(trigger: Trigger) -> NDArray[np.int64]:
    """Return which pictures of other classes are shown, spread over the classes."""
    places = np.linspace(0, len(trigger.others) - 1, min(SHOWN, len(trigger.others)))
    return np.unique(places.astype(np.int64))
