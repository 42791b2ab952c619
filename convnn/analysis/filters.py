"""The filter language of lists: `layer=Branching K>=9 best>80 status=done,failed name~br05 has:attention_dropout`.

A space is AND, a comma one-of; OR, NOT and parentheses as usual, in either case. `=` `!=` `<` `<=` `>` `>=` compare,
`~` `!~` look for a part, case aside; has:X means that X has an effect (an option) or was measured (a metric). A bare
word is part of a name. A figure equals what a table shows of it, a time every time that begins so. What a run does not
tell is equal to nothing, and neither less nor greater.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from convnn.analysis import fields
from convnn.analysis.fields import RUN_FIELDS, Field
from convnn.config.options import BY_KEY, BY_NAME, FALSE, TRUE
from convnn.config.recorded import UNKNOWN
from convnn.errors import Problem, UserError, did_you_mean
from convnn.runs.status import GLYPHS
from convnn.runs.summary import Summary
from convnn.text import escaped

Predicate = Callable[[Summary], bool]
LONGEST, DEEPEST = 2000, 50
ALLOWED = {
    "number": "a number",
    "age": "a time such as 12h or 30d",
    "size": "a size such as 300MB or 2GB",
    "bool": "true or false",
    "time": "a time such as 2026-11-22 or '2026-11-22 15:00'",
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<op>!=|!~|>=|<=|==?|>|<|~)|(?P<mark>[(),])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s()=<>!~"',]+))"""
)
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class _Token(NamedTuple):
    kind: str  # "op", "mark", "word", "quoted" or "end"
    text: str
    at: int  # column, from 1


@dataclass(frozen=True)
class Filter:
    """A filter that was understood."""

    text: str
    test: Predicate

    def select(self, runs: Iterable[Summary]) -> list[Summary]:
        """The runs it lets through, in their order."""
        return [run for run in runs if self.test(run)]


def parse_filter(text: str, runs: Sequence[Summary] = ()) -> Filter:
    """A filter from its text; `runs` say what metrics and values there are beside the schema's.

    Raises UserError with the column, what was expected and the nearest known word.
    """
    if len(text) > LONGEST:
        raise UserError(f"a filter has at most {LONGEST} characters")
    parser = _Parser(text, runs)
    return Filter(text, parser.whole())


class _Parser:
    """One text, read from left to right."""

    def __init__(self, text: str, runs: Sequence[Summary]) -> None:
        self.text, self.runs = text, runs
        self.metrics = fields.metric_names(runs)
        self.tokens = list(self._tokens())
        self.at = 0
        self.depth = 0

    def _tokens(self) -> Iterable[_Token]:
        at, text = 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                column = at + 1 + len(text[at:]) - len(text[at:].lstrip())
                self._refuse(f"{escaped(text[column - 1 : column])} begins nothing, or a quote is left open", column)
            kind = match.lastgroup or ""
            yield _Token("quoted" if kind in ("double", "single") else kind, match[kind], match.start(kind) + 1)
            at = match.end()
        yield _Token("end", "", len(text) + 1)

    def _refuse(self, message: str, column: int, fix: str | None = None) -> NoReturn:
        fix = fix or "for example: layer=Branching K>=9 best>80 status=done,failed has:attention_dropout"
        raise UserError(Problem(f"filter, column {column}: {message}", key="filter", value=self.text, fix=fix))

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.next
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def _is(self, *texts: str) -> bool:
        return self.next.kind in ("mark", "op", "word") and self.next.text.upper() in texts

    def whole(self) -> Predicate:
        if self.next.kind == "end":
            return lambda run: True
        test = self.either()
        if self.next.kind != "end":
            self._refuse(f"{self.next.text!r} is too much here", self.next.at)
        return test

    def either(self) -> Predicate:
        tests = [self.every()]
        while self._is("OR"):
            self.take()
            tests.append(self.every())
        return tests[0] if len(tests) == 1 else lambda run: any(test(run) for test in tests)

    def every(self) -> Predicate:
        tests = [self.one()]
        while self.next.kind != "end" and not self._is("OR", ")"):
            if self._is("AND"):
                self.take()
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda run: all(test(run) for test in tests)

    def one(self) -> Predicate:
        self.depth += 1
        if self.depth > DEEPEST:
            self._refuse(f"nested more than {DEEPEST} deep", self.next.at)
        try:
            return self._one()
        finally:
            self.depth -= 1

    def _one(self) -> Predicate:
        token = self.take()
        if token.kind == "word" and token.text.upper() == "NOT":
            inner = self.one()
            return lambda run: not inner(run)
        if token.kind == "mark" and token.text == "(":
            inner = self.either()
            if not self._is(")"):
                self._refuse(f"the parenthesis of column {token.at} is left open", self.next.at)
            self.take()
            return inner
        if token.kind not in ("word", "quoted") or (token.kind == "word" and token.text.upper() in ("AND", "OR")):
            self._refuse(f"a condition is missing before {escaped(token.text) or 'the end'!r}", token.at)
        if token.kind == "word" and token.text.startswith("has:"):
            return self._has(token)
        if self.next.kind == "op":
            return self._comparison(token, self.take())
        return self._bare(token)

    def _bare(self, token: _Token) -> Predicate:
        if token.kind == "word" and (token.text in RUN_FIELDS or token.text in BY_NAME or token.text in BY_KEY):
            self._refuse(f"{token.text} needs a comparison", token.at, f"write {token.text}=..., or has:{token.text}")
        if not re.search(r"\w", token.text):
            self._refuse(f"{escaped(token.text)!r} means nothing here: a space is AND, OR is a word", token.at)
        part = token.text.lower()
        return lambda run: part in run.name.lower()

    def _field(self, key: str, column: int) -> Field:
        try:
            return fields.get_field(key, self.metrics)
        except UserError as error:
            self._refuse(error.problems[0].message, column, error.problems[0].fix)

    def _has(self, token: _Token) -> Predicate:
        names = [token.text.removeprefix("has:")]
        if not names[0]:
            self._refuse("has: needs a key behind it", token.at, "write has:lambda_param, for example")
        while self._is(","):
            self.take()
            names.append(self.take().text)
        tests = [self._has_one(name, token.at) for name in names]
        return lambda run: any(test(run) for test in tests)

    def _has_one(self, name: str, column: int) -> Predicate:
        field = self._field(name, column)
        if field.option_key is not None:
            key = field.option_key
            return lambda run: key not in run.config.inactive and run.config.value(key) is not UNKNOWN
        return lambda run: field.get(run) is not UNKNOWN

    def _comparison(self, key: _Token, op: _Token) -> Predicate:
        field = self._field(key.text, key.at)
        words = [self._word(key, op)]
        while self._is(","):
            self.take()
            words.append(self._word(key, op))
        if op.text in _ORDERED:
            return self._ordered(field, op, words)
        if op.text in ("~", "!~"):
            parts = [word.text.lower() for word in words]
            return _negated(op.text == "!~", lambda run: any(part in field.text(run).lower() for part in parts))
        wanted = [self._value(field, word) for word in words]
        if field.kind == "time":
            return _negated(op.text == "!=", lambda run: any(_moment(field, run, one) == one for one in wanted))
        shown = {word.text for word in words if word.text and field.option_key is None}
        return _negated(op.text == "!=", lambda run: _among(field.get(run), wanted) or field.text(run) in shown)

    def _word(self, key: _Token, op: _Token) -> _Token:
        word = self.take()
        if word.kind not in ("word", "quoted"):
            self._refuse(f"a value is missing after {escaped(key.text)}{op.text}", word.at)
        return word

    def _ordered(self, field: Field, op: _Token, words: list[_Token]) -> Predicate:
        if len(words) > 1:
            self._refuse(f"{op.text} takes one value, not a list", words[1].at)
        if field.kind not in ("number", "age", "time", "size"):
            self._refuse(f"{field.key} has no order: use = or ~", op.at, f"write {field.key}={escaped(words[0].text)}")
        bound, compare = self._value(field, words[0]), _ORDERED[op.text]
        if bound is None:
            self._refuse(f"{field.key} can be none, but not more or less than it", words[0].at)
        comparable = str if field.kind == "time" else (int, float)

        def test(run: Summary) -> bool:
            value = _moment(field, run, bound) if field.kind == "time" else field.get(run)
            return isinstance(value, comparable) and compare(value, bound)

        return test

    def _value(self, field: Field, word: _Token) -> Any:
        """What a word means as a value of the field. Refuses what no value of it can be."""
        text = word.text
        with contextlib.suppress(ValueError):
            return _value(field, text)
        allowed = ALLOWED.get(field.kind)
        seen = {str(field.get(run)) for run in self.runs} - {str(UNKNOWN)} if allowed is None else set()
        if text in seen:  # what an imported run says, though our schema has no such value
            return text
        known = [*(BY_KEY[field.option_key].choices if field.option_key else GLYPHS), *sorted(seen)]
        message = f"{field.key} is never {escaped(text)}{did_you_mean(text, known) if allowed is None else ''}"
        return self._refuse(message, word.at, f"give {escaped(allowed or 'one of ' + ', '.join(dict.fromkeys(known)))}")


def _value(field: Field, text: str) -> Any:
    """Raises ValueError where the text is no value, or none of the known ones."""
    if field.kind == "age":
        return fields.duration(text)
    if field.kind == "size":
        return fields.size(text)
    if field.kind == "time":
        if not re.fullmatch(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?", text):
            raise ValueError(text)
        return text.replace(" ", "T")
    if field.kind == "bool":
        if text.lower() not in TRUE + FALSE:
            raise ValueError(text)
        return text.lower() in TRUE
    option = BY_KEY.get(field.option_key or "")
    if option is not None and option.optional and text == "none":
        return None
    if field.kind == "number":
        return float(text)
    known = option.choices if option else tuple(GLYPHS) if field.kind == "status" else ()
    if known and text not in known:
        raise ValueError(text)
    return text


def _moment(field: Field, run: Summary, bound: str) -> Any:
    """When something happened, in local time, to the digits of `bound`: a day is compared with days."""
    value = field.get(run)
    return value if value is UNKNOWN else fields.local(value)[: len(bound)]


def _negated(negative: bool, test: Predicate) -> Predicate:
    return (lambda run: not test(run)) if negative else test


def _among(value: Any, wanted: list[Any]) -> bool:
    if isinstance(value, tuple):  # tags
        return any(item in value for item in wanted)
    if isinstance(value, float):
        return any(isinstance(item, float) and math.isclose(value, item, rel_tol=1e-9) for item in wanted)
    return value in wanted
