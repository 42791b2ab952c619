"""The nearest known word to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, case aside; None when none is alike."""
    lowered = {item.lower(): item for item in known}
    close = get_close_matches(word.lower()[:200], lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The guess as the end of a message: ". Did you mean X?", or nothing."""
    guess = nearest(word, known)
    return f". Did you mean {guess}?" if guess else ""
