"""What a shell is offered: only words that it takes for nothing but words, whoever named a run or wrote a value.

Names and values come from files that a stranger may have made; the script of zsh evaluates what it is given, and the
line of bash holds it as it is.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, PowerShellComplete, ZshComplete

# what needs no quotes in any shell: "~" and "=" do at the beginning of a word
PLAIN_WORD = re.compile(r"[A-Za-z0-9@._+:,/-][A-Za-z0-9@._+:,/=~-]{0,299}")
# the same and what filters have beside it, for a word that begins with quotes; "!" has a meaning in those of bash
QUOTED_WORD = re.compile(r"[A-Za-z0-9@._+:,/=~<>() -]{1,300}")


def is_offered(word: str, *, in_quotes: bool = False) -> bool:
    """Return whether a word may be offered, `in_quotes` where what was typed of it has begun with quotes."""
    return (QUOTED_WORD if in_quotes else PLAIN_WORD).fullmatch(word) is not None


def has_open_quotes(line: str) -> bool:
    try:
        shlex.split(line)
    except ValueError as error:
        return "quotation" in str(error)
    return False


class _PlainWords:
    """Mixin of a shell's completion that leaves out what would need quotes, and shows no traceback at a key press."""

    def typed_line(self) -> str:
        return os.environ.get("_TYPER_COMPLETE_ARGS", "")

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        try:
            items: list[CompletionItem] = super().get_completions(args, incomplete)  # type: ignore[misc]
        except Exception:  # damage in the folder of the runs, for one
            return []
        in_quotes = has_open_quotes(self.typed_line())
        return [item for item in items if is_offered(str(item.value), in_quotes=in_quotes)]


class _Bash(_PlainWords, BashComplete):
    """Completion of bash, which splits words at "=", ":" and "@", and replaces what follows the last "=" or ":"."""

    def typed_line(self) -> str:
        return self._words()[-1]

    def get_completion_args(self) -> tuple[list[str], str]:
        *args, incomplete = ["".join(_unquoted(word)) for word in self._words()]
        return args[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        typed = self._words()[-1]
        if has_open_quotes(typed):
            return str(item.value)
        replaced_from = max(typed.rfind(sign) for sign in "=:") + 1
        return str(item.value).removeprefix(typed[:replaced_from])

    def _words(self) -> list[str]:
        """Return the words up to the cursor as they were typed, the last one empty after a space."""
        pieces = os.environ["COMP_WORDS"].split("\n")
        position = int(os.environ["COMP_CWORD"])
        words: list[str] = []
        for piece in [*pieces[:position], "".join(pieces[position : position + 1])]:
            if len(words) > 1 and (piece in ("=", ":") or words[-1].endswith(("=", ":")) or words[-1] == "@"):
                words[-1] += piece
            else:
                words.append(piece)
        return words


def _unquoted(word: str) -> list[str]:
    try:
        return shlex.split(word)
    except ValueError:  # quotes that are still open
        return [word[1:] if word[:1] in ("'", '"') else word]


class _WholeWords(_PlainWords):
    """Mixin for shells that replace the whole word, also of `--layer=Br`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        name, equals, _ = incomplete.partition("=")
        start = ""
        if equals and name.startswith("-"):
            start = name + equals
        items = super().get_completions(args, incomplete)
        return [CompletionItem(f"{start}{item.value}", item.type, item.help) for item in items]


class _Zsh(_WholeWords, ZshComplete):
    pass


class _Fish(_WholeWords, FishComplete):
    pass


class _PowerShell(_PlainWords, PowerShellComplete):
    pass


def register() -> None:
    """Take the place of Typer's completions."""
    classes: dict[str, Any] = {
        "bash": _Bash,
        "zsh": _Zsh,
        "fish": _Fish,
        "powershell": _PowerShell,
        "pwsh": _PowerShell,
    }
    for shell, completion in classes.items():
        add_completion_class(completion, shell)
