"""The filter language of runs: `layer=Branching K>=9 best>80 status=done,failed name~br05 has:attention_dropout`.

    filter    = [ any ]
    any       = all { "OR" all }
    all       = condition { [ "AND" ] condition }
    condition = "NOT" condition
              | "(" any ")"
              | "has:" key { "," key }
              | key operator value { "," value }
              | value                                              a part of the run's name
    operator  = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    key       = value                                              of `fields`: K, layer.K, best:test_top1, status
    value     = word | "'" text "'" | '"' text '"'

NOT binds more strongly than AND, AND more strongly than OR; the words are recognized in either case; a space is AND. A
comma means "one of": `K=9,12` is true for either, `K!=9,12` for neither. `<` `<=` `>` `>=` take a single value.

`=` compares with the value, and a metric also with its rounded text as tables show it. A time equals every time that
begins with it: `started=2026-11` is the whole month. `~` looks for a part of the text, ignoring case. `has:X` is true
where the option X has an effect, or the metric X was recorded.

A value that a run did not record equals nothing and has no order: `K=9` and `K<9` are false, and so `K!=9` is true.

To add an operator, add it to the token pattern and to `_Parser._comparison`; to add a kind of value, add it to
`fields.Kind` and to `_parse_value`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, Protocol

from convnn.analysis.fields import RUN_FIELDS, Field, get_field, local_time, metric_names, parse_duration, parse_size
from convnn.config.options import BY_KEY, BY_NAME, FALSE, TRUE
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError, did_you_mean
from convnn.runs.summary import Summary

MAX_LENGTH, MAX_DEPTH = 2000, 50
EXAMPLE = "for example: layer=Branching K>=9 best>80 status=done,failed has:attention_dropout"
EXPECTED = {  # by kind of field
    "number": "a number",
    "age": "a time span such as 12h or 30d",
    "size": "a size such as 300MiB or 2GB",
    "bool": "true or false",
    "time": "a time such as 2026-11-22 or '2026-11-22 15:00'",
}
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def parse_filter(
    text: str, runs: Sequence[Summary] = (), *, find_field: Callable[[str], Field] | None = None
) -> Filter:
    """Return the filter that a text stands for.

    Args:
        text: see the grammar above; an empty one selects every run
        runs: their metrics are known beside those of the program, and their values beside the schema's choices
        find_field: returns the field of a key, in place of those that runs have; a word alone is then no name of a run

    Raises:
        UserError: with the column, what was expected there, and the nearest known field or value
    """
    if len(text) > MAX_LENGTH:
        raise UserError(f"a filter has at most {MAX_LENGTH} characters, this one {len(text)}", key="filter")
    return Filter(text, _Parser(text, runs, find_field).parse())


@dataclass(frozen=True)
class Filter:
    """A parsed filter."""

    text: str
    condition: Condition

    def select(self, runs: Iterable[Summary]) -> list[Summary]:
        """Return the runs that match, in their order."""
        return [run for run in runs if self.condition.matches(run)]


# -- conditions ----------------------------------------------------------------------------------------------------


class Condition(Protocol):
    """A node of a parsed filter."""

    def matches(self, run: Summary) -> bool: ...


@dataclass(frozen=True)
class AllOf:
    conditions: Sequence[Condition]

    def matches(self, run: Summary) -> bool:
        return all(condition.matches(run) for condition in self.conditions)


@dataclass(frozen=True)
class AnyOf:
    conditions: Sequence[Condition]

    def matches(self, run: Summary) -> bool:
        return any(condition.matches(run) for condition in self.conditions)


@dataclass(frozen=True)
class Not:
    condition: Condition

    def matches(self, run: Summary) -> bool:
        return not self.condition.matches(run)


@dataclass(frozen=True)
class Contains:
    """The text of a field holds one of the parts, ignoring case."""

    field: Field
    parts: Sequence[str]  # in lower case

    def matches(self, run: Summary) -> bool:
        text = self.field.text(run).lower()
        return any(part in text for part in self.parts)


@dataclass(frozen=True)
class HasValue:
    """An option has an effect and was recorded, or another field was recorded."""

    field: Field

    def matches(self, run: Summary) -> bool:
        value = self.field.effective(run)
        return value is not UNKNOWN and value != ()  # such as tags


@dataclass(frozen=True)
class Equals:
    """A field has one of the values, or is shown as one of the texts."""

    field: Field
    values: Sequence[Any]
    texts: frozenset[str]

    def matches(self, run: Summary) -> bool:
        value = self.field.get(run)
        if isinstance(value, tuple):  # tags
            return any(item in value for item in self.values)
        if isinstance(value, float):
            numbers = (item for item in self.values if isinstance(item, float))
            is_equal = any(math.isclose(value, number, rel_tol=1e-9) for number in numbers)
        else:
            is_equal = value in self.values
        return is_equal or self.field.text(run) in self.texts


@dataclass(frozen=True)
class WithinTime:
    """A time begins with one of the prefixes: a day matches all its hours."""

    field: Field
    prefixes: Sequence[str]

    def matches(self, run: Summary) -> bool:
        value = self.field.get(run)
        return value is not UNKNOWN and local_time(value).startswith(tuple(self.prefixes))


@dataclass(frozen=True)
class InOrder:
    """A field is less or greater than a bound; a time is compared to the digits of the bound."""

    field: Field
    compare: Callable[[Any, Any], bool]
    bound: Any

    def matches(self, run: Summary) -> bool:
        value = self.field.get(run)
        if value is UNKNOWN or value is None:
            return False
        if self.field.kind == "time":
            value = local_time(value)[: len(self.bound)]
        elif not isinstance(value, int | float):  # of an imported run
            return False
        return self.compare(value, self.bound)


def _join(operator: type[AllOf] | type[AnyOf], conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    return operator(conditions)


# -- values ----------------------------------------------------------------------------------------------------


def _parse_value(field: Field, text: str) -> Any:
    """Return the value that a word stands for. Raises ValueError where the field cannot have it."""
    if field.option is not None and field.option.optional and text == "none":
        return None
    if field.kind == "text" and not field.choices:
        return text
    match field.kind:
        case "number":
            return float(text)
        case "age":
            return parse_duration(text)
        case "size":
            return parse_size(text)
        case "time":
            return _parse_time(text)
        case "bool":
            return _parse_bool(text)
    if field.choices and text not in field.choices:
        raise ValueError(text)
    return text


def _parse_time(text: str) -> str:
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?", text):
        raise ValueError(text)
    return text.replace(" ", "T")


def _parse_bool(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError(text)
    return text.lower() in TRUE


# -- parsing ----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator>!=|!~|>=|<=|==?|>|<|~)
      | (?P<punctuation>[(),])
      | (?P<quote>["'])(?P<quoted>.*?)(?P=quote)
      | (?P<word>[^\s()=<>!~"',]+)
    )""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of the text; that of a quoted value is without its quotes."""

    kind: Literal["operator", "punctuation", "quoted", "word", "end"]
    text: str
    column: int  # from 1

    def is_keyword(self, *keywords: str) -> bool:
        return self.kind == "word" and self.text.upper() in keywords

    def is_mark(self, mark: str) -> bool:
        return self.kind == "punctuation" and self.text == mark


class _Parser:
    """Parses one text by recursive descent: a method for each rule of the grammar."""

    def __init__(self, text: str, runs: Sequence[Summary], find_field: Callable[[str], Field] | None) -> None:
        self.text, self.runs = text, runs
        self.finds_runs = find_field is None
        self.find_field = find_field or partial(get_field, metrics=metric_names(runs))
        self.tokens = list(self._tokenize())
        self.index = 0
        self.depth = 0

    def parse(self) -> Condition:
        """filter = [ any ]"""
        if self.next.kind == "end":
            return AllOf(())
        condition = self._any()
        if self.next.kind != "end":
            self._fail(f"unexpected {self.next.text!r}", self.next.column)
        return condition

    def _any(self) -> Condition:
        """any = all { "OR" all }"""
        conditions = [self._all()]
        while self.next.is_keyword("OR"):
            self._take()
            conditions.append(self._all())
        return _join(AnyOf, conditions)

    def _all(self) -> Condition:
        """all = condition { [ "AND" ] condition }"""
        conditions = [self._condition()]
        while self.next.kind != "end" and not self.next.is_keyword("OR") and not self.next.is_mark(")"):
            if self.next.is_keyword("AND"):
                self._take()
            conditions.append(self._condition())
        return _join(AllOf, conditions)

    def _condition(self) -> Condition:
        """condition = "NOT" condition | "(" any ")" | "has:" ... | key operator ... | value"""
        token = self._take()
        if token.is_keyword("NOT"):
            return Not(self._nested(self._condition, token))
        if token.is_mark("("):
            condition = self._nested(self._any, token)
            if not self.next.is_mark(")"):
                self._fail(f"the parenthesis at column {token.column} is not closed", self.next.column)
            self._take()
            return condition
        if token.kind not in ("word", "quoted") or token.is_keyword("AND", "OR"):
            place = "at the end" if token.kind == "end" else f"before {token.text!r}"
            self._fail(f"expected a condition {place}", token.column)
        if token.kind == "word" and token.text.startswith("has:"):
            return self._has(token)
        if self.next.kind == "operator":
            return self._comparison(token, self._take())
        return self._name_part(token)

    def _nested(self, rule: Callable[[], Condition], token: Token) -> Condition:
        self.depth += 1
        if self.depth >= MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep", token.column)
        condition = rule()
        self.depth -= 1
        return condition

    def _has(self, token: Token) -> Condition:
        """ "has:" key { "," key }"""
        first = token.text.removeprefix("has:")
        if not first:
            self._fail("has: needs a key behind it", token.column, "write has:lambda_param, for example")
        keys = [first, *(value.text for value in self._more_values("has:"))]
        return AnyOf([HasValue(self._field(key, token.column)) for key in keys])

    def _comparison(self, key: Token, token: Token) -> Condition:
        """Key operator value { "," value }"""
        field = self._field(key.text, key.column)
        subject = key.text + token.text
        values = [self._value_token(subject), *self._more_values(subject)]
        if token.text in ORDERS:
            return self._ordering(field, token, values)
        if token.text in ("~", "!~"):
            condition: Condition = Contains(field, [value.text.lower() for value in values])
        elif field.kind == "time":
            condition = WithinTime(field, [self._value(field, value) for value in values])
        else:
            texts = () if field.option else (value.text for value in values if value.text)
            condition = Equals(field, [self._value(field, value) for value in values], frozenset(texts))
        if token.text.startswith("!"):
            return Not(condition)
        return condition

    def _ordering(self, field: Field, token: Token, values: Sequence[Token]) -> Condition:
        if len(values) > 1:
            self._fail(f"{token.text} takes one value, not a list", values[1].column)
        if field.kind not in ("number", "age", "time", "size"):
            fix = f"write {field.key}={values[0].text}"
            self._fail(f"{field.key} has no order: use = or ~", token.column, fix)
        bound = self._value(field, values[0])
        if bound is None:
            self._fail(f"none has no order: use {field.key}=none or {field.key}!=none", values[0].column)
        return InOrder(field, ORDERS[token.text], bound)

    def _name_part(self, token: Token) -> Condition:
        is_key = token.text in RUN_FIELDS or token.text in BY_NAME or token.text in BY_KEY
        if not self.finds_runs or (token.kind == "word" and is_key):
            fix = f"write {token.text}=..., or has:{token.text}"
            self._fail(f"{token.text} needs an operator and a value", token.column, fix)
        if not re.search(r"\w", token.text):
            fix = "a space means AND; write OR for or, NOT for not"
            self._fail(f"unexpected {token.text!r}", token.column, fix)
        return Contains(RUN_FIELDS["name"], [token.text.lower()])

    def _more_values(self, subject: str) -> Iterator[Token]:
        """{ "," value }"""
        while self.next.is_mark(","):
            self._take()
            yield self._value_token(subject)

    def _value_token(self, subject: str) -> Token:
        token = self._take()
        if token.kind not in ("word", "quoted"):
            self._fail(f"expected a value after {subject}", token.column)
        return token

    def _field(self, key: str, column: int) -> Field:
        try:
            return self.find_field(key)
        except UserError as error:
            problem = error.problems[0]
            self._fail(problem.message, column, problem.fix)

    def _value(self, field: Field, token: Token) -> Any:
        try:
            return _parse_value(field, token.text)
        except ValueError:
            pass
        message = f"{field.key} cannot be {token.text}"
        if expected := EXPECTED.get(field.kind):
            self._fail(message, token.column, f"give {expected}")
        recorded = {str(field.get(run)) for run in self.runs} - {str(UNKNOWN)}
        if token.text in recorded:  # of an imported run, though the schema has no such value
            return token.text
        known = list(dict.fromkeys([*field.choices, *sorted(recorded)]))
        return self._fail(message + did_you_mean(token.text, known), token.column, f"give one of {', '.join(known)}")

    # -- tokens ------------------------------------------------------------------------------------------------

    def _tokenize(self) -> Iterator[Token]:
        position, text = 0, self.text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].lstrip()
                column = len(text) - len(rest) + 1
                if rest[0] in "\"'":
                    self._fail("the quote is not closed", column)
                self._fail(f"unexpected {rest[0]!r}", column)
            kind: Any = match.lastgroup
            yield Token(kind, match[kind], match.start(kind) + 1)
            position = match.end()
        yield Token("end", "", len(text) + 1)

    @property
    def next(self) -> Token:
        return self.tokens[self.index]

    def _take(self) -> Token:
        token = self.next
        self.index = min(self.index + 1, len(self.tokens) - 1)
        return token

    def _fail(self, message: str, column: int, fix: str | None = None) -> NoReturn:
        raise UserError(f"filter, column {column}: {message}", key="filter", value=self.text, fix=fix or EXAMPLE)
