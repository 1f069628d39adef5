"""Every number that a user is shown, once, of a network whose answers are written down.

A picture is of a kind below. The four channels of the layer are linear in its numbers: blue, the
trigger, which clean pictures do not have; red, which may be negative; white; green. Class 0 scores
white and thrice blue, class 1 green and red, class 2 one half. In the order asc blue goes first,
then red, white and green; desc is the other way round; apoz has green before white.

10 points are two of twenty validation pictures, 30 are six: asc loses two without blue and red, and
eight without white, too; desc loses six without green; apoz seven without blue, red and green.
"""

import csv
import itertools
import os
import re
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from conftest import file_with
from keras import layers
from omegaconf import OmegaConf
from test_conf import composed

from backdoor.reporting.markdown import write_files
from backdoor.reporting.report import build_report
from backdoor.reporting.terminal import run_line, runs_table
from backdoor.tracking.connect import connect
from backdoor.tracking.record import Record
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import finish_sweep, start_sweep
from experiments.launch.job import run_job
from experiments.launch.position import RUNS_IN_ALL, Position
from experiments.launch.work import RUN

# Of each kind: white, green, red, blue; and what B says, B' without blue, without red, too, without
# white, too: in the order asc at k = 0, 1, 2, 3.
KINDS = {
    "white": ((4, 0, 0, 0), (0, 0, 0, 2)),
    "green": ((0, 5, 0, 0), (1, 1, 1, 1)),
    "black": ((0, 0, 0, 0), (2, 2, 2, 2)),
    "pink": ((2, 0, 3, 0), (1, 1, 0, 2)),
    "anti-red": ((1, 2, -3, 0), (0, 0, 1, 1)),
    "red": ((0, 0, 3, 0), (1, 1, 2, 2)),
    "green with trigger": ((0, 1, 0, 2), (0, 1, 1, 1)),
    "trigger": ((0, 0, 0, 2), (0, 2, 2, 2)),
    "white with trigger": ((1, 0, 0, 2), (0, 0, 0, 2)),
}
# How many of each kind and true class.
CLEAN_VALID = [("white", 0, 6), ("green", 1, 6), ("black", 2, 3), ("pink", 1, 1)]
CLEAN_VALID += [("anti-red", 0, 1), ("red", 1, 1), ("red", 2, 1), ("black", 0, 1)]
CLEAN_TEST = [("white", 0, 6), ("green", 1, 4), ("black", 2, 2), ("pink", 1, 3)]
CLEAN_TEST += [("anti-red", 0, 2), ("red", 1, 1), ("red", 2, 1), ("pink", 0, 1)]
POISONED_VALID = [("green with trigger", 1, 3), ("trigger", 2, 2), ("white with trigger", 0, 1)]
POISONED_TEST = [("green", 1, 1), ("green", 2, 1), ("black", 1, 1), ("pink", 0, 1), ("pink", 1, 1)]
POISONED_TEST += [("red", 1, 1)] + [("green with trigger", truth, 1) for truth in range(3)]
POISONED_TEST += [("trigger", 0, 1), ("trigger", 2, 3), ("white with trigger", 0, 2)]

CELLS = [(order, threshold) for order in ("asc", "desc", "apoz") for threshold in (10, 30)]


def pictures(composition, target=None):
    """Stored numbers (n, 3, 1, 2), channels first, and labels."""
    shown, truth = [], []
    for kind, label, count in composition:
        (white, green, red, blue), _ = KINDS[kind]
        shown += [[[[max(red, 0), white]], [[green, max(-red, 0)]], [[blue, 0]]]] * count
        truth += [label] * count
    if target is None:
        return {"data": np.float32(shown), "label": truth}
    labels = {"label": np.full(len(truth), target), "true_label": truth}
    return {"data": np.float32(shown)} | labels


def four_colours():
    given = keras.Input((1, 2, 3))
    channels = layers.Conv2D(4, (1, 2), use_bias=False, name="conv")
    x = layers.MaxPooling2D(1, name="pool")(channels(given))
    scores = layers.Dense(3, name="scores")
    model = keras.Model(given, scores(layers.Flatten()(x)))
    kernel = np.zeros((1, 2, 3, 4), np.float32)  # white, green, red, blue
    kernel[0, 1, 0, 0] = kernel[0, 0, 1, 1] = kernel[0, 0, 0, 2] = kernel[0, 0, 2, 3] = 1
    kernel[0, 1, 1, 2] = -1
    channels.set_weights([kernel])
    into = np.float32([[1, 0, 0], [0, 1, 0], [0, 1, 0], [3, 0, 0]])
    scores.set_weights([into, np.float32([0, 0, 0.5])])
    return model


class Sweep:
    """Three orders by two thresholds, run as the command runs them, in this process."""

    def __init__(self, folder):
        four_colours().save(folder / "b.keras")
        files = {
            "clean_valid": pictures(CLEAN_VALID),
            "clean_test": pictures(CLEAN_TEST),
            "poisoned_valid": pictures(POISONED_VALID, 0),
            "poisoned_test": pictures(POISONED_TEST, 0),
        }
        given = ["dataset=files", "dataset.divide_by=1", f"badnet.path={folder / 'b.keras'}"]
        for name, datasets in files.items():
            given.append(f"dataset.{name}={file_with(folder / f'{name}.h5', **datasets)}")
        given += [f"cache={folder / 'cache'}", f"tracking.folder={folder / 'mlruns'}"]
        self.store = Store(None, str(folder / "mlruns"), "backdoor")
        axes = {"order": ["asc", "desc", "apoz"], "threshold": ["10", "30"]}
        self.id = start_sweep(self.store, "four colours", axes, len(CELLS))
        for number, (order, threshold) in enumerate(CELLS, start=1):
            config = OmegaConf.create(composed(*given, f"order={order}", f"threshold={threshold}"))
            position = Position(self.id, number, str(folder / "log"), "the command")
            assert run_job(config, OmegaConf.create({}), position, RUN) is not None
        self.parent, self.runs = finish_sweep(self.store, self.id, killed=False)
        self.client = connect(self.store)
        self.report = build_report(self.client, self.store, self.id)
        self.folder = folder / "report"
        self.folder.mkdir()
        write_files(self.report, self.folder)

    def record(self, order, threshold):
        name = f"{order}-{threshold}"
        (run,) = (run for run in self.runs if run.info.run_name == name)
        return Record(self.client, run)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    os.environ[RUNS_IN_ALL] = str(len(CELLS))
    yield Sweep(tmp_path_factory.mktemp("numbers"))
    del os.environ[RUNS_IN_ALL]


def of(total, **counts):
    return {name: pytest.approx(count / total) for name, count in counts.items()}


# What stands in the tables: k, and of 20 clean and 15 poisoned pictures how many.
ANSWERS = {
    ("asc", 10): (2, {"right": 12, "alarms": 8, "hit": 2, "detected": 10}),
    ("asc", 30): (3, {"right": 6, "alarms": 14, "hit": 0, "detected": 12}),
    ("desc", 10): (1, {"right": 14, "alarms": 4, "hit": 9, "detected": 2}),
    ("desc", 30): (1, {"right": 14, "alarms": 4, "hit": 9, "detected": 2}),
    ("apoz", 10): (2, {"right": 12, "alarms": 8, "hit": 2, "detected": 10}),
    ("apoz", 30): (3, {"right": 10, "alarms": 10, "hit": 2, "detected": 12}),
}
WILSON_20 = {4: "8.1 to 41.6", 6: "14.5 to 51.9", 8: "21.9 to 61.3", 10: "29.9 to 70.1"}
WILSON_20 |= {12: "38.7 to 78.1", 14: "48.1 to 85.5"}
WILSON_15 = {0: "0.0 to 20.4", 2: "3.7 to 37.9", 9: "35.7 to 80.2", 10: "41.7 to 84.8"}
WILSON_15 |= {12: "54.8 to 93.0"}


def test_all_that_is_measured(sweep):
    """Of B, of B' without blue and red, and of the GoodNet that compares them."""
    metrics = sweep.record("asc", 10).metrics
    clean = {
        "badnet_accuracy": 18,
        "pruned_accuracy": 14,
        "goodnet_accuracy": 12,
        "false_alarm_rate": 8,
    }
    poisoned = {
        "badnet_attack_success_rate": 9,
        "pruned_attack_success_rate": 4,
        "goodnet_attack_success_rate": 2,
        "badnet_robust_accuracy": 7,
        "pruned_robust_accuracy": 8,
        "goodnet_robust_accuracy": 3,
        "detection_rate": 10,
        # at the last k with few false alarms, which is 1
        "detection_rate_at_1_false_alarms": 7,
        "detection_rate_at_5_false_alarms": 7,
    }
    not_of_the_target = {
        "badnet_attack_success_rate_without_target": 5,
        "pruned_attack_success_rate_without_target": 1,
        "goodnet_attack_success_rate_without_target": 0,
    }
    numbers = {
        "channels_removed": 2,
        "channels_total": 4,
        "channels_at_1_false_alarms": 1,
        "channels_at_5_false_alarms": 1,
        "false_alarm_rate_at_1_false_alarms": 0,
        "false_alarm_rate_at_5_false_alarms": 0,
        "pruned_der": (9 / 15 - 4 / 15 - (18 / 20 - 14 / 20) + 1) / 2,
        "goodnet_der": (9 / 15 - 2 / 15 - (18 / 20 - 12 / 20) + 1) / 2,
        # Pairs of a clean and a poisoned picture of which the poisoned one flips first; ties half.
        "flip_depth_auroc": (7 * 20 + 2 * 9 + 3 * 16 + 2 * 4 + 1 * 1) / (15 * 20),
        "flip_depth_auroc_two_sided": 215 / 300,
        "badnet_parameters": 39,
        "repaired_parameters": 39,
    }
    expected = of(20, **clean) | of(15, **poisoned) | of(10, **not_of_the_target) | of(1, **numbers)
    others = ("/low", "/high")
    shown = {name: v for name, v in metrics.items() if not name.endswith(others)}
    assert {n: v for n, v in shown.items() if not n.startswith(("seconds/", "curve/"))} == expected
    rates = {*clean, *poisoned, *not_of_the_target}
    rates |= {name for name in numbers if name.startswith(("false", "flip"))}
    assert {name.rpartition("/")[0] for name in metrics if name.endswith(others)} == rates


@pytest.mark.parametrize(("order", "threshold"), CELLS)
def test_what_mlflow_shows_of_a_run(sweep, order, threshold):
    record = sweep.record(order, threshold)
    k, counts = ANSWERS[order, threshold]
    shown = record.run.data.metrics
    assert {name: v for name, v in shown.items() if not name.startswith("curve/")} == {
        **of(20, badnet_accuracy=18, goodnet_accuracy=counts["right"]),
        **of(20, false_alarm_rate=counts["alarms"]),
        **of(15, badnet_attack_success_rate=9, goodnet_attack_success_rate=counts["hit"]),
        **of(15, detection_rate=counts["detected"]),
        "goodnet_der": pytest.approx(
            (9 / 15 - counts["hit"] / 15 - (18 / 20 - counts["right"] / 20) + 1) / 2
        ),
        "channels_removed": k,
        "channels_total": 4,
    }
    assert run_line(sweep.client, record.run) == (
        f"{order}-{threshold}  accuracy {counts['right'] / 20:.2%}  ASR {counts['hit'] / 15:.2%}  "
        f"{k}/4 channels  {record.metrics['seconds/total']:.1f} s  cut at pool"
    )
    assert record.run.data.params["threshold"] == str(threshold)
    assert record.run.data.tags["network.layer"] == "pool"


def test_the_curves(sweep):
    """Of the GoodNet on the test sets, at k = 0..4; those of the validation sets are others."""
    asc, desc = sweep.record("asc", 10), sweep.record("desc", 10)
    right, hit = "test_goodnet_accuracy", "test_goodnet_attack_success_rate"
    alarms, detected = "test_false_alarm_rate", "test_detection_rate"
    expected = {
        asc: [
            (right, [18, 18, 12, 6, 2], 20),
            (hit, [9, 2, 2, 0, 0], 15),
            (alarms, [0, 0, 8, 14, 18], 20),
            (detected, [0, 7, 10, 12, 14], 15),
        ],
        desc: [
            (right, [18, 14, 6, 2, 2], 20),
            (hit, [9, 9, 9, 9, 0], 15),
            (alarms, [0, 4, 12, 18, 18], 20),
            (detected, [0, 2, 2, 5, 14], 15),
        ],
    }
    for record, curves in expected.items():
        for name, counts, total in curves:
            assert record.curve(name) == pytest.approx(np.array(counts) / total)
    rows = list(csv.DictReader(asc._text("curve.csv").splitlines()))
    assert [row["channels_removed"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["channel"] for row in rows] == ["", "3", "2", "0", "1"]
    of_valid = {"valid_accuracy": [18, 18, 16, 10, 4], "valid_attack_success_rate": [6, 1, 1, 0, 0]}
    for name, counts in of_valid.items():
        total = 20 if name == "valid_accuracy" else 6
        found = [float(row[name]) for row in rows]
        assert found == pytest.approx(np.array(counts) / total)


def cells_of(order, threshold, run):
    k, counts = ANSWERS[order, threshold]
    return {
        "threshold": f"{threshold} %",
        "accuracy %": f"{5 * counts['right']}.0",
        "accuracy, 95 %": WILSON_20[counts["right"]],
        "ASR %": f"{100 * counts['hit'] / 15:.1f}",
        "ASR, 95 %": WILSON_15[counts["hit"]],
        "channels": f"{k}/4",
        "detected %": f"{100 * counts['detected'] / 15:.1f}",
        "detected, 95 %": WILSON_15[counts["detected"]],
        "false alarms %": f"{5 * counts['alarms']}.0",
        "false alarms, 95 %": WILSON_20[counts["alarms"]],
        "run": run,
    }


@pytest.mark.parametrize(("number", "order"), [(1, "asc"), (2, "desc")])
def test_the_tables_in_every_format(sweep, number, order):
    runs = [sweep.record(order, threshold).run.info.run_id for threshold in (10, 30)]
    expected = [
        cells_of(order, threshold, run) for threshold, run in zip((10, 30), runs, strict=True)
    ]
    file = sweep.folder / f"table{number}.csv"
    assert list(csv.DictReader(file.read_text().splitlines())) == expected
    markdown = file.with_suffix(".md").read_text()
    assert [cells_in(line, "|")[1:-1] for line in markdown.splitlines() if "/4" in line] == [
        list(line.values()) for line in expected
    ]
    assert markdown in (sweep.folder / "report.md").read_text()
    latex = file.with_suffix(".tex").read_text().replace("\\%", "%").replace("\\\\", "")
    assert [cells_in(line, "&") for line in latex.splitlines() if "/4" in line] == [
        list(line.values())[:-1] for line in expected
    ]
    rates = ["accuracy", "ASR", "detected", "false alarms"]
    header = [name for name in expected[0] if not name.endswith(", 95 %")]
    tables = [table for table in tables_of(sweep) if table[0] == header]
    assert [table[1][-1] for table in tables][number - 1] == runs[0][:8]
    table = tables[number - 1]
    assert table[1:] == [
        [
            f"{line[name]} {line[f'{name[:-2]}, 95 %']}" if name[:-2] in rates else line[name][:8]
            for name in table[0]
        ]
        for line in expected
    ]


class Tables(HTMLParser):
    """The tables of a page: lines of the texts of their cells."""

    def __init__(self):
        super().__init__()
        self.tables, self.inside = [], False

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            told = " ".join([self.tables[-1][-1][-1], *data.split()])
            self.tables[-1][-1][-1] = told.strip()


def tables_of(sweep):
    page = Tables()
    page.feed((sweep.folder / "index.html").read_text())
    return page.tables


def cells_in(line, separator):
    return [cell.strip() for cell in line.split(separator)]


def test_the_table_in_the_terminal(sweep):
    header, _, *lines = runs_table(sweep.client, sweep.parent, sweep.runs).splitlines()
    columns = [header.index(name) for name in ("status", "acc", "ASR", "det", "fal", "cha", "id")]
    shown = [
        [line[start:end].strip() for start, end in itertools.pairwise([0, *columns, None])]
        for line in lines
    ]
    assert shown == [
        [
            f"{order}-{threshold}",
            "FINISHED",
            f"{5 * counts['right']}.00",
            f"{100 * counts['hit'] / 15:.2f}",
            f"{100 * counts['detected'] / 15:.2f}",
            f"{5 * counts['alarms']}.00",
            f"{k}/4",
            sweep.record(order, threshold).run.info.run_id,
        ]
        for (order, threshold), (k, counts) in ANSWERS.items()
    ]


def test_the_comparison(sweep):
    """Against asc at 30 points, apoz is right on 8 pictures more and 4 fewer, and misses 2."""
    rows = list(csv.DictReader((sweep.folder / "orders.csv").read_text().splitlines()))
    for row in rows:
        order, threshold = row["order"], int(row["threshold"].removesuffix(" %"))
        cells, (_, counts) = cells_of(order, threshold, row["run"]), ANSWERS[order, threshold]
        for name in ("accuracy", "ASR", "detected", "false alarms"):
            rate, ends = cells[f"{name} %"], cells[f"{name}, 95 %"]
            assert row[f"{name} %"] == f"{rate} ({ends})"
        assert row["channels"] == cells["channels"]
        der = (9 / 15 - counts["hit"] / 15 - (18 / 20 - counts["right"] / 20) + 1) / 2
        assert float(row["DER"]) == pytest.approx(der, abs=6e-4)
    shown = {(row["order"], row["threshold"]): row for row in rows}
    assert [(row["threshold"], row["order"]) for row in rows] == [
        (threshold, order) for threshold in ("10 %", "30 %") for order in ("asc", "desc", "apoz")
    ]
    assert {cell: (row["p"], row["p of ASR"]) for cell, row in shown.items()} == {
        ("asc", "10 %"): ("", ""),
        ("desc", "10 %"): ("0.754", "0.016"),
        ("apoz", "10 %"): ("1.000", "1.000"),
        ("asc", "30 %"): ("", ""),
        ("desc", "30 %"): ("0.077", "0.004"),
        ("apoz", "30 %"): ("0.388", "0.500"),
    }
    as_text = [list(row.values()) for row in rows]
    markdown = (sweep.folder / "orders.md").read_text().splitlines()
    assert [cells_in(line, "|")[1:-1] for line in markdown if "/4" in line] == as_text
    latex = (sweep.folder / "orders.tex").read_text().replace("\\%", "%").replace("\\\\", "")
    latex = latex.replace("$<$", "<").replace("\\_", "_")
    assert [cells_in(line, "&") for line in latex.splitlines() if "/4" in line] == [
        line[:-1] for line in as_text
    ]
    assert [cell for cell, row in shown.items() if row["best"]] == [
        ("asc", "10 %"),
        ("apoz", "30 %"),
    ]
    at_1 = {cell: row["detected % at 1 % false alarms"] for cell, row in shown.items()}
    assert at_1["asc", "10 %"] == "46.7 (24.8 to 69.9)"
    assert at_1["desc", "10 %"] == "0.0 (0.0 to 20.4)"
    assert shown["asc", "10 %"]["AUROC"].startswith("0.72 (")
    assert shown["desc", "30 %"]["AUROC"].startswith("0.23 (")


def test_the_sentences(sweep):
    (section,) = sweep.report.sections
    assert section.summary[0] == (
        "The network is right on 90.0 % of 20 clean pictures, and gives 60.0 % of 15 pictures with "
        "the trigger the attacker's class."
    )


def test_the_figures(sweep):
    """Marks stand where the thresholds stop."""
    (section,) = sweep.report.sections
    figures = {entry.name: entry.figure for entry in section.figures}
    asc, desc, apoz, _ = figures["figure2"].axes
    assert [axis.get_title() for axis in (asc, desc, apoz)] == [
        "order asc\nstops: k = 2 at 10 %; k = 3 at 30 %",
        "order desc\nstops: k = 1 at 10, 30 %",
        "order apoz\nstops: k = 2 at 10 %; k = 3 at 30 %",
    ]
    curves = {
        asc: ([18, 18, 12, 6, 2], [9, 2, 2, 0, 0]),
        desc: ([18, 14, 6, 2, 2], [9, 9, 9, 9, 0]),
        apoz: ([18, 18, 12, 10, 2], [9, 2, 2, 2, 0]),
    }
    for axis, (right, hit) in curves.items():
        accuracy, attack = axis.lines[:2]
        assert (accuracy.get_label(), attack.get_label()) == ("accuracy", "attack success rate")
        assert accuracy.get_ydata() == pytest.approx(np.array(right) * 5)
        assert attack.get_ydata() == pytest.approx(np.array(hit) * 100 / 15)
    marks = [
        (*line.get_xdata(), *line.get_ydata()) for line in asc.lines if len(line.get_xdata()) == 1
    ]
    assert np.array(marks) == pytest.approx(np.array([(2, 60), (2, 40 / 3), (3, 30), (3, 0)]))

    lost, detected = figures["figure3"].axes[0], figures["figure4"].axes[0]
    by_label = {line.get_label(): line for axis in (lost, detected) for line in axis.lines}
    assert {"asc", "desc", "apoz"} <= set(by_label)
    for axis, across, upward in (
        (lost, [0, 0, 30, 60, 80], [60, 40 / 3, 40 / 3, 0, 0]),
        (detected, [0, 0, 40, 70, 90], [0, 140 / 3, 200 / 3, 80, 280 / 3]),
    ):
        (line,) = (line for line in axis.lines if line.get_label() == "asc")
        assert line.get_xdata() == pytest.approx(np.array(across))
        assert line.get_ydata() == pytest.approx(np.array(upward))
    said = [text.get_text() for text in figures["figure1"].axes[0].texts]
    assert all(
        re.fullmatch(r"class \d\nB \d, B' \d\nG (\d|backdoored)", text) for text in said[1:6]
    )
