import csv
import io

import pytest

from backdoor.reporting.published import (
    PUBLISHED,
    PUBLISHED_PICTURES,
)
from backdoor.reporting.row import Row
from backdoor.reporting.tables import FORMATS, order_table

N = PUBLISHED_PICTURES


def reproduced(order, threshold):
    line = PUBLISHED[order][threshold]
    accuracy, attack = line.accuracy / 100, line.attack_success_rate / 100
    rates = (accuracy, attack, 0.5, 0.25)
    return Row(order, threshold, *rates, line.removed, 60, N, N, "abc")


ROWS = [reproduced("asc", 10), reproduced("asc", 2), Row("asc", 4)]


def rendered(style, compare):
    return FORMATS[style](order_table(1, "asc", ROWS, compare).lines)


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
