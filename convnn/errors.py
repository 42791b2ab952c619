"""Errors that a user can fix: problems that name the option, the value and the fix, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DIVERGED = 3
    MEMORY = 4
    DATA = 5
    NO_RUN = 6
    HELD = 7
    STORAGE = 8
    TIME_LIMIT = 75
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where, with which value, and how to fix it."""

    message: str  # e.g. "layer.K is 0: must be at least 1"
    key: str | None = None  # option of the schema, e.g. "layer.K"
    value: Any = None
    file: str | None = None
    fix: str | None = None  # how, in words, with flags: `config.fixes` says it for other places
    change: Mapping[str, Any] | None = None  # the fix as values by option key, which the form can apply

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return where + self.message + (f"\n  fix: {self.fix}" if self.fix else "")

    def json(self) -> dict[str, Any]:
        """Return the problem as `--json` writes it."""
        return {"file": self.file, "key": self.key, "value": self.value, "message": self.message, "fix": self.fix}


class UserError(Exception):
    """An error that the user can fix: all its problems are shown without a traceback, and the exit code is `code`.

    The other arguments are those of the `Problem` whose message is given as text.
    """

    def __init__(
        self,
        problems: str | Problem | Iterable[Problem],
        code: Exit = Exit.USAGE,
        *,
        key: str | None = None,
        value: Any = None,
        file: str | None = None,
        fix: str | None = None,
        change: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(problems, str):
            problems = Problem(problems, key, value, file, fix, change)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.code = code
        super().__init__("\n".join(str(problem) for problem in self.problems))


@contextmanager
def naming_flag(flag: str) -> Iterator[None]:
    """Have what is refused of a flag's value in this block begin with the flag."""
    try:
        yield
    except UserError as error:
        problems = [replace(problem, message=f"{flag}: {problem.message}") for problem in error.problems]
        raise UserError(problems, error.code) from error


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word most similar to `word`, ignoring case; None where none reaches the cutoff of 0 to 1."""
    by_lower_case = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower()[:200], by_lower_case, n=1, cutoff=cutoff)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word as the end of a message: ". Did you mean X?", or nothing."""
    guess = nearest(word, known)
    return f". Did you mean {guess}?" if guess else ""
