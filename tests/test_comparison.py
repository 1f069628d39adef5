"""Orders compared: who is best, how sure that is, what stands below the line."""

from types import SimpleNamespace

import numpy as np

from backdoor.evaluation import evaluate_clean, evaluate_poisoned, ratings
from backdoor.reporting.combinations import Combination
from backdoor.reporting.comparison import comparison_table
from backdoor.reporting.formats import FORMATS, _starts_of_oracles
from backdoor.reporting.seeds import seeds_table
from backdoor.reporting.tables import DEFENCE, KIND, ORACLE
from backdoor.tracking.record import Record

CLASSES, TRUTH = 4, np.arange(40) % 4
TARGETS = np.zeros(40, int)


def record_of(order, threshold, wrong, missed, run="abc"):
    """A run whose B' is wrong on so many clean pictures, and misses so many attacks."""
    pruned = TRUTH.copy()
    pruned[:wrong] = (pruned[:wrong] + 1) % CLASSES
    attacked = np.where(np.arange(40) < missed, 0, 2)
    metrics = evaluate_clean(TRUTH, pruned, TRUTH, CLASSES)
    metrics |= evaluate_poisoned(TARGETS, attacked, 0, CLASSES)
    metrics |= ratings(metrics) | {"channels_removed": 3, "channels_total": 9}
    metrics |= {"seconds/order": 1.25, "flip_depth_auroc": 0.8}
    tags = {"network.classes": "4", "data.clean_test.pictures": "40"}
    tags["data.poisoned_test.pictures"] = "40"
    params = {"order": order, "threshold": str(threshold), "dataset.target": "0"}
    data = SimpleNamespace(metrics=metrics, tags=tags, params=params)
    record = Record(None, SimpleNamespace(data=data, info=SimpleNamespace(run_id=run)))
    vars(record)["_files"] = set()  # nothing but what MLflow's pages show
    vars(record)["labels"] = {
        "clean_test_badnet": TRUTH,
        "clean_test_pruned": pruned,
        "clean_test_truth": TRUTH,
        "poisoned_test_badnet": TARGETS,
        "poisoned_test_pruned": attacked,
    }
    return record


def compared(**cells):
    records = {(order, 2.0): record_of(order, 2, *counts) for order, counts in cells.items()}
    return comparison_table(records, [("max", 2.0)], poisoned=True)


def lines_of(table):
    return {line["order"]: line for line in table.lines}


def test_the_best_defence_and_the_best_oracle_are_marked():
    table = compared(oracle_tac=(0, 0), l1=(2, 10), asc=(2, 40), desc=(20, 10))
    lines = lines_of(table)
    assert [line["order"] for line in table.lines] == ["asc", "desc", "l1", "oracle_tac"]
    assert [order for order, line in lines.items() if line["best"]] == ["l1", "oracle_tac"]
    assert lines["l1"]["DER"] == f"{(30 / 40 - 2 / 40 + 1) / 2:.3f}"
    assert lines["l1"]["accuracy %"] == "95.0 (83.5 to 98.6)"
    assert lines["l1"]["needs"] == "weights"
    assert lines["l1"]["run"] == "abc"
    assert table.missing == ["max-2"]


def test_lines_stand_by_threshold_and_then_by_order():
    records = {
        (order, threshold): record_of(order, threshold, 2, 5 if order == "asc" else 10)
        for threshold in (10.0, 2.0)
        for order in ("oracle_tac", "desc", "asc")
    }
    table = comparison_table(records, [], poisoned=True)
    assert [(line["threshold"], line["order"]) for line in table.lines] == [
        (threshold, order)
        for threshold in ("2 %", "10 %")
        for order in ("asc", "desc", "oracle_tac")
    ]
    assert [line["best"] for line in table.lines] == ["best", "", "best oracle"] * 2
    assert {line["seconds"] for line in table.lines} == {"1.2"}
    assert {line["AUROC"] for line in table.lines} == {""}
    alone = record_of("asc", 2, 2, 10)
    del alone.run.data.metrics["seconds/order"]
    (line,) = comparison_table({("asc", 2.0): alone}, [], poisoned=True).lines
    assert line["seconds"] == ""


def test_each_order_is_tested_against_the_usual_one_on_the_same_pictures():
    lines = lines_of(compared(asc=(2, 40), l1=(2, 30), desc=(20, 40)))
    assert lines["asc"]["p"] == lines["asc"]["p of ASR"] == ""
    assert lines["l1"]["p"] == lines["desc"]["p of ASR"] == "1.000"
    assert lines["l1"]["p of ASR"] == f"{2 * 0.5**10:.3f}"
    assert lines["desc"]["p"] == "< 0.001"


def test_oracles_stand_below_a_line():
    table = compared(asc=(2, 40), l1=(2, 30), oracle_tac=(0, 0))
    markdown = FORMATS["md"](table).splitlines()
    assert len(markdown) == 2 + 3 + 1
    assert set(markdown[4]) == {"|", "-"}
    assert [len(line) for line in markdown] == [len(markdown[0])] * len(markdown)
    assert [place for place, letter in enumerate(markdown[4]) if letter == "|"] == [
        place for place, letter in enumerate(markdown[0]) if letter == "|"
    ]
    latex = FORMATS["tex"](table).splitlines()
    rules = [number for number, line in enumerate(latex) if line == "\\midrule"]
    assert len(rules) == 2
    assert latex[rules[1] + 1].startswith("2 \\% & oracle\\_tac & oracle")
    assert len(FORMATS["csv"](table).splitlines()) == 1 + 3


def test_mean_and_deviation_over_seeds():
    def combination(seed, missed):
        cell = ("random", 2.0)
        return Combination(f"seed={seed}", {cell: record_of("random", 2, 4, missed)}, [], [])

    (line,) = seeds_table([combination(0, 10), combination(1, 20), combination(2, 30)]).lines
    assert line["seeds"] == "3"
    assert line["ASR %"] == "50.0 ± 25.0"
    assert line["accuracy %"] == "90.0 ± 0.0"
    assert seeds_table([combination(0, 10)]) is None


def test_a_line_is_drawn_where_oracles_begin_and_nowhere_else():
    def starts(*kinds):
        return _starts_of_oracles([{KIND: kind} for kind in kinds])

    assert starts(DEFENCE, ORACLE, ORACLE, DEFENCE, DEFENCE, ORACLE) == [1, 5]
    assert starts(ORACLE, DEFENCE) == []
    assert starts(DEFENCE) == []
