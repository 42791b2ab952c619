"""The flags of the schema as parameters of a command, and the words people type made into those flags."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from convnn.config.options import OPTIONS, Option, effect_words
from convnn.config.schema import RunConfig

# what the parameter that collects the flags is called in a command that takes them
COLLECTED = "typed"


def takes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for every option of the schema; `typed` gets those a person typed, as words by key."""

    @functools.wraps(command)
    def with_options(**given: Any) -> Any:
        words = {option.key: given.pop(_parameter(option)) for option in OPTIONS}
        typed = {key: word for key, word in words.items() if word is not None and word != []}
        return command(**given, **{COLLECTED: {key: _word(word) for key, word in typed.items()}})

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != COLLECTED]
    flags = [
        inspect.Parameter(_parameter(o), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(o))
        for o in OPTIONS
    ]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_options.__signature__ = signature.replace(parameters=[*keyword, *flags])  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in [*keyword, *flags]}
    return with_options


def _parameter(option: Option) -> str:
    return f"{option.section}_{option.field}".lower()


def _word(given: Any) -> Any:
    return " ".join(given) if isinstance(given, list) else given


def _annotation(option: Option) -> Any:
    note = effect_words(option)
    text = option.help + (f" ({note})" if note else "") + f" [default: {option.text(option.default) or 'none'}]"
    panel = f"{option.section}: {_section_help(option.section)}"
    shared: dict[str, Any] = {
        "help": text.replace("[", "\\["),  # rich would take brackets for markup
        "rich_help_panel": panel,
        "show_default": False,
    }
    if option.kind == "bool":
        return Annotated[bool | None, typer.Option(f"{option.flag}/{option.off_flag}", **shared)]
    metavar = "|".join(option.choices) if option.choices else option.kind.upper()
    shared |= {"metavar": metavar}
    if option.choices:
        shared |= {"autocompletion": _completion(option.choices)}
    kind = list[str] if option.kind == "words" else str
    return Annotated[kind | None, typer.Option(option.flag, **shared)]


def _section_help(section: str) -> str:
    documentation = (RunConfig.model_fields[section].annotation.__doc__ or "").strip()
    return documentation[:1].lower() + documentation[1:].rstrip(".")


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
