"""The flags of the schema as parameters of a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from convnn.cli.arguments import CONFIG_PARAMETER, completion
from convnn.config.options import Option, effect_words
from convnn.config.schema import RunConfig

WIDEST_CHOICES = 24  # columns: longer lists of choices are part of the help text


def with_config_flags(command: Callable[..., Any], options: Sequence[Option]) -> Callable[..., Any]:
    """Give a command a flag for each of these options; `typed` gets the typed ones, as words by key."""

    @functools.wraps(command)
    def with_flags(**values: Any) -> Any:
        flags = {option.key: values.pop(_parameter(option)) for option in options}
        typed = {key: _word(value) for key, value in flags.items() if value is not None and value != []}
        return command(**values, **{CONFIG_PARAMETER: typed})

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != CONFIG_PARAMETER]
    flags = [
        inspect.Parameter(_parameter(o), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(o))
        for o in options
    ]
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *flags]
    with_flags.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_flags


def _parameter(option: Option) -> str:
    return f"{option.section}_{option.field}".lower()


def _word(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


def _annotation(option: Option) -> Any:
    help, metavar = option.help, option.kind.upper()
    if option.kind == "text":
        metavar = option.field.upper()
    elif option.kind == "words":
        metavar = "WORD"
    elif option.choices:
        metavar = "|".join(option.choices)
    if len(metavar) > WIDEST_CHOICES:
        help, metavar = f"{help}: {', '.join(option.choices)}", "NAME"
    if condition := effect_words(option):
        help += f" ({condition})"
    shared: dict[str, Any] = {
        "help": escape(f"{help} [default: {option.text(option.default) or 'none'}]"),
        "rich_help_panel": f"{option.section}: {_section_help(option.section)}",
    }
    if option.kind == "bool":
        return Annotated[bool | None, typer.Option(f"{option.flag}/{option.off_flag}", **shared)]
    if option.choices:
        shared["autocompletion"] = completion(option.choices)
    kind = list[str] if option.kind == "words" else str
    return Annotated[kind | None, typer.Option(option.flag, metavar=metavar, **shared)]


def _section_help(section: str) -> str:
    documentation = (RunConfig.model_fields[section].annotation.__doc__ or "").strip()
    return documentation[:1].lower() + documentation[1:].rstrip(".")
