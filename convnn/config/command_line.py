"""A `convnn run` command as text: read into settings, and written from a configuration.

The original tool's `python main.py ...` is read alike: its flags have the same names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from convnn.config.options import BY_FLAG, OPTIONS, value_at
from convnn.config.schema import RunConfig

SWITCHES = ("--dry_run", "--plain", "--live", "--json", "--debug", "--overwrite", "--resume")
WITH_VALUE = ("--max_minutes", "--run", "--checkpoint", "--runs")  # of the command, never of a configuration


@dataclass
class Parsed:
    """What a command says: a preset's name, values by key as they were typed, and what was not understood."""

    preset: str | None = None
    typed: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)  # flags of the command that no configuration holds
    unknown: list[str] = field(default_factory=list)


def spelled(token: str) -> str:
    """A flag with underscores, as the schema spells it: `--num-samples=8` is `--num_samples=8`."""
    name, equals, value = token.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if token.startswith("--") else token


def read(text: str) -> Parsed:
    """A pasted command, over several lines with backslashes too. Raises ValueError when a quote is left open."""
    tokens = shlex.split(re.sub(r"\\\s*\n", " ", text), comments=False)
    return parse(_arguments(tokens))


def _arguments(tokens: Sequence[str]) -> Sequence[str]:
    """The tokens behind `convnn run`, `python -m convnn run` or `python main.py`."""
    for at, token in enumerate(tokens):
        if token.startswith("--"):
            break
        if token == "run" or token.rpartition("/")[2] == "main.py":
            return tokens[at + 1 :]
    return tokens[1:] if tokens and tokens[0].rpartition("/")[2] == "convnn" else tokens


def parse(tokens: Iterable[str]) -> Parsed:
    """The arguments of `convnn run`, split into words."""
    found, rest = Parsed(), list(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            if found.preset is None and not token.startswith("-"):
                found.preset = token
            else:
                found.unknown.append(token)
            continue
        name, equals, value = spelled(token).partition("=")
        option = BY_FLAG.get(name)
        if option is not None and option.kind == "bool":
            found.typed[option.key] = "true" if name == option.flag else "false"
            if equals:
                found.unknown.append(token)
            continue
        if name in SWITCHES:
            found.passed_over.append(name)
            continue
        if option is None and name not in WITH_VALUE:
            found.unknown.append(token if equals else " ".join([token, *_value(rest)]))
            continue
        if not equals:
            if not rest:
                found.unknown.append(f"{token} (its value is missing)")
                continue
            value = rest.pop(0)
        if option is None:
            found.passed_over.append(f"{name} {value}")
        elif option.kind == "words" and option.key in found.typed:
            found.typed[option.key] += f" {value}"
        else:
            found.typed[option.key] = value
    return found


def _value(rest: list[str]) -> list[str]:
    """The value of an unknown flag, taken with it: the next word, unless that is a flag."""
    return [rest.pop(0)] if rest and not rest[0].startswith("--") else []


def command(config: RunConfig, preset: str | None = None, base: RunConfig | None = None) -> str:
    """The command that makes this configuration: what differs from the defaults or, with `base`, from a preset."""
    words = ["convnn", "run", *([shlex.quote(preset)] if preset else [])]
    base = base or RunConfig()
    for option in OPTIONS:
        value = value_at(config, option.key)
        if value == value_at(base, option.key):
            continue
        if isinstance(value, bool):
            words.append(option.flag if value else option.off_flag)
        elif isinstance(value, tuple):
            words += [part for word in value for part in (option.flag, shlex.quote(word))]
        else:
            words += [option.flag, shlex.quote(option.text(value))]
    return " ".join(words)
