"""The words of a command line before Typer sees them: dashes for underscores, and unknown flags refused by name."""

from __future__ import annotations

from typing import Any

from convnn.config import command_line
from convnn.errors import Problem, UserError, did_you_mean

CONFIGURED = ("run", "summary")  # commands whose flags are the schema's


def corrected(arguments: list[str], root: Any) -> list[str]:
    """The arguments with every flag in the spelling that is defined.

    Raises UserError naming all unknown flags at once, with whatever else is wrong in the configuration.
    """
    command, at = root, 0
    while at < len(arguments) and hasattr(command, "commands") and arguments[at] in command.commands:
        command, at = command.commands[arguments[at]], at + 1
    if command is root:
        return arguments
    known = {command_line.spelled(flag): flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
    known |= {"--help": "--help"}
    result, unknown = arguments[:at], []
    for index, token in enumerate(arguments[at:], at):
        if token == "--":
            result += arguments[index:]
            break
        name, equals, value = command_line.spelled(token).partition("=")
        if token.startswith("--") and name not in known:
            unknown.append(token.partition("=")[0])
        result.append(known[name] + equals + value if token.startswith("--") and name in known else token)
    if unknown:
        raise UserError([*(_unknown(flag, known) for flag in unknown), *_others(command.name, arguments[at:])])
    return result


def _unknown(flag: str, known: dict[str, str]) -> Problem:
    guess = did_you_mean(command_line.spelled(flag), known)
    return Problem(f"there is no flag {flag}{guess}", key=flag, fix="see --help for all of them")


def _others(command: str, arguments: list[str]) -> list[Problem]:
    """What else is wrong with the configuration that these arguments describe."""
    from convnn.presets.resolve import resolve_with_data
    from convnn.presets.store import read

    if command not in CONFIGURED:
        return []
    parsed = command_line.parse(arguments)
    try:
        return list(resolve_with_data(read(parsed.preset) if parsed.preset else None, parsed.typed).problems)
    except UserError as error:
        return list(error.problems)
