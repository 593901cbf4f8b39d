"""Plots: what is drawn is where the value is, inside of the plot, and can be read without seeing it."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgerline.plots import (
    HEIGHT,
    LETTER,
    WIDTH,
    Bar,
    Line,
    Linear,
    Mark,
    Milliseconds,
    bar_plot,
    nice_step,
    time_plot,
)
from tests.ledgerline.page_reader import Page


def plot(*lines: Line, marks: tuple[Mark, ...] = (), title: str = "a plot") -> ET.Element:
    number = len(lines[0].values)
    drawn = time_plot(
        name="it",
        title=title,
        description="what it shows",
        x_label="seconds",
        y_label="records",
        xs=[n + 0.5 for n in range(number)],
        until=number,
        lines=lines,
        marks=marks,
        scale=Linear(max((value for line in lines for value in line.values if value is not None), default=0)),
        hovers=[f"at {n}" for n in range(number)],
    )
    return Page(drawn).plots[0]


def points(svg: ET.Element) -> list[list[tuple[float, float]]]:
    """The points of each stroke."""
    strokes = [each.attrib["points"] for each in svg.iter("polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in stroke.split())] for stroke in strokes]


def test_a_higher_value_is_drawn_higher_and_a_later_one_further_right() -> None:
    (stroke,) = points(plot(Line(name="a", values=[0, 1, 5, 8], hue=0)))
    assert all(left[0] < right[0] and left[1] > right[1] for left, right in pairwise(stroke))


def test_a_second_without_a_value_leaves_a_gap_and_a_value_alone_is_a_dot() -> None:
    svg = plot(Line(name="a", values=[1, 2, None, 3, None, None, 4, 5, 6], hue=0))
    assert [len(stroke) for stroke in points(svg)] == [2, 3]
    assert len(list(svg.iter("circle"))) == 1


@pytest.mark.parametrize("values", [[None, None], [0, 0], [None, 0]])
def test_a_line_without_values_or_with_zeros_only_can_be_drawn(values: list[float | None]) -> None:
    assert plot(Line(name="a", values=values, hue=0)).find("title") is not None


def test_a_plot_of_one_slice_can_be_drawn() -> None:
    assert len(list(plot(Line(name="a", values=[3], hue=0)).iter("circle"))) == 1


@given(st.lists(st.floats(0, 1e9) | st.none(), min_size=1, max_size=30))
def test_everything_is_drawn_inside_of_the_plot(values: list[float | None]) -> None:
    for stroke in points(plot(Line(name="a", values=values, hue=0))):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in stroke)


@given(st.floats(0.001, 1e12), st.integers(1, 20))
def test_steps_are_round_cover_the_span_and_are_no_more_than_asked_for(span: float, ticks: int) -> None:
    step = nice_step(span, ticks)
    assert step * ticks >= span * (1 - 1e-6)
    assert f"{step:.0e}"[0] in "125"


def test_marks_are_labelled_at_their_time_and_the_time_between_two_is_shaded() -> None:
    svg = plot(
        Line(name="a", values=[1] * 10, hue=0), marks=(Mark(x=2, label="SIGKILL"), Mark(x=8, label="they answer again"))
    )
    first, second = (float(each.attrib["x1"]) for each in svg.iter("line") if each.attrib["class"] == "mark")
    band = next(each for each in svg.iter("rect") if each.attrib["class"] == "band")
    assert float(band.attrib["x"]) == pytest.approx(first, abs=0.1)
    assert float(band.attrib["width"]) == pytest.approx(second - first, abs=0.2)
    assert (second - first) / WIDTH == pytest.approx(0.6, abs=0.1)
    labels = {each.text: each for each in svg.iter("text") if each.attrib.get("class") == "mark-label"}
    assert set(labels) == {"SIGKILL", "they answer again"}
    assert len({each.attrib["y"] for each in labels.values()}) == 2, "labels may cover each other"
    assert [each.attrib["text-anchor"] for each in labels.values()] == ["end", "start"]


@pytest.mark.parametrize("at", [0, 1, 5, 9, 10])
def test_a_label_stays_inside_of_the_plot_wherever_its_mark_is(at: float) -> None:
    marks = (Mark(x=at, label="SIGKILL of worker-1 at 1,000.0 s"), Mark(x=at, label="its 8 partitions answer again"))
    svg = plot(Line(name="a", values=[1] * 10, hue=0), marks=marks)
    for label in (each for each in svg.iter("text") if each.attrib.get("class") == "mark-label"):
        x, width = float(label.attrib["x"]), len(label.text or "") * LETTER
        left = x if label.attrib["text-anchor"] == "start" else x - width
        assert 0 <= left <= left + width <= WIDTH


def test_one_mark_shades_nothing() -> None:
    svg = plot(Line(name="a", values=[1, 2], hue=0), marks=(Mark(x=1, label="SIGKILL"),))
    assert not [each for each in svg.iter("rect") if each.attrib["class"] == "band"]


def test_a_plot_has_a_title_a_description_and_named_axes() -> None:
    svg = plot(Line(name="a", values=[1, 2], hue=0))
    assert svg.attrib["role"] == "img"
    named = {each.attrib["id"]: each.text for each in svg if "id" in each.attrib}
    assert [named[part] for part in svg.attrib["aria-labelledby"].split()] == ["a plot", "what it shows"]
    assert {"seconds", "records"} <= {each.text for each in svg.iter("text")}


def test_text_is_escaped_wherever_it_stands() -> None:
    hostile = '<script>"&'
    svg = plot(Line(name=hostile, values=[1], hue=0), marks=(Mark(x=0, label=hostile),), title=hostile)
    assert svg.find("title") is not None
    assert not list(svg.iter("script"))
    bars = Page(
        bar_plot(name="b", title="t", description=hostile, bars=[Bar(label=hostile, value=1, shown=hostile, hue=0)])
    )
    assert "script" not in bars.tags
    assert hostile in bars.text


def test_milliseconds_are_logarithmic_and_less_than_one_stands_at_the_bottom() -> None:
    scale = Milliseconds(8_556)
    assert [named for _, named in scale.ticks()] == ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]
    assert scale.share(0) == scale.share(-3) == scale.share(1) == 0
    assert scale.share(100) == pytest.approx(0.5)
    assert scale.share(10_000) == pytest.approx(1)


def test_a_linear_scale_names_round_numbers_from_zero_to_above_the_highest() -> None:
    assert [named for _, named in Linear(1_400).ticks()] == ["0", "500", "1,000", "1,500"]
    assert Linear(0).ticks()[0][1] == "0"
    assert Linear(2_400_000).ticks()[-1][1] == "2,500,000"


def test_bars_are_as_long_as_their_values_and_the_longest_fits() -> None:
    bars = [Bar(label="a", value=100, shown="100", hue=0), Bar(label="b", value=25, shown="25", hue=1)]
    (svg,) = Page(bar_plot(name="b", title="t", description="d", bars=bars)).plots
    first, second = (each.attrib for each in svg.iter("rect"))
    assert float(first["width"]) == pytest.approx(4 * float(second["width"]))
    assert float(first["x"]) + float(first["width"]) < WIDTH
