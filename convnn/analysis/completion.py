"""Completion of a filter: keys, and values that some run has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from convnn.analysis.fields import RUN_FIELDS, Field, get_field, metric_names
from convnn.config.options import BY_NAME
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.metrics import known_metric_names
from convnn.runs.summary import Summary

MAX_COMPLETIONS = 50
_CONDITION = re.compile(  # a key, an operator, values with commas between, and the beginning of the last value
    r"""([\w.:]+)(!=|!~|>=|<=|=|>|<|~)(?:[^\s"'()]*,)?([^\s"'(),]*)$"""
)
_NEEDS_QUOTES = re.compile(r"""[\s()=<>!~,'"]|^$""")


def keys(runs: Sequence[Summary]) -> list[str]:
    """Return the keys of all fields by their short names."""
    best = [f"best:{name}" for name in known_metric_names()]
    return list(dict.fromkeys([*RUN_FIELDS, *BY_NAME, *metric_names(runs), *best]))


def complete(text: str, runs: Sequence[Summary], limit: int = MAX_COMPLETIONS) -> list[str]:
    """Return whole filters that complete the last word of `text`: a key or, after an operator, a value.

    Values that runs have come first, the most frequent before the others, then the choices of an option. A value that
    nobody can type, with a control character, is left out.
    """
    if match := _CONDITION.search(text):
        key, _, start = match.groups()
        completions = {value: _quote(value) for value in _values(key, runs)}
    else:
        start = re.split(r"[\s(]", text)[-1]
        if start.startswith("has:"):
            start = start.removeprefix("has:")
            completions = {key: key for key in BY_NAME}
        else:
            completions = {key: f"{key}=" for key in keys(runs)}
    head = text[: len(text) - len(start)]
    matches = [word for word in completions if word.startswith(start) and word.isprintable()]
    return [head + completions[word] for word in matches[:limit]]


def _values(key: str, runs: Sequence[Summary]) -> list[str]:
    try:
        field = get_field(key, metric_names(runs))
    except UserError:
        return []
    counts = Counter(value for run in runs for value in _texts(field, run))
    return list(dict.fromkeys([value for value, _ in counts.most_common()] + list(field.choices)))


def _texts(field: Field, run: Summary) -> Sequence[str]:
    value = field.get(run)
    if value is UNKNOWN:
        return []
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, tuple):
        return value
    return [field.text(run)]


def _quote(value: str) -> str:
    if not _NEEDS_QUOTES.search(value):
        return value
    mark = "'" if '"' in value else '"'
    return f"{mark}{value}{mark}"
