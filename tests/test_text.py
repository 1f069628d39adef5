"""What strangers call their things, wherever it is shown: one list of names, each renderer."""

import csv
import io
import json
import logging
import re

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from test_model_files import with_config

from backdoor.errors import UserError
from backdoor.networks.cut import cut_network
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.readers import open_pictures
from backdoor.reporting.figures import draw_samples, short_name
from backdoor.reporting.formats import FORMATS
from backdoor.reporting.tables import Table
from backdoor.samples import Samples
from backdoor.text import plain
from experiments.launch.cli import one_sentence
from experiments.launch.logs import Plain

NASTY = {
    "escape sequence": "\x1b[31mred\x1b[0m",
    "title of the terminal": "\x1b]0;owned\x07",
    "new line": "one\r\ntwo",
    "backspaces": "good\b\b\b\bevil",
    "right to left": "\u202elive\u2066",
    "invisible": "a\u200bb\u2060c\ufeff",
    "zero": "nothing\x00here",
    "long": "x" * 10_000_000,
    "table": "a | b | c",
    "tag": "<script>alert(1)</script>",
    "formula": "$x^2$ \\frac{",
    "macro": "\\input{/etc/passwd}% & # _ ^ ~",
    "link": "[click](javascript:alert(1)) `code` *bold*",
    "surrogate": "broken \udcff name",
}
CLEAN = {
    "escape sequence": r"\x1b[31mred\x1b[0m",
    "new line": "one two",
    "backspaces": r"good\x08\x08\x08\x08evil",
    "right to left": r"\u202elive\u2066",
    "zero": r"nothing\x00here",
    "surrogate": r"broken \udcff name",
    "long": "x" * 119 + "…",
}


@pytest.mark.parametrize("kind", NASTY)
def test_a_name_is_one_short_line_that_steers_nothing(kind):
    shown = plain(NASTY[kind])
    assert shown.isprintable()
    assert len(shown) <= 120
    assert shown == CLEAN.get(kind, shown)
    assert plain(shown) == shown
    shown.encode()


def table_of(kind):
    name = plain(NASTY[kind])
    return Table("table1", f"Table 1: {name}", [{"order": name, "accuracy %": "90.1"}])


@pytest.mark.parametrize("kind", NASTY)
def test_a_table_in_markdown_has_the_columns_that_it_has(kind):
    *_, line = FORMATS["md"](table_of(kind)).splitlines()
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert not re.search(r"(?<!\\)[<`*\[]", line)


@pytest.mark.parametrize("kind", NASTY)
def test_a_table_as_csv_is_read_back(kind):
    (line,) = csv.DictReader(io.StringIO(FORMATS["csv"](table_of(kind))))
    assert line == {"order": plain(NASTY[kind]), "accuracy %": "90.1"}


@pytest.mark.parametrize("kind", NASTY)
def test_a_table_in_latex_runs_no_command_of_a_name(kind):
    text = FORMATS["tex"](table_of(kind))
    assert "\\input" not in text
    assert "\\frac" not in text
    (row,) = (line for line in text.splitlines() if line.endswith(r"90.1 \\"))
    assert len(re.findall(r"(?<!\\)&", row)) == 1
    assert not re.search(r"(?<!\\)[%#$_]", row)


@pytest.mark.parametrize("kind", NASTY)
def test_a_figure_sets_a_name_as_it_is(kind, tmp_path):
    picture = np.zeros((2, 4, 4, 3), np.uint8)
    samples = Samples(picture, *(np.zeros((3, 2), int)), np.full(2, 1), np.array([False, True]))
    draw_samples(samples, 1, [NASTY[kind]]).savefig(tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert "script>" not in text.replace("</script>", "")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)
    assert len(short_name(NASTY[kind])) <= 28


@pytest.mark.parametrize("kind", NASTY)
def test_an_error_and_a_message_are_one_line(kind):
    for shown in (one_sentence(UserError(NASTY[kind])), one_sentence(ValueError(NASTY[kind]))):
        assert shown.isprintable()
        assert len(shown) < 3000
    record = logging.LogRecord("x", logging.INFO, "", 0, "found %s", (NASTY[kind],), None)
    assert Plain().filter(record)
    assert record.getMessage().isprintable()


@pytest.mark.parametrize("kind", ["escape sequence", "new line", "right to left", "table", "tag"])
def test_names_of_folders_are_clean_when_they_are_classes(kind, tmp_path):
    if "/" in NASTY[kind]:
        pytest.skip("no folder can be called so")
    for name in (NASTY[kind], "other"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    assert set(open_pictures(tmp_path).names) == {plain(NASTY[kind]), "other"}


@pytest.mark.parametrize("kind", ["escape sequence", "new line", "right to left"])
def test_names_of_layers_are_clean_in_what_is_refused(kind, tmp_path):
    pictures = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="odd")(pictures)
    keras.Model(pictures, layers.GlobalMaxPooling2D()(x)).save(tmp_path / "net.keras")

    def change(config):
        text = json.dumps(config).replace('"odd"', json.dumps(NASTY[kind]))
        config.clear()
        config.update(json.loads(text.replace('"strides": [1, 1]', '"strides": [0, 0]')))

    with pytest.raises(UserError) as caught:
        load_badnet(with_config(tmp_path / "net.keras", change))
    assert str(caught.value).isprintable()


def test_a_layer_that_is_not_there_is_asked_for_in_one_line():
    pictures = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(name="a\x1b[31m")(layers.Conv2D(4, 3)(pictures))
    model = keras.Model(pictures, layers.Dense(3)(layers.Flatten()(x)))
    with pytest.raises(UserError) as caught:
        cut_network(model, "none")
    assert one_sentence(caught.value).isprintable()


@pytest.mark.parametrize("kind", NASTY)
def test_our_own_errors_and_what_is_logged_of_others_are_clean(kind):
    said = str(UserError(f"expected this, found {NASTY[kind]}"))
    assert said.isprintable()
    assert len(said) <= 2000
    traceback = f"Traceback:\n  File one\nValueError: {NASTY[kind]}"
    record = logging.LogRecord("a", logging.DEBUG, "", 0, "%s", (traceback,), None)
    assert Plain().filter(record)
    lines = record.getMessage().split("\n")
    assert lines[:2] == ["Traceback:", "  File one"]
    assert all(line.isprintable() for line in lines)
