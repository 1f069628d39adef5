"""The report as one page: all that is in the value is on it, and nothing of it is markup."""

from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from backdoor.reporting.page import as_page, grid
from backdoor.reporting.report import Report, ReportFigure, Section, _each_once
from backdoor.reporting.tables import Table

RUN = "0123456789abcdef"
NASTY = ["<script>alert(1)</script>", "\"><img src=x onerror='a()'>", "{{ 7 * 7 }}", "a & b"]


class Page(HTMLParser):
    """Tags with their attributes, and text, of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, attribute):
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]


def line(name, accuracy, run=RUN):
    return {
        "threshold": name,
        "accuracy %": accuracy,
        "accuracy, 95 %": f"about {accuracy}",
        "run": run,
    }


def report_of(*names, sections=1, **more):
    tables = [
        Table("table1", f"Table of {names[0]}", [line(n, f"{i}.5") for i, n in enumerate(names)])
    ]
    figures = [
        ReportFigure("figure1", "Figure 1", Figure()),
        ReportFigure("figure2", "Figure 2", None, lost=f"lost, {names[0]}"),
    ]
    facts = [("network", names[0]), (names[-1], "a value")]
    section = Section(names[0], [f"A sentence on {names[0]}."], tables, [names[0]], figures, facts)
    return Report(
        RUN, names[0], "http://pages/runs/", names[0], [section] * sections, [], [names[0]]
    )


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("sections", [1, 2])
def test_names_are_text_wherever_they_stand(name, sections):
    plain, nasty = (Page(as_page(report_of(n, sections=sections))) for n in ("plain", name))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert nasty.text.count(name) == plain.text.count("plain") > 5


def test_the_page_needs_nothing_beside_it():
    page = Page(as_page(report_of("plain")))
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]
    assert page.all("script", "src") == [None]
    assert [source.partition(",")[0] for source in page.all("img", "src")] == [
        "data:image/svg+xml;base64"
    ]


def test_an_interval_stands_under_its_rate_and_a_run_leads_to_its_page():
    columns, lines = grid(report_of("2 %", "4 %").sections[0].tables[0], "http://pages/runs/")
    assert columns == ["threshold", "accuracy %", "run"]
    assert [(cell.text, cell.small) for cell in lines[1]] == [
        ("4 %", ""),
        ("1.5", "about 1.5"),
        ("01234567", ""),
    ]
    assert lines[1][2].link == f"http://pages/runs/{RUN}"
    page = Page(as_page(report_of("2 %")))
    assert f"http://pages/runs/{RUN}" in page.all("a", "href")


def test_an_interval_in_brackets_stands_under_its_rate_and_text_on_the_left():
    cells = {
        "order": "asc",
        "accuracy %": "90.7 (88.9 to 92.2)",
        "p": "< 0.001",
        "difference": "-1",
    }
    (line,) = grid(Table("orders", "Orders", [cells]), "")[1]
    assert [(cell.text, cell.small, cell.is_text) for cell in line] == [
        ("asc", "", True),
        ("90.7", "88.9 to 92.2", False),
        ("< 0.001", "", False),
        ("-1", "", False),
    ]


def test_a_missing_run_has_no_link():
    table = Table("table1", "Table 1", [line("2 %", "", run="missing")], ["asc-2"])
    ((*_, run),) = grid(table, "http://pages/runs/")[1]
    assert (run.text, run.link) == ("missing", "")


def test_figures_have_a_text_and_lost_ones_a_reason():
    page = Page(as_page(report_of("plain")))
    assert page.all("img", "alt") == ["Figure 1"]
    assert "missing, lost, plain" in page.text


def test_long_tables_can_be_filtered_and_all_can_be_sorted():
    short, long = (Page(as_page(report_of(*map(str, range(n))))) for n in (7, 8))
    assert short.all("input", "type") == []
    assert long.all("input", "data-filters") == ["table1"]
    assert len(short.all("button", "type")) == 3


def test_a_figure_that_sections_share_stands_in_the_first_and_lost_ones_in_each():
    shared, lost = (
        ReportFigure("classes", "Classes", Figure()),
        ReportFigure("m", "M", None, "gone"),
    )
    own = [ReportFigure("figure1", "Figure 1", Figure()) for _ in range(2)]
    sections = [Section("", [], [], [], [each, shared, lost], []) for each in own]
    first, second = _each_once(sections)
    assert first.figures == [own[0], shared, lost]
    assert second.figures == [own[1], lost]
