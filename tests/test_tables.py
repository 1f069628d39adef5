import csv
import dataclasses
import io
import re

import pytest
from test_published import reproduced

from backdoor.pruning.oracles import ORACLES
from backdoor.reporting.formats import FORMATS
from backdoor.reporting.row import Row
from backdoor.reporting.tables import order_table

ROWS = [reproduced("asc", 10), reproduced("asc", 2), Row("asc", 4)]


def rendered(style, compare, poisoned=True):
    return FORMATS[style](order_table(1, "asc", ROWS, compare, poisoned))


def test_the_csv_has_a_line_a_row_in_the_order_of_thresholds():
    lines = list(csv.DictReader(io.StringIO(rendered("csv", compare=True))))
    assert [line["threshold"] for line in lines] == ["2 %", "4 %", "10 %"]
    assert [line["run"] for line in lines] == ["abc", "missing", "abc"]
    assert lines[0]["accuracy %"] == "95.7443"
    assert lines[0]["channels"] == "45/60"
    assert lines[0]["difference"] == "+0.0000"
    assert lines[0]["verdict"] == "equal"
    assert lines[1]["accuracy %"] == ""


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_has_all_rows(style):
    text = rendered(style, compare=False)
    assert all(each in text for each in ("95.74", "84.34", "52/60"))
    assert not re.search(r"95\.744|published", text)
    assert ("missing" in text) == (style != "tex")
    assert all(each in rendered(style, compare=True) for each in ("95.7443", "84.3414"))


@pytest.mark.parametrize(("pictures", "shown"), [(115, "96.5"), (999, "96.5"), (1000, "96.52")])
def test_no_more_digits_are_shown_than_so_many_pictures_support(pictures, shown):
    row = Row("asc", 2, accuracy=0.965217, clean=pictures, run="abc")
    (line,) = order_table(1, "asc", [row], compare=False).lines
    assert line["accuracy %"] == shown


def test_the_published_columns_by_hand():
    """Two pictures of 12,830 right more, 13 attacks fewer, at 10 points."""
    (line,) = order_table(1, "asc", [reproduced("asc", 10, 2, -13)], compare=True).lines
    assert line["accuracy %"] == "84.3570"
    assert line["published accuracy %"] == "84.3414"
    assert line["difference"] == "+0.0156"
    assert line["ASR %"] == "77.1161"
    assert line["published ASR %"] == "77.2175"
    assert line["difference of ASR"] == "-0.1013"
    assert line["published channels"] == "52/60"
    assert line["verdict"] == "differs"
    unknown = dataclasses.replace(reproduced("asc", 10), attack_success_rate=None, poisoned=None)
    (line,) = order_table(1, "asc", [unknown], compare=True, poisoned=True).lines
    assert line["ASR %"] == line["difference of ASR"] == ""
    assert line["difference"] == "+0.0000"


def test_each_rate_has_the_digits_that_its_own_pictures_support():
    row = Row("asc", 2, 0.9, 0.8, 0.7, 0.6, 1, 4, clean=999, poisoned=1000, run="abc")
    (line,) = order_table(1, "asc", [row], compare=False).lines
    shown = [line[f"{name} %"] for name in ("accuracy", "ASR", "detected", "false alarms")]
    assert shown == ["90.0", "80.00", "70.00", "60.0"]
    assert "detected %" in order_table(1, "asc", [row], compare=False).lines[0]


def test_latex_is_ready_for_a_paper():
    lines = rendered("tex", compare=False).splitlines()
    assert lines[0] == "\\begin{table}[tbp]"
    assert "\\caption{The GoodNet on the test sets, channels removed in order asc}" in lines
    assert "\\label{tab:table1}" in lines
    head = next(line for line in lines if line.startswith("threshold & accuracy \\% & "))
    assert "run" not in head
    assert f"\\begin{{tabular}}{{{'r' * (1 + head.count('&'))}}}" in lines
    assert not any("abc" in line for line in lines)
    assert lines[-2:] == ["\\end{tabular}", "\\end{table}"]


@pytest.mark.parametrize("style", FORMATS)
def test_without_poisoned_pictures_no_column_of_theirs_is_left(style):
    text = rendered(style, compare=True, poisoned=False)
    assert "false alarms" in text
    assert not re.search("ASR|detected", text)


def test_an_oracle_is_called_one(monkeypatch):
    monkeypatch.setitem(ORACLES, "oracle_test", None)
    title = order_table(3, "oracle_test", [Row("oracle_test", 2)], compare=False).title
    assert title.endswith("in order oracle_test (an oracle, which sees poisoned pictures)")


def test_a_run_that_is_missing_is_named_and_compared_with_nothing():
    table = order_table(1, "asc", ROWS, compare=True)
    assert table.missing == ["asc-4"]
    assert table.lines[1]["published accuracy %"] == ""
    other = dataclasses.replace(reproduced("asc", 2), threshold=3)  # which was not published
    (line,) = order_table(1, "asc", [other], compare=True).lines
    assert line["published accuracy %"] == line["difference"] == ""
