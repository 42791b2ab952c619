"""The command line: every command is wired here; torch and textual come in inside the commands that need them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from convnn.cli import words
from convnn.cli.console import say, show_error
from convnn.errors import Exit, Problem, UserError
from convnn.gc_pause import uncollected
from convnn.terminal.console import prepare_streams

HELP = (
    "exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 diverged, 4 out of memory, 5 data or "
    "device missing, 6 no such run, 7 held by another process, 8 storage, 75 time limit, "
    "129 / 130 / 143 stopped by a signal"
)


@dataclass(frozen=True)
class Command:
    """Where a command is: its module under `convnn.cli`, its function or app, and whether it takes the options.

    One that lasts collects its garbage; the others leave it to the end of the process.
    """

    module: str
    name: str
    takes_options: bool = False
    lasts: bool = False


COMMANDS = {
    "run": Command("run", "run", takes_options=True, lasts=True),
    "tui": Command("tui", "tui", lasts=True),
    "resume": Command("resume", "resume", takes_options=True, lasts=True),
    "stop": Command("show", "stop"),
    "show": Command("show", "show", lasts=True),
    "note": Command("show", "note"),
    "runs": Command("runs", "runs"),
    "compare": Command("compare", "compare"),
    "table": Command("table", "table"),
    "import": Command("import_runs", "import_", lasts=True),
    "export": Command("export", "export", lasts=True),
    "rm": Command("rm", "rm"),
    "presets": Command("presets", "app"),
    "summary": Command("summary", "summary", takes_options=True),
    "doctor": Command("doctor", "doctor", lasts=True),
    "verify-resume": Command("verify_resume", "verify_resume", takes_options=True, lasts=True),
}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"convnn {version('convnn')}")
        raise typer.Exit


def convnn(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Build, validate, launch, watch and compare runs of Convolutional Nearest Neighbour networks.

    A configuration is the defaults, then a preset, then the flags typed: the later wins.
    """


def wired(names: Iterable[str]) -> typer.Typer:
    """The app with these commands: a list of runs need not wait for the flags of training."""
    app = typer.Typer(
        name="convnn",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=HELP,
    )
    app.callback()(convnn)
    for name in names:
        command = COMMANDS[name]
        found = getattr(import_module(f"convnn.cli.{command.module}"), command.name)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        elif command.takes_options:
            from convnn.cli.config_flags import takes_options

            app.command(name)(takes_options(found))
        else:
            app.command(name)(found)
    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point: runs a command and exits with its code, without a traceback for what a person can fix."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given or "--format=json" in given or ("--format", "json") in pairwise(given)
    prepare_streams()
    try:
        named = given[:1] if given and given[0] in COMMANDS else list(COMMANDS)
        with uncollected(modules=True):
            command = typer.main.get_command(wired(named))
        lasts = len(named) > 1 or COMMANDS[named[0]].lasts
        with nullcontext() if lasts else uncollected():
            code = command.main(words.corrected(given, command), prog_name="convnn", standalone_mode=False)
    except UserError as error:
        show_error(error, as_json)
        code = error.code
    except TyperException as error:
        if error.format_message():  # nothing typed at all: the help was printed, and says enough
            show_error(UserError(Problem(error.format_message(), fix="see --help")), as_json)
        code = Exit.USAGE
    except (BrokenPipeError, SystemExit):  # the reader went away (Typer and Rich exit then): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    except OSError as error:
        from convnn.worker.failures import storage

        refused = storage(error, error.filename or "a file")
        show_error(refused, as_json)
        code = refused.code
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        code = Exit.INTERRUPTED
    gc.freeze()  # as it ends the interpreter looks for garbage once more: among all modules, for a tenth of a second
    sys.exit(code if isinstance(code, int) else Exit.DONE)
