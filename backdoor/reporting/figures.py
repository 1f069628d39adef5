"""Figures: pictures with what the networks say, accuracy and ASR along the walk, classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backdoor.evaluation import interval
from backdoor.samples import UNKNOWN, Samples
from backdoor.text import plain

PANELS_A_ROW, MANY_A_ROW = 2, 4
MOST_LOST = 40  # points of accuracy: what costs more is no defence
LONGEST_NAME = 14  # letters above a picture
MOST_BARS = 200  # classes; of more it is counted how many have so many pictures
MOST_NAMED = 40  # classes whose names fit below an axis
CAPTION, GAP = 0.6, 0.06  # above and between pictures, in their widths
LINES = ("-", "--", "-.", ":")
ACCURACY, ATTACK = "#2166ac", "#b2182b"  # told apart by the colour-blind, and in grey


@dataclass(frozen=True, eq=False)
class Panel:
    """One order's curves over k = 0..C, as fractions, and where each threshold stops.

    Attributes:
        attack_success_rate, detection_rate: None without poisoned pictures.
        clean, poisoned: How many pictures the rates are of; 0 draws no interval.
    """

    order: str
    accuracy: Sequence[float]
    attack_success_rate: Sequence[float] | None
    stops: Mapping[float, int]
    clean: int = 0
    poisoned: int = 0
    false_alarm_rate: Sequence[float] | None = None
    detection_rate: Sequence[float] | None = None


def draw_samples(
    samples: Samples,
    classes: int,
    names: Sequence[str] | None = None,
    kinds: tuple[str, str] = ("clean", "with trigger"),
) -> Figure:
    """Draw clean pictures above poisoned ones, each with what B, B' and G say of it.

    Args:
        names: Of the classes, where they have any.
        kinds: What the two rows are called.
    """
    both = (np.flatnonzero(~samples.poisoned), np.flatnonzero(samples.poisoned))
    rows = {kind: indices for kind, indices in zip(kinds, both, strict=True) if len(indices)}
    if not rows:
        return _nothing("none")
    columns = max(len(indices) for indices in rows.values())
    height, width = samples.pictures.shape[1] / samples.pictures.shape[2], 1.0
    figure = Figure(figsize=(1.6 * columns + 0.5, 1.6 * (height + CAPTION) * len(rows)))
    axis = figure.add_axes((0, 0, 1, 1))  # all on one axis, since each costs time
    for row, (name, indices) in enumerate(rows.items()):
        bottom = -(row + 1) * (height + CAPTION)
        axis.text(-0.05, bottom + height / 2, name, rotation=90, va="center", ha="right", size=10)
        for column, index in enumerate(indices):
            left = column * (width + GAP)
            extent = (left, left + width, bottom, bottom + height)
            axis.imshow(samples.pictures[index].squeeze(), cmap="gray", extent=extent)
            caption = _caption(samples, int(index), classes, names)
            axis.text(left, bottom + height + GAP / 2, caption, size=9, va="bottom")
    axis.set(xlim=(-0.3, columns * (width + GAP)), ylim=(-len(rows) * (height + CAPTION), 0))
    axis.axis("off")
    return figure


def draw_mistakes(samples: Samples, classes: int, names: Sequence[str] | None = None) -> Figure:
    """Draw clean pictures that G gets wrong above poisoned ones that it does not notice."""
    return draw_samples(samples, classes, names, ("wrong", "missed"))


def draw_curves(panels: Sequence[Panel], network: str) -> Figure:
    """Draw accuracy and attack success rate against channels removed, one panel an order."""
    columns = min(len(panels), PANELS_A_ROW if len(panels) <= PANELS_A_ROW**2 else MANY_A_ROW)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(6 * columns, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in axes.ravel()[len(panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.ravel(), panels, strict=False):
        axis.plot(100 * np.asarray(panel.accuracy), color=ACCURACY, label="accuracy")
        _band(axis, panel.accuracy, panel.clean, ACCURACY)
        if panel.attack_success_rate is not None:
            axis.plot(
                100 * np.asarray(panel.attack_success_rate),
                color=ATTACK,
                linestyle="--",
                label="attack success rate",
            )
            _band(axis, panel.attack_success_rate, panel.poisoned, ATTACK)
        axis.set_title(_title_and_stops(axis, panel), fontsize=10)
        axis.set(xlabel="channels removed", ylim=(-3, 103), yticks=range(0, 101, 20))
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel(f"{network} on the test sets, %")
    attacked = any(panel.attack_success_rate is not None for panel in panels)
    axes.ravel()[len(panels) - 1].legend(loc="center right" if attacked else "best")
    return figure


def draw_pareto(panels: Sequence[Panel]) -> Figure:
    """Draw the GoodNet's accuracy lost against its attack success rate, one line an order."""
    figure, axis = _one_line_an_order()
    for number, panel in enumerate(panels):
        if panel.attack_success_rate is not None:
            lost = 100 * (panel.accuracy[0] - np.asarray(panel.accuracy))
            _line(axis, lost, 100 * np.asarray(panel.attack_success_rate), panel, number)
    axis.set(
        xlabel="accuracy lost on the clean test set, points; marks: the thresholds",
        ylabel="attack success rate, %",
        xlim=(-1, MOST_LOST),
        ylim=(-3, 103),
    )
    return figure


def draw_detection(panels: Sequence[Panel]) -> Figure:
    """Draw the GoodNet's detection rate against its false alarm rate, one line an order."""
    figure, axis = _one_line_an_order()
    axis.plot([0, 100], [0, 100], color="0.8", linewidth=1, label="guessing")
    for number, panel in enumerate(panels):
        if panel.detection_rate is not None and panel.false_alarm_rate is not None:
            alarms, detected = panel.false_alarm_rate, panel.detection_rate
            _line(axis, 100 * np.asarray(alarms), 100 * np.asarray(detected), panel, number)
    axis.set(
        xlabel="false alarms, % of the clean test set; marks: the thresholds",
        ylabel="detected, % of the poisoned test set",
        xlim=(-1, MOST_LOST),
        ylim=(-3, 103),
    )
    return figure


def draw_class_distribution(
    counts: Mapping[str, Sequence[int]], names: Sequence[str] | None = None
) -> Figure:
    """Draw how many pictures each class has, one panel a set; `counts[set][class]`.

    Of more than MOST_BARS classes, how many classes have so many pictures.
    """
    figure = Figure(figsize=(10, 2.1 * len(counts)), layout="constrained")
    axes = figure.subplots(len(counts), 1, squeeze=False, sharex=True)[:, 0]
    many = max(map(len, counts.values())) > MOST_BARS
    for axis, (name, values) in zip(axes, counts.items(), strict=True):
        if many:  # bars would be thinner than a line
            axis.bar(*np.unique(values, return_counts=True), color=ACCURACY)
            axis.set_ylabel("classes")
        else:
            axis.bar(range(len(values)), values, color=ACCURACY)
            axis.set_ylabel("pictures")
        axis.set_title(f"{name.replace('_', ' ')}: {sum(values)} pictures", loc="left", fontsize=10)
        axis.margins(x=0.01)
    axes[-1].set_xlabel("pictures of a class" if many else "class, as labelled in the file")
    if names and len(names) <= MOST_NAMED:
        axes[-1].set_xticks(range(len(names)), map(short_name, names), rotation=45, ha="right")
    return figure


def draw_benchmark(
    seconds: Mapping[str, float], growth: Mapping[str, Mapping[int, float]]
) -> Figure:
    """Draw how long each stage takes, and how that grows in pictures, channels and thresholds."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    bars, *curves = figure.subplots(1, 4, width_ratios=[1.6, 1, 1, 1])
    bars.barh(list(seconds), list(seconds.values()), color=ACCURACY, log=True)
    bars.bar_label(bars.containers[0], fmt=_in_seconds, padding=3)
    bars.invert_yaxis()
    bars.margins(x=0.35)
    bars.set_xlabel("seconds")
    for axis, (what, points) in zip(curves, growth.items(), strict=True):
        axis.plot(list(points), list(points.values()), "o-", color=ACCURACY)
        axis.set(xlabel=what, ylabel="seconds", ylim=(0, 1.1 * max(points.values())))
        axis.grid(alpha=0.3)
    return figure


def _in_seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def _nothing(said: str) -> Figure:
    figure = Figure(figsize=(4, 0.6))
    figure.text(0.02, 0.4, said, size=10)
    return figure


def _band(axis: Axes, rates: Sequence[float], pictures: int, colour: str) -> None:
    """Draw the interval of each rate of so many pictures."""
    if pictures:
        ends = [interval(round(rate * pictures), pictures) for rate in rates]
        low, high = 100 * np.array(ends).T
        axis.fill_between(range(len(rates)), low, high, color=colour, alpha=0.15, linewidth=0)


def _one_line_an_order() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 5.5))
    axis = figure.add_axes((0.08, 0.11, 0.65, 0.85))
    axis.grid(alpha=0.3)
    return figure, axis


def _line(
    axis: Axes, x: NDArray[np.float64], y: NDArray[np.float64], panel: Panel, number: int
) -> None:
    colour = matplotlib.colormaps["tab10"](number % 10)
    style = LINES[number // 10 % len(LINES)]
    axis.plot(x, y, style, color=colour, linewidth=1.4, label=panel.order)
    stops = sorted(panel.stops.values())
    ends = np.array([interval(round(y[k] * panel.poisoned / 100), panel.poisoned) for k in stops])
    bars = np.abs(100 * ends.T - y[stops]) if len(stops) else None
    axis.errorbar(x[stops], y[stops], bars, fmt="o", color=colour, markersize=5, linewidth=0.8)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)


def _caption(samples: Samples, index: int, classes: int, names: Sequence[str] | None) -> str:
    def called(label: int) -> str:
        if label in (UNKNOWN, classes):
            return "unknown" if label == UNKNOWN else "backdoored"
        # A network may know more classes than the pictures name.
        return short_name(names[label]) if names and label < len(names) else str(label)

    truth, goodnet = called(int(samples.truth[index])), called(int(samples.goodnet[index]))
    badnet, pruned = called(int(samples.badnet[index])), called(int(samples.pruned[index]))
    between = "\n" if names else ", "  # names are long
    return f"class {truth}\nB {badnet}{between}B' {pruned}\nG {goodnet}"


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a class's name as it fits into a figure, with nothing that Matplotlib would set."""
    return plain(name, longest).replace("$", r"\$")


def _title_and_stops(axis: Axes, panel: Panel) -> str:
    by_k: dict[int, list[str]] = {}
    for threshold, k in sorted(panel.stops.items()):
        by_k.setdefault(k, []).append(f"{threshold:g}")
    for k in by_k:
        axis.axvline(k, color="0.35", linestyle=":", linewidth=1)
        for curve in (panel.accuracy, panel.attack_success_rate):
            if curve is not None:
                axis.plot([k], [100 * curve[k]], "o", color="0.2", markersize=4)
    stops = "; ".join(f"k = {k} at {', '.join(points)} %" for k, points in sorted(by_k.items()))
    return f"order {panel.order}\nstops: {stops}"
