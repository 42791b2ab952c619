"""The command line: a table of commands, each in a module of its own that is imported only when it runs."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.exceptions import TyperException

from convnn.cli.arguments import CONFIG_PARAMETER
from convnn.cli.output import show_error
from convnn.errors import Exit, UserError
from convnn.gc_pause import gc_paused
from convnn.startup import Interrupted
from convnn.terminal.console import prepare_streams, say, silence

EXIT_CODES = """Exit codes:
  0  done                              7  run in use by another process
  1  failed                            8  storage full, read-only or damaged
  2  wrong usage or configuration     75  time limit reached
  3  diverged                        129  terminal closed
  4  out of memory                   130  interrupted (ctrl+c)
  5  data or device missing          143  terminated
  6  no such run
A run that ended with 75 or more can be resumed."""


PATHS = {"DIR", "FILE", "PATH"}  # metavars
VALUE_RULES = {  # by the type of pydantic's error
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
}


@dataclass(frozen=True)
class Command:
    """A command: the function or Typer app that its module under `convnn.cli` defines under the module's own name.

    The module may define EXAMPLES, the end of its help. A command that runs long collects its garbage; the others leave
    it to the end of the process.
    """

    panel: str  # of the list of commands
    module: str
    runs_long: bool = False


ALIASES = {"ls": "runs", "list": "runs", "diff": "compare", "eval": "evaluate", "train": "run"}
COMMANDS = {
    "run": Command("train", "run", runs_long=True),
    "resume": Command("train", "resume", runs_long=True),
    "stop": Command("train", "stop"),
    "queue": Command("train", "queue"),
    "sweep": Command("train", "sweep"),
    "work": Command("train", "work", runs_long=True),
    "tui": Command("train", "tui", runs_long=True),
    "presets": Command("configure", "presets"),
    "summary": Command("configure", "summary"),
    "lr-range": Command("configure", "lr_range", runs_long=True),
    "runs": Command("look and compare", "runs"),
    "show": Command("look and compare", "show", runs_long=True),
    "evaluate": Command("look and compare", "evaluate", runs_long=True),
    "inspect": Command("look and compare", "inspect", runs_long=True),
    "compare": Command("look and compare", "compare"),
    "table": Command("look and compare", "table"),
    "plot": Command("look and compare", "plot", runs_long=True),
    "note": Command("manage runs", "note"),
    "tag": Command("manage runs", "tag"),
    "rm": Command("manage runs", "rm"),
    "import": Command("manage runs", "import_runs", runs_long=True),
    "export": Command("manage runs", "export", runs_long=True),
    "doctor": Command("check", "doctor", runs_long=True),
    "verify-resume": Command("check", "verify_resume", runs_long=True),
}
WITH_FLAGS = ("run", "resume", "summary", "evaluate", "verify-resume", "sweep", "lr-range")  # of the schema


class _CommandMixin:
    """A command that refuses an empty path.

    Its help is without the types of flags and arguments and the ranges of numbers, which the metavar's word stands for.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; an empty one would be the path of the current folder."""
        if (name := _empty_path(self.get_params(ctx), args)) is not None:
            message = f"{name} is empty: must be a path"
            fix = "give one (a variable of the shell may be unset)"
            raise UserError(message, key=_underscored(name.lstrip("-")), value="", fix=fix)
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            param._get_number_range_help_str = lambda: None
            if isinstance(param, TyperArgument) or param.is_flag:
                param.display_type_rich = lambda ctx: None
        return params


def _empty_path(params: Iterable[Any], words: list[str]) -> str | None:
    """Return the flag or the argument that takes a path and was given an empty one, as it was typed; else None.

    The flags of the schema, which have a panel in the help, are checked with their options.
    """
    paths = [p for p in params if PATHS & set((p.metavar or "").split("|")) and not p.rich_help_panel]
    flags = {_underscored(name) for param in paths for name in param.opts}
    argument = next((param.metavar for param in paths if isinstance(param, TyperArgument)), None)
    for before, word in pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if equals and not value and _underscored(flag) in flags:
            return flag
        if not word and _underscored(before) in flags:
            return before
        if not word and not before.startswith("-"):
            return argument
    return None


class _Command(_CommandMixin, TyperCommand):
    pass


class _Group(_CommandMixin, TyperGroup):
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, which may be an alias."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))


def _print_version(requested: bool) -> None:
    if requested:
        from convnn.version import version as package_version

        print(f"convnn {package_version()}")
        raise typer.Exit


def convnn(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Build, validate, launch, watch and compare runs of Convolutional Nearest Neighbor networks.

    A configuration is the defaults, then a preset, then the flags: the later wins.
    """


def build_app(names: Iterable[str], *, with_flags: bool = True) -> typer.Typer:
    """Return the app with these commands: a list of runs need not wait for the flags of training.

    Without `with_flags` the commands have no flags of the schema, which is enough for the list of commands.
    """
    app = typer.Typer(
        name="convnn",
        cls=_Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _underscored},
        epilog=f"{_aliases_help()}\n\n{EXIT_CODES}",
    )
    app.callback()(convnn)
    for name in names:
        command = COMMANDS[name]
        module = import_module(f"convnn.cli.{command.module}")
        function = getattr(module, command.module)
        shared: dict[str, Any] = {"epilog": _epilog(module), "rich_help_panel": command.panel}
        if isinstance(function, typer.Typer):
            for command_info in function.registered_commands:
                command_info.cls = _Command
                command_info.help = _unbroken(inspect.getdoc(command_info.callback) or "")
            app.add_typer(function, name=name, cls=_Group, **shared)
            continue
        help = _unbroken(inspect.getdoc(function) or "")
        if CONFIG_PARAMETER in inspect.signature(function).parameters:
            from convnn.cli.config_flags import with_config_flags
            from convnn.config.options import OPTIONS

            options = getattr(module, "FLAGS", OPTIONS)
            function = with_config_flags(function, options if with_flags else [])
        app.command(name, cls=_Command, help=help, **shared)(function)
    return app


def _aliases_help() -> str:
    """Return the aliases of commands and flags, each beside what it stands for."""
    from convnn.config.command_line import FLAG_ALIASES, GPU_ALIAS

    commands = "  ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    flags = [*(f"{alias} = {flag}" for alias, flag in FLAG_ALIASES.items()), f"{GPU_ALIAS} N = --device cuda:N"]
    lines = ["Aliases:", commands, "  ".join(flags[:3]), "  ".join(flags[3:])]
    return "\n  ".join(lines)


def _underscored(name: str) -> str:
    """Return the name of a flag as the schema spells it: dashes and underscores mean the same."""
    return name.replace("-", "_")


def _epilog(module: Any) -> str | None:
    examples = getattr(module, "EXAMPLES", "").strip().splitlines()
    if not examples:
        return None
    return escape("\n".join(["Examples:", *(f"  {line}" for line in examples)]))


def _unbroken(text: str) -> str:
    """Return the text with a line per paragraph: Typer breaks lines where the source does, and the terminal again."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))


def _usage_message(error: TyperException, words: list[str]) -> str:
    """Return the message of a usage error, which names a value of a wrong type or size as the schema does.

    It names an unknown flag, or one without its value, as it was typed.
    """
    if (name := getattr(error, "option_name", None)) is not None:
        flags = [word.partition("=")[0] for word in words]
        typed = next((flag for flag in flags if _underscored(flag) == _underscored(name)), name)
        return error.format_message().replace(name, typed, 1)
    describe = getattr(error.__cause__, "errors", None)  # of pydantic, by which Typer converts values
    param = getattr(error, "param", None)
    if describe is None or param is None:
        return error.format_message()
    detail = describe()[0]
    rule = VALUE_RULES.get(detail["type"])
    if rule is None:
        return error.format_message()
    name, value = param.get_error_hint().strip("'"), detail["input"]
    if detail["type"].endswith("_parsing"):
        value = repr(value)
    return f"{name} is {value}: must be {rule.format(**detail.get('ctx', {}))}"


def _help_hint(error: TyperException, words: list[str]) -> str:
    command = " ".join(["convnn", *(word for word in words[:1] if word in COMMANDS)])
    if (context := getattr(error, "ctx", None)) is not None:
        command = context.command_path
    hint = f"see {command} --help"
    param = getattr(error, "param", None)
    if isinstance(param, TyperArgument) and param.help:
        hint = f"give {param.metavar}: {param.help}; {hint}"
    return hint


def _is_in_runs(path: Path, words: list[str]) -> bool:
    """Return whether a path lies in the folder of the runs that a command line names."""
    from convnn.runs.run import runs_root

    parts = [part for word in words for part in word.split("=", 1)]
    folder = next((Path(value) for flag, value in pairwise(parts) if flag == "--runs"), None)
    return path.absolute().is_relative_to(runs_root(folder))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with its code, without a traceback for what a person can fix."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words)
    prepare_streams()
    warnings.filterwarnings("ignore", "Using padding='same' with even kernel")  # torch, of what no option changes
    if "CONVNN_LOCKS" in os.environ:  # a worker of the queue started this process
        import_module("convnn.runs.file_lock").inherit()
    try:
        word = next(iter(words), "")
        name = ALIASES.get(word, word)
        names = [name] if name in COMMANDS else list(COMMANDS)
        if name in WITH_FLAGS:
            from convnn.config.command_line import without_aliases

            words = without_aliases(words)
        with gc_paused():
            command = typer.main.get_command(build_app(names, with_flags=words[:1] not in (["--help"], ["-h"])))
            if "_CONVNN_COMPLETE" in os.environ:  # a shell asks at a key press
                shell_completion = import_module("convnn.cli.shell_completion")
                shell_completion.register()
        runs_long = len(names) > 1 or COMMANDS[names[0]].runs_long
        with nullcontext() if runs_long else gc_paused():
            code = command.main(words, prog_name="convnn", standalone_mode=False)
    except UserError as error:
        show_error(error, as_json)
        code = error.code
    except TyperException as error:
        code = Exit.DONE  # where nothing was typed: the help was printed
        if error.format_message():
            show_error(UserError(_usage_message(error, words), fix=_help_hint(error, words)), as_json)
            code = Exit.USAGE
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        silence(sys.stdout)  # the reader went away: Typer and Rich exit then
        code = Exit.DONE
    except OSError as error:
        from convnn.worker.failures import storage_error

        in_runs = isinstance(error.filename, str) and _is_in_runs(Path(error.filename), words)
        refusal = storage_error(error, error.filename or "a file", in_runs=in_runs)
        show_error(refusal, as_json)
        code = refusal.code
    except (KeyboardInterrupt, typer.Abort) as error:  # Typer's own comes from the other
        say("interrupted")
        code = next((e.code for e in (error, error.__cause__) if isinstance(e, Interrupted)), Exit.INTERRUPTED)
    gc.freeze()  # at its end the interpreter looks for garbage once more: among all modules, for a tenth of a second
    sys.exit(code if isinstance(code, int) else Exit.DONE)
