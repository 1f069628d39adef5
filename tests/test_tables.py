import csv
import io
import re

import pytest
from test_published import reproduced

from backdoor.pruning.oracles import ORACLES
from backdoor.reporting.row import Row
from backdoor.reporting.tables import FORMATS, order_table

ROWS = [reproduced("asc", 10), reproduced("asc", 2), Row("asc", 4)]


def rendered(style, compare, poisoned=True):
    return FORMATS[style](order_table(1, "asc", ROWS, compare, poisoned).lines)


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
    assert all(each in text for each in ("95.7443", "84.3414", "missing", "52/60"))
    assert "published" not in text


@pytest.mark.parametrize("style", FORMATS)
def test_without_poisoned_pictures_no_column_of_theirs_is_left(style):
    text = rendered(style, compare=True, poisoned=False)
    assert "false alarms" in text
    assert not re.search("ASR|detected", text)


def test_an_oracle_is_called_one(monkeypatch):
    monkeypatch.setitem(ORACLES, "oracle_test", None)
    title = order_table(3, "oracle_test", [Row("oracle_test", 2)], compare=False).title
    assert title.endswith("in order oracle_test (an oracle, which sees poisoned pictures)")
