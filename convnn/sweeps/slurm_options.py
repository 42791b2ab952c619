"""The options of `sbatch` that a person sets, by sbatch's own names, as lines of a script.

[slurm]                 --sbatch partition=gpu --sbatch gres=gpu:1 --sbatch exclusive
partition = "gpu"
gres = "gpu:1"
exclusive = true
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import time
from typing import Any

from convnn.errors import Problem, UserError, did_you_mean

OptionValue = str | int | bool
NAME = re.compile(r"[a-z]+(-[a-z]+)*")
MAX_LENGTH = 1000  # characters of a value
COMMON = (  # that a wrong name may stand for
    *("account", "comment", "constraint", "cpus-per-task", "exclude", "exclusive", "gpus", "gres", "mail-type"),
    *("mail-user", "mem", "mem-per-cpu", "nodelist", "partition", "qos", "reservation", "signal", "time"),
)
OWN = "convnn sets it itself"
NO_BATCH_JOB = "it submits no job that convnn could follow"
REFUSED = {
    **dict.fromkeys(("array", "chdir", "error", "export", "export-file", "input", "open-mode", "output", "wrap"), OWN),
    **dict.fromkeys(("help", "parsable", "quiet", "test-only", "usage", "verbose", "version", "wait"), NO_BATCH_JOB),
    **dict.fromkeys(("clusters", "get-user-env", "gid", "uid"), NO_BATCH_JOB),
    "no-requeue": "a job that is preempted or reaches its time limit has to be requeued",
}


def option_problem(name: str, value: Any) -> Problem | None:
    """Return what is wrong with an option of sbatch; None where it can stand in a script."""
    key = f"slurm.{name}"
    if not NAME.fullmatch(name):
        guess = did_you_mean(name.strip("-").replace("_", "-").lower(), COMMON)
        fix = "use its own names without dashes in front: partition, cpus-per-task"
        return Problem(f"{name!r} is no option of sbatch{guess}", key=key, value=value, fix=fix)
    refused = next((option for option in REFUSED if option.startswith(name)), None)  # sbatch takes abbreviations
    if refused is not None:
        stands_for = "" if refused == name else f", which stands for {refused},"
        return Problem(f"{key}{stands_for} cannot be set: {REFUSED[refused]}", key=key, value=value, fix="remove it")
    if name == "requeue" and value is not True:
        return Problem(f"{key} cannot be unset: {REFUSED['no-requeue']}", key=key, value=value, fix="remove it")
    if isinstance(value, bool | int):
        return None
    if isinstance(value, time):  # what TOML makes of 04:00:00 without quotes
        return Problem(f"{key} is a time of day", key=key, value=str(value), fix=f'write {name} = "{value}"')
    if not isinstance(value, str):
        message = f"{key} is no text, whole number, true or false"
        return Problem(message, key=key, value=value, fix=f'write {name} = "..."')
    if not value.strip() or not value.isprintable() or len(value) > MAX_LENGTH:
        message = f"{key} is {value[:40]!r}: must be a line of at most {MAX_LENGTH} printable characters"
        return Problem(message, key=key, value=value[:40], fix="write true for an option without a value")
    return None


def checked_options(options: Mapping[str, Any]) -> dict[str, OptionValue]:
    """Return options that can stand in a script. Raises UserError with everything that is wrong with them."""
    problems = [problem for name, value in options.items() if (problem := option_problem(name, value)) is not None]
    if problems:
        raise UserError(problems)
    return dict(options)


def typed_options(words: Iterable[str]) -> dict[str, OptionValue]:
    """Return the options of `--sbatch NAME=VALUE`, or NAME for one without a value. Raises UserError."""
    options: dict[str, OptionValue] = {}
    for word in words:
        name, equals, value = word.partition("=")
        options[name] = value if equals else True
    return checked_options(options)


def directive(name: str, value: OptionValue) -> str:
    """Return the line of a script that sets an option; "" for one that is false.

    sbatch reads such a line as it is, without a shell: only the quote and the backslash mean something in quotes.
    """
    if value is False:
        return ""
    if value is True:
        return f"#SBATCH --{name}"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'#SBATCH --{name}="{escaped}"'
