"""The fix of a problem in the language of the place where its value stands: a flag, a TOML file, or the form.

A fix is written with flags, "use --lr 0.001, or --optimizer sgd"; the functions here say the same for another place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from convnn.config.options import BY_FLAG, Option
from convnn.errors import Problem

# a flag, with "use" before it if that is there, and the word after it, which may be its value
_FLAG = re.compile(r"(?P<use>\buse )?(?<![\w-])(?P<flag>--[A-Za-z_]+)(?: (?P<word>'[^']*'|[^\s,;()]+))?")
_NO_VALUES = ("or", "and", "to", "with", "in", "on", "for", "the", "a", "is")


def in_file(problem: Problem, file: str | None) -> Problem:
    """Return a problem located in a TOML file, its fix as keys of that file; without a file the problem as it is."""
    if file is None:
        return problem
    fix = problem.fix and _translated(problem.fix, _toml_key, _toml_assignment, "write")
    return replace(problem, file=file, fix=fix)


def in_sweep(problem: Problem, file: str) -> Problem:
    """Return a problem located in a sweep file, its fix as keys of that file; one that has a file as it is."""
    if problem.file is not None:
        return problem
    fix = problem.fix and _translated(
        problem.fix,
        lambda option: option.key,
        lambda option, value: f"{option.key} = {_toml_value(option, value)}",
        "write",
    )
    return replace(problem, file=file, fix=fix)


def form_fix(problem: Problem) -> str | None:
    """Return the fix of a problem as fields of the form; as it is where the problem is in a file."""
    if not problem.fix or problem.file:
        return problem.fix
    return _translated(problem.fix, lambda option: option.name, lambda option, value: f"{option.name} {value}", "use")


def _translated(fix: str, key: Callable[[Option], str], assignment: Callable[[Option, str], str], verb: str) -> str:
    def clause(match: re.Match[str]) -> str:
        option = BY_FLAG.get(match["flag"])
        if option is None:
            return match[0]
        use, word, rest = match["use"] or "", match["word"], ""
        if word:
            rest = f" {word}"
        if option.kind == "bool":
            value = "true" if match["flag"] == option.flag else "false"
        elif word is not None and _is_value(option, word):
            value, rest = word.strip("'"), ""
        else:
            return f"{use}{key(option)}{rest}"
        return f"{use and verb + ' '}{assignment(option, value)}{rest}"

    return _FLAG.sub(clause, fix)


def _is_value(option: Option, word: str) -> bool:
    """Return whether the word after a flag is its value, not the next word of the sentence."""
    if word in _NO_VALUES:
        return False
    word = word.strip("'")
    try:
        value = option.parse(word)
    except ValueError:
        return False
    return not option.choices or value is None or value in option.choices


def _toml_key(option: Option) -> str:
    return f"{option.field} in [{option.section}]"


def _toml_assignment(option: Option, value: str) -> str:
    return f"{option.field} = {_toml_value(option, value)} in [{option.section}]"


def _toml_value(option: Option, value: str) -> str:
    if option.kind in ("bool", "int", "float") and value.lower() != "none":
        return value
    if option.kind == "words":
        return f'["{value}"]'
    return f'"{value}"'
