"""A `convnn run` command as text: parsed into options, and written from a configuration.

A `python main.py ...` of the original project is parsed as well: its flags have the same names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from convnn.config.options import BY_FLAG, BY_KEY, OPTIONS, value_at
from convnn.config.schema import RunConfig
from convnn.errors import Problem

SWITCHES = (
    "--dry_run",
    "--plain",
    "--live",
    "--json",
    "--debug",
    "--overwrite",
    "--resume",
    "--requeue",
    "--slurm",
    "--queue",
    "--take_over",
    "--no_notify",
    "--record_code",
    "--yes",
    "--detach",
)
WITH_VALUE = (
    "--max_minutes",
    "--run",
    "--checkpoint",
    "--runs",
    "--sbatch",
    "--on_finish",
    "--slots",
)  # of the command, never of a configuration
SEEDS = "--seeds"  # of a sweep: several values of --seed
OTHER_FLAGS = (SEEDS, "--theme")  # of commands that do not describe a run
FLAG_ALIASES = {  # of other programs and of habit; an option has one name in files, tables and help
    "--epochs": "--num_epochs",
    "--bs": "--batch_size",
    "--learning_rate": "--lr",
    "--wd": "--weight_decay",
}
GPU_ALIAS = "--gpu"  # "--gpu 1" is "--device cuda:1"


@dataclass
class Parsed:
    """A parsed command: a preset's name, values by option key as they were typed, and what was not understood."""

    preset: str | None = None
    typed: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)  # flags of the command that are no options of a run
    unknown: list[str] = field(default_factory=list)


def spelled(token: str) -> str:
    """Return a flag with underscores, as the schema spells it: `--num-samples=8` is `--num_samples=8`."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def command_flag(key: str) -> str | None:
    """Return the flag of a command that a key of a file stands for, as `on_finish` does; None for any other key."""
    flag = spelled("--" + key.rpartition(".")[2])
    return flag if flag in (*SWITCHES, *WITH_VALUE, *OTHER_FLAGS) else None


def command_flag_problem(key: str, flag: str) -> Problem:
    """Return the problem that a file holds what belongs to a command alone."""
    fix = f"remove it, and give {flag} to the command"
    return Problem(f"{key} is a flag of the command line, not of a file", key=key, fix=fix)


def without_aliases(tokens: Iterable[str]) -> list[str]:
    """Return the tokens with the aliases of flags replaced by the flags."""
    rest, replaced = list(tokens), []
    while rest:
        token = rest.pop(0)
        name, equals, value = spelled(token).partition("=")
        if name == GPU_ALIAS:
            if not equals and rest and rest[0].isdecimal():
                value = rest.pop(0)
            replaced += ["--device", f"cuda:{value}".removesuffix(":")]
        elif name in FLAG_ALIASES:
            replaced.append(FLAG_ALIASES[name] + equals + value)
        else:
            replaced.append(token)
    return replaced


def read(text: str) -> Parsed:
    """Parse a pasted command, also one over several lines. Raises ValueError when a quote is not closed."""
    tokens = shlex.split(re.sub(r"\\\s*\n", " ", text), comments=False)
    variables = list(takewhile(lambda token: re.match(r"[A-Za-z_]\w*=", token), tokens))
    parsed = parse(_arguments(tokens[len(variables) :]))
    parsed.passed_over += variables  # of the environment: they belong where convnn is started
    return parsed


def _arguments(tokens: Sequence[str]) -> Sequence[str]:
    """Return the tokens after `convnn run`, `python -m convnn run` or `python main.py`."""
    for index, token in enumerate(tokens):
        if token.startswith("--"):
            break
        if token == "run" or token.rpartition("/")[2] == "main.py":
            return tokens[index + 1 :]
    if tokens and tokens[0].rpartition("/")[2] == "convnn":
        return tokens[1:]
    return tokens


def parse(tokens: Iterable[str]) -> Parsed:
    parsed, rest = Parsed(), without_aliases(tokens)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            if parsed.preset is None and not token.startswith("-"):
                parsed.preset = token
            else:
                parsed.unknown.append(token)
            continue
        name, equals, value = spelled(token).partition("=")
        option = BY_FLAG.get("--seed" if name == SEEDS else name)
        if option is not None and option.kind == "bool":
            parsed.typed[option.key] = "true" if name == option.flag else "false"
            if equals:
                parsed.unknown.append(token)
            continue
        if name in SWITCHES:
            parsed.passed_over.append(name)
            continue
        if option is None and name not in WITH_VALUE:
            if not equals:
                token = " ".join([token, *_value(rest)])
            parsed.unknown.append(token)
            continue
        if not equals:
            if not rest:
                parsed.unknown.append(f"{token} (its value is missing)")
                continue
            value = rest.pop(0)
        if name == SEEDS:
            value = seed_values(value)
        if option is None:
            parsed.passed_over.append(f"{name} {value}")
        elif option.kind == "words" and option.key in parsed.typed:
            parsed.typed[option.key] += f" {value}"
        else:
            parsed.typed[option.key] = value
    return parsed


def seed_values(seeds: str) -> str:
    """Return the values of `--seed` that `--seeds` stands for: of a number, the seeds from 0 on; a list as it is."""
    if seeds.isascii() and seeds.isdecimal() and len(seeds) < 10:
        return f"0..{int(seeds) - 1}"
    return seeds


def _value(rest: list[str]) -> list[str]:
    """Remove and return the value of an unknown flag: the next word, unless that is a flag."""
    if rest and not rest[0].startswith("--"):
        return [rest.pop(0)]
    return []


def command(config: RunConfig, preset: str | None = None, base: RunConfig | None = None) -> str:
    """Return the command for a configuration: what differs from the defaults or, with `base`, from a preset."""
    words = ["convnn", "run"]
    if preset:
        words.append(preset)
    return shlex.join([*words, *changed_flags(config, base or RunConfig())])


def changed_flags(config: RunConfig, base: RunConfig) -> list[str]:
    keys = [option.key for option in OPTIONS if value_at(config, option.key) != value_at(base, option.key)]
    return flags(config, keys)


def flags(config: RunConfig, keys: Iterable[str]) -> list[str]:
    """Return the words of a command line that set some options, by key, to what they are in a configuration."""
    words: list[str] = []
    for key in keys:
        option, value = BY_KEY[key], value_at(config, key)
        if isinstance(value, bool):
            words.append(option.flag if value else option.off_flag)
        elif isinstance(value, tuple):
            words += [part for word in value for part in (option.flag, word)]
        else:
            words += [option.flag, option.text(value)]
    return words
