"""One word to a run that trains, from any process: the file `control` in its directory."""

from __future__ import annotations

import difflib
from pathlib import Path

from convnn.errors import Problem, UserError
from convnn.files import opened, write_atomic
from convnn.runs.lock import held
from convnn.text import escaped

NAME = "control"
WORDS = ("pause", "resume", "checkpoint", "stop-epoch", "stop")


def ask(directory: Path, word: str) -> None:
    """Leave `word` for the run in `directory`, in place of one not yet read. Raises UserError if nobody reads it."""
    if word not in WORDS:
        near = difflib.get_close_matches(word, WORDS, 1)
        guess = f"did you mean {near[0]}?" if near else f"the words are {', '.join(WORDS)}"
        raise UserError(Problem(f"a run does not know the word {word!r}", value=word, fix=guess))
    if not held(directory):
        raise UserError(f"{escaped(directory.name)} is not running")
    write_atomic(directory / NAME, word + "\n")


def take(directory: Path) -> str | None:
    """The word left for the run, removed; None without one. A word not in WORDS comes back escaped, to be warned of."""
    path, taken = directory / NAME, directory / f".{NAME}.taken"
    try:
        path.replace(taken)  # first out of the way: a word written while we read is kept for the next look
    except FileNotFoundError:
        return None
    with opened(taken) as file:
        word = file.read(40).decode("utf-8", "replace").strip()
    taken.unlink()
    return escaped(word)
