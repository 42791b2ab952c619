"""Numbers, times, names and control characters as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from convnn import text
from convnn.runs.status import STATUSES


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.8123, "0.812"),
        (71.43, "71.4"),
        (12345, "12.3k"),
        (5e6, "5M"),
        (3e-4, "3.0e-4"),
        (0, "0"),
        (math.nan, "NaN"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_are_short(value, words):
    assert text.number(value) == words


def test_learning_rates_always_have_their_power_of_ten():
    assert [text.power_of_ten(value) for value in (3e-4, 0.1, 0)] == ["3.0e-4", "1.0e-1", "0.0e0"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(21.4, "21.4 s"), (59.99, "1 m"), (2940, "49 m"), (12000, "3 h 20 m"), (187200, "2 d 4 h"), (math.nan, "?")],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "now"), (60, "1 m"), (7200, "2 h"), (86_400 * 13, "13 d"), (86_400 * 14, "2 w")]
)
def test_ages_have_four_characters_at_most(seconds, words):
    assert text.age_text(seconds) == words and len(words) <= 4


def test_plurals_are_right_for_one_and_for_many():
    counts = [text.plural(count, "run") for count in (0, 1, 1200)]
    assert counts == ["0 runs", "1 run", "1,200 runs"] and text.plural(2, "class", "classes") == "2 classes"


@given(st.text(max_size=40), st.integers(0, 40))
def test_fitted_text_has_at_most_that_many_cells(words, width):
    words = text.escaped(words)
    assert cell_len(text.fit(words, width)) <= width or cell_len(words) <= width


@given(st.text(max_size=40))
def test_escaped_text_is_printable_and_escaped_once(words):
    once = text.escaped(words)
    assert once.isprintable() and text.escaped(once) == once
    assert text.to_ascii(once).isascii()


def test_the_ascii_spelling_of_a_sign_is_as_wide_as_the_sign():
    signs = [chr(sign) for sign in text.ASCII_SIGNS if chr(sign) != "±"]
    assert all(cell_len(text.to_ascii(sign)) == cell_len(sign) for sign in signs)


def test_statuses_keep_their_glyphs_apart_in_ascii():
    glyphs = [text.to_ascii(status.glyph) for status in STATUSES.values()]
    assert len(set(glyphs)) == len(STATUSES) and all(len(glyph) == 1 for glyph in glyphs)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python leaves it behind
        ({"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"}, False),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "POSIX"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"TERM": "dumb"}, True),
        ({"TERM": "xterm"}, False),
    ],
)
def test_the_c_locale_is_ascii_although_python_takes_it_for_utf8(environment, expected):
    assert text.ascii_only("utf-8", environment) == expected
    assert text.ascii_only("ascii", environment)
