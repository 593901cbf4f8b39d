"""docs/performance.md says what was measured."""

import json
from statistics import median

import pytest

from bench.page import PAGE, RESULT, numbers, with_numbers
from bench.report import html
from tests.ledgerline.page_reader import Page


def test_the_numbers_of_the_page_are_those_of_the_result() -> None:
    text = PAGE.read_text()
    assert with_numbers(text, json.loads(RESULT.read_text())) == text, "run `python -m bench.page`"


def test_every_ratio_stands_beside_what_acknowledgements_mean() -> None:
    found = json.loads(RESULT.read_text())
    assert found["ratios"]
    for name, ratio in found["ratios"].items():
        assert "ratio" in name
        assert "not fsynced" in ratio["note"]
    assert found["durability"] in numbers(found)


def test_the_html_page_loads_nothing_and_holds_every_window() -> None:
    found = json.loads(RESULT.read_text())
    page = Page(html(found))
    assert page.loads == []
    assert len(page.tables["Throughput, load of the machine, and what its host took away"]) == 1 + len(
        found["throughput"]["windows"]
    )
    for way, measured in found["throughput"]["per_second"].items():
        assert f"{measured['median']:,.0f}/s" in page.text, way


def test_ratios_are_those_of_the_measured_rounds() -> None:
    found = json.loads(RESULT.read_text())
    measured = found["throughput"]["per_second"]
    for name, ratio in found["ratios"].items():
        other = measured[name.removeprefix("ratio_to_")]
        ours = measured["ledgerline"]["rounds"][: len(other["rounds"])]  # a way that failed has fewer
        assert ratio["median"] == pytest.approx(median(ours) / other["median"])


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the lines"):
        with_numbers("# Performance\n", {})
