"""Arithmetic in sweep files: as Python computes it, bounded, and never run as code."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnn.sweeps.expression import ExpressionError, parse_expression

VALUES = {"N": 6, "lr": 0.01, "layer.K": 9}
NUMBERS = st.integers(0, 50).map(str) | st.sampled_from(["0.5", "1e-3", "2.", ".25"])
EXPRESSIONS = st.recursive(
    NUMBERS | st.sampled_from(["N", "lr"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", " ** "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda parts: "{}({}, {})".format(*parts)),
        st.tuples(st.sampled_from(["round", "int"]), inner).map(lambda parts: "{}({})".format(*parts)),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("= N ** 2", 36),
        ("=N", 6),
        ("= -N ** 2", -36),  # as in Python
        ("= 2 ** -1", 0.5),
        ("= 2 ** 3 ** 2", 512),  # from the right
        ("= 7 - 2 - 1", 4),  # from the left
        ("= 7 // 2 * 2 + 7 % 4", 9),
        ("= -7 // 2", -4),
        ("= layer.K + (1 - 2)", 8),
        ("= max(1, min(N, 4), 2)", 4),
        ("= round(2.5) + int(2.9)", 4),
        ("= 1e-3 * 2.5", 0.0025),
        ("= + + N", 6),
        ("= 1 ** 999", 1),
    ],
)
def test_values(text, expected):
    assert parse_expression(text).value(VALUES) == expected


@settings(deadline=None)
@given(EXPRESSIONS)
def test_values_are_those_of_python(text):
    try:
        expected = eval(text, {"N": 6, "lr": 0.01})  # made of the operators above alone
    except (ZeroDivisionError, OverflowError):
        expected = None
    try:
        value = parse_expression(text).value(VALUES)
    except ExpressionError:
        too_large = isinstance(expected, int) and expected.bit_length() > 40  # or a part of it was
        is_finite = isinstance(expected, int | float) and math.isfinite(expected)
        assert not is_finite or too_large or "**" in text or "*" in text
    else:
        assert value == expected


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("N()+-*/%., 0123456789e_", max_size=60))
def test_any_text_is_an_expression_or_an_error(text):
    try:
        expression = parse_expression(text)
        expression.value(dict.fromkeys(expression.names, 3))
    except ExpressionError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=", "expected a number"),
        ("= N +", "expected a number"),
        ("= (N", r"expected \)"),
        ("= N)", r"unexpected '\)'"),
        ("= N N", "unexpected 'N'"),
        ("= sqrt(N)", "no function sqrt; there are min, max, round, int"),
        ("= round(N, 2)", "takes 1 number, not 2"),
        ("= N; 1", "column 4: unexpected ';'"),
        ("= 'a'", "unexpected"),
        ("= __import__('os').system('x')", "unexpected"),
        ("= eval(N)", "no function eval"),
        ("= [1][0]", "unexpected"),
        ("= " + "9" * 30, "too many digits"),
        ("= " + "(" * 60 + "1" + ")" * 60, "nested"),
        ("= " + "-" * 60 + "1", "nested"),
        ("= " + "2 ** " * 60 + "1", "nested"),
        ("= " + "1 + " * 200, "500 characters"),
    ],
)
def test_errors_name_the_place(text, words):
    with pytest.raises(ExpressionError, match=words):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("= 1 / (N - 6)", "division by zero"),
        ("= 0 ** -1", "division by zero"),
        ("= 9 ** 9 ** 9", "too large"),
        ("= 10 ** 18 * 10", "too large"),
        ("= 1e308 * 10", "not finite|too large"),
        ("= 10. ** 400", "too large"),
        ("= (-8) ** 0.5", "no such power"),
    ],
)
def test_values_that_do_not_exist_are_errors(text, words):
    with pytest.raises(ExpressionError, match=words):
        parse_expression(text).value(VALUES)
