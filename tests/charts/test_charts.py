"""Charts: what is drawn, what the notes say of the rest, and that every line has its width."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import Color

from convnn.charts import ticks
from convnn.charts.chart import COLORS, LETTERS, Series, draw, smooth
from convnn.text import to_ascii

BRAILLE = re.compile("[⠁-⣿•]")


def text(chart):
    return "\n".join(line.plain for line in chart.lines)


def drawn(chart):
    """(row, column) of every cell that holds a part of a curve."""
    return [(r, c) for r, line in enumerate(chart.lines) for c, ch in enumerate(line.plain) if BRAILLE.match(ch)]


values = st.one_of(st.floats(allow_nan=True, allow_infinity=True, width=32), st.floats(0.1, 3.0))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 16),
    st.lists(st.tuples(st.text(max_size=12), st.lists(values, max_size=12)), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_every_line_is_exactly_as_wide_as_asked(width, height, curves, log_y, letters):
    series = [Series(label, range(len(ys)), ys) for label, ys in curves]
    chart = draw(series, width, height, log_y=log_y, letters=letters, cursor=2, smoothing=0.5, marks=[(1, "resumed")])
    assert [line.cell_len for line in chart.lines] == [width] * height
    if letters:  # a writer replaces the signs of the axes, each by one as wide, and changes nothing else
        ascii_lines = [to_ascii(line.plain) for line in chart.lines]
        assert [len(line) for line in ascii_lines] == [width] * height
    assert text(chart).replace("\n", "").isprintable()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (1, 9), (9, 2), (0, 0)])
def test_the_smallest_charts_do_not_fail(width, height):
    assert [line.cell_len for line in draw([Series("a", [1, 2], [1, 2])], width, height).lines] == [width] * height


def test_extremes_of_long_series_are_drawn():
    ys = np.zeros(100_000)
    ys[31_234], ys[70_001] = 5.0, -3.0
    cells = drawn(draw([Series("a", np.arange(100_000), ys)], 60, 12))
    top, bottom = min(cells), max(cells)
    assert top[0] == 0 and bottom[0] == 9  # below are the axis and its numbers
    assert top[1] < bottom[1]


def test_nan_is_a_gap_and_marked():
    chart = draw([Series("a", range(9), [1, 1, 1, 1, math.nan, 1, 1, 1, 1])], 60, 10)
    row = next(line.plain for line in chart.lines if len(BRAILLE.findall(line.plain)) > 9)
    curve = row[row.index("┤") + 1 :].split("a")[0].rstrip()
    assert " " in curve
    assert "×" in text(chart)
    assert "1 NaN in a" in chart.notes and "1 NaN in a" in chart.lines[-1].plain


def test_infinities_are_marked_at_the_edges_and_do_not_stretch_the_scale():
    chart = draw([Series("a", range(5), [1, math.inf, 2, -math.inf, 1.5])], 40, 10)
    assert "▲" in chart.lines[0].plain
    assert "▼" in text(chart)
    assert "2 infinite in a" in chart.notes


def test_lines_do_not_bridge_a_gap_across_columns_without_points():
    whole = drawn(draw([Series("a", [0, 50, 100], [1, 1, 1])], 60, 6))
    broken = drawn(draw([Series("a", [0, 50, 100], [1, math.nan, 1])], 60, 6))
    assert len(whole) > 40
    assert len(broken) == 2


def test_hidden_series_are_counted_and_named():
    chart = draw(
        [Series("a", [1, 2], [1, 2]), Series("b", [], []), Series("c", [8, 9], [1, 2])], 60, 12, x_range=(1, 2)
    )
    assert chart.hidden == ["b", "c"]
    assert "2 of 3 series hidden: b, c" in chart.lines[-1].plain
    many = draw([Series(f"s{i}", [1, 2], [i, i + 1]) for i in range(10)], 60, 20)
    assert many.notes[0] == "2 of 10 series hidden: s8, s9"


def test_labels_without_room_are_counted():
    chart = draw([Series(f"label{i}", [1, 2], [i, i]) for i in range(8)], 60, 8)
    labeled = [i for i in range(8) if f"label{i}" in "\n".join(line.plain for line in chart.lines[:-1])]
    assert len(labeled) < 8
    assert any(note.startswith(f"no room for {8 - len(labeled)} of 8 labels") for note in chart.notes)


def test_labels_stand_at_the_ends_of_their_lines_and_do_not_overlap():
    chart = draw(
        [Series("high", [1, 9], [9, 9]), Series("low", [1, 9], [1, 1]), Series("same", [1, 9], [9, 9])], 60, 12
    )
    rows = {
        word: next(r for r, line in enumerate(chart.lines) if word in line.plain) for word in ("high", "low", "same")
    }
    assert rows["high"] == 0 and rows["low"] == 9
    assert rows["same"] == 1


def test_each_series_has_a_color_of_its_own_on_its_curve_and_label():
    chart = draw([Series("up", [1, 2], [1, 2]), Series("down", [1, 2], [2, 1])], 40, 8)
    styles = {str(span.style) for line in chart.lines for span in line.spans}
    assert {COLORS[0], COLORS[1], f"bold {COLORS[0]}", f"bold {COLORS[1]}"} <= styles


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_curves_that_are_equal_take_turns_so_that_all_are_visible(letters, count):
    chart = draw([Series(name, [1, 9], [1, 9]) for name in "abc"[:count]], 60, 12, letters=letters)
    cells = dict.fromkeys(COLORS[:count], 0)
    for line in chart.lines:
        for span in line.spans:
            if str(span.style) in cells:
                cells[str(span.style)] += span.end - span.start
    assert min(cells.values()) > 0.2 * sum(cells.values())
    if letters:
        assert all(letter in text(chart) for letter in LETTERS[:count])


def test_a_curve_in_the_background_is_behind_the_others():
    series = [Series("noise", [1, 9], [1, 9], is_background=True), Series("mean", [1, 9], [1, 9])]
    styles = {str(span.style) for line in draw(series, 60, 12).lines for span in line.spans}
    assert COLORS[1] in styles and COLORS[0] not in styles


@pytest.mark.parametrize("color", COLORS)
def test_colors_read_on_black_and_on_white(color):
    parts = [c / 255 for c in Color.parse(color).get_truecolor()]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert (light + 0.05) / 0.05 >= 3 and 1.05 / (light + 0.05) >= 3  # WCAG 2.2, 1.4.11: graphics


def test_a_logarithmic_axis_spaces_powers_evenly_and_counts_what_it_cannot_show():
    chart = draw([Series("a", range(5), [0.001, 0.01, 0.1, 1, 10])], 60, 15, log_y=True)
    numbers = {line.plain.split("┤")[0].strip(): r for r, line in enumerate(chart.lines) if "┤" in line.plain}
    gaps = np.diff([numbers[word] for word in ("10", "1", "0.1", "0.01", "0.001")])
    assert gaps.max() - gaps.min() <= 1  # of cells, which round
    chart = draw([Series("a", range(4), [0, -1, 1, 10])], 60, 10, log_y=True)
    assert "2 not above 0 in a" in chart.notes
    assert draw([Series("a", [1], [0])], 60, 10, log_y=True).hidden == ["a"]


def test_the_cursor_gives_the_value_of_the_nearest_point_of_each_series():
    series = [Series("a", [1, 2, 3], [0.5, 0.25, 0.125]), Series("b", [3, 4], [7, 8]), Series("c", [], [])]
    chart = draw(series, 60, 12, cursor=2.2)
    assert chart.cursor_values == [0.25, None, None]
    assert "a 0.250" in text(chart)
    assert draw(series, 60, 12, cursor=3).cursor_values == [0.125, 7.0, None]
    assert "│" in chart.lines[3].plain[10:]


def test_zoom_shows_a_part_with_its_own_scale():
    xs = np.arange(1001)
    chart = draw([Series("a", xs, xs**2)], 60, 12, x_range=(10, 20))
    assert chart.x_range == (10, 20)
    assert "400" in text(chart) and "k" not in text(chart)
    between = draw([Series("a", [0, 100], [0, 1])], 60, 12, x_range=(40, 60))
    assert len(drawn(between)) > 40 and not between.hidden


@pytest.mark.parametrize("ys", [[71.4], [2, 2, 2], [0, 0]])
def test_single_points_and_constants_are_visible(ys):
    assert drawn(draw([Series("a", range(len(ys)), ys)], 40, 8))


def test_raw_points_stay_dimmed_behind_the_smoothed_line():
    ys = [1.0, 5.0] * 20
    chart = draw([Series("a", range(40), ys)], 60, 12, smoothing=0.9)
    styles = {str(span.style) for line in chart.lines for span in line.spans}
    assert f"dim {COLORS[0]}" in styles and COLORS[0] in styles


def test_marks_are_lines_with_a_word():
    chart = draw([Series("a", [0, 10], [0, 1])], 60, 12, marks=[(5, "resumed"), (99, "resumed")])
    assert sum("┊" in line.plain for line in chart.lines[:8]) >= 7
    assert chart.notes == ["┊ resumed 5"]
    many = draw(
        [Series("a", [0, 10], [0, 1])], 60, 12, marks=[(place, "paused") for place in (9, 1, 2.5, 4)], x="seconds"
    )
    assert many.notes == ["┊ paused 9.0 s 1.0 s 2.5 s ..."]


def test_an_empty_chart_shows_its_text():
    assert "the first step" in text(draw([Series("a", [], [])], 40, 5, empty_text="waiting for the first step"))


def test_labels_from_outside_are_harmless():
    chart = draw([Series("\x1b[31m[bold]x", [1, 2], [1, 2])], 80, 8)
    assert r"\x1b[31m[bold]x" in text(chart)
    assert "\x1b" not in text(chart)


def test_letters_tell_curves_apart_without_braille():
    drawing = text(draw([Series("up", [1, 9], [1, 9]), Series("é", [1, 9], [9, 1])], 60, 12, letters=True))
    assert not BRAILLE.search(drawing) and drawing.count("*") > 8 and drawing.count("+") > 8
    assert "* up" in drawing and "+ \\xe9" in drawing


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.sampled_from([0.0, 0.3, 0.9, 0.999]))
def test_smoothing_is_the_corrected_exponential_average(ys, weight):
    state, total, expected = 0.0, 0.0, []
    for y in ys:
        state, total = weight * state + (1 - weight) * y, weight * total + 1 - weight
        expected.append(state / total)
    np.testing.assert_allclose(smooth(ys, weight), expected, rtol=1e-9, atol=1e-6)  # sums in another order


def test_smoothing_passes_over_values_that_are_not_finite():
    smoothed = smooth([1.0, math.nan, 3.0, math.inf], 0.5)
    assert smoothed[0] == 1 and math.isnan(smoothed[1]) and smoothed[3] == math.inf
    assert smoothed[2] == pytest.approx((0.25 * 1 + 3) / 1.25)
    with pytest.raises(ValueError, match="below 1"):
        smooth([1.0], 1.0)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 20))
def test_ticks_are_few_round_and_inside(low, span, limit):
    high = low + span
    values = ticks.ticks(low, high, limit)
    slack = 1e-6 * span + 1e-9 * abs(low)
    assert len(values) <= limit and all(low - slack <= tick <= high + slack for tick in values)
    assert limit < 3 or values


def test_labels_of_ticks_have_units():
    assert ticks.time_labels(ticks.time_ticks(0, 12000, 5)) == ["0", "1 h", "2 h", "3 h"]
    assert ticks.labels([0.0, 50_000.0, 100_000.0]) == ["0", "50k", "100k"]


def test_a_chart_without_room_still_has_its_lines():
    assert [line.plain for line in draw([Series("a", [0, 1], [0, 1])], 0, 3).lines] == ["", "", ""]


def test_a_logarithmic_x_axis_has_equal_distances_for_equal_factors():
    series = [Series("a", [0.0, *(10.0**exponent for exponent in range(-5, 0))], range(6))]
    chart = draw(series, 60, 12, x="lr", log_x=True, marks=[(1e-2, "best")])
    columns = [column for column, sign in enumerate(chart.lines[-3].plain) if sign == "┬"]
    assert len(columns) == 4  # the unit is where the last number would be
    assert np.diff(columns) == pytest.approx((columns[3] - columns[0]) / 3, abs=1)
    assert "0.0001" in text(chart) and "best 0.01" in text(chart)
    assert chart.x_range == (-5, -1)
    chart = draw(series, 60, 12, log_x=True, cursor=1e-3, x_range=(1e-4, 1e-2))
    assert chart.cursor_values == [3.0] and chart.x_range == (-4, -2)
