"""The command line: every command is wired here; torch and textual come in inside the commands that need them."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from convnn.commands import presets, running, words
from convnn.commands.compare import compare
from convnn.commands.console import say, show_error
from convnn.commands.doctor import doctor
from convnn.commands.export import export
from convnn.commands.importing import import_
from convnn.commands.resume import resume
from convnn.commands.rm import rm
from convnn.commands.run import run
from convnn.commands.runs import runs
from convnn.commands.schema_options import takes_options
from convnn.commands.summary import summary
from convnn.commands.table import table
from convnn.commands.tui import tui
from convnn.commands.verify_resume import verify_resume
from convnn.errors import Exit, Problem, UserError

app = typer.Typer(
    name="convnn",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 diverged, 4 out of memory, 5 data or "
    "device missing, 6 no such run, 7 held by another process, 8 storage, 75 time limit, "
    "129 / 130 / 143 stopped by a signal",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"convnn {version('convnn')}")
        raise typer.Exit


@app.callback()
def convnn(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Build, validate, launch, watch and compare runs of Convolutional Nearest Neighbour networks.

    A configuration is the defaults, then a preset, then the flags typed: the later wins.
    """


app.command("run")(takes_options(run))
app.command("resume")(takes_options(resume))
app.command("stop")(running.stop)
app.command("show")(running.show)
app.command("note")(running.note)
app.command("runs")(runs)
app.command("compare")(compare)
app.command("table")(table)
app.command("tui")(tui)
app.command("doctor")(doctor)
app.command("verify-resume")(takes_options(verify_resume))
app.command("import")(import_)
app.command("export")(export)
app.command("rm")(rm)
app.command("summary")(takes_options(summary))
app.add_typer(presets.app, name="presets")


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point: runs a command and exits with its code, without a traceback for what a person can fix."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        command = typer.main.get_command(app)
        code = command.main(words.corrected(given, command), prog_name="convnn", standalone_mode=False)
    except UserError as error:
        show_error(error, as_json)
        code = error.code
    except TyperException as error:
        show_error(UserError(Problem(error.format_message(), fix="see --help")), as_json)
        code = Exit.USAGE
    except (BrokenPipeError, SystemExit):  # the reader went away (Typer and Rich exit then): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.DONE
    except OSError as error:
        from convnn.faults import storage

        refused = storage(error, error.filename or "a file")
        show_error(refused, as_json)
        code = refused.code
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        code = Exit.INTERRUPTED
    sys.exit(code if isinstance(code, int) else Exit.DONE)
