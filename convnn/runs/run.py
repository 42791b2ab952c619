"""A run is a directory: its configuration, its event log, its checkpoints and text files."""

from __future__ import annotations

import errno
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from convnn.config.options import BY_KEY
from convnn.errors import Exit, Problem, UserError
from convnn.events import Step
from convnn.files import sync_directory, write_atomic
from convnn.paths import typed_path
from convnn.runs import marker, text_files, trash
from convnn.runs.history import History, Progress
from convnn.runs.lock import LEFTOVER, LOCK_FILE, is_lock_note, lock_run, remote_host
from convnn.runs.marker import EVENTS as EVENTS
from convnn.runs.marker import IMPORTED as IMPORTED
from convnn.runs.marker import MARKER, is_ours, write_marker
from convnn.runs.slurm_jobs import with_job
from convnn.runs.status import derive_status, last_status_event
from convnn.text import one_line

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

CONFIG, LOG = "config.toml", "log.txt"
CHECKPOINTS = "checkpoints"
CHECKPOINT_NAME = re.compile(r"[0-9]{8,15}")  # of a folder: its step
UNFINISHED = {MARKER, LOCK_FILE, LOG}  # what a run has whose making was cut short
MAX_REASON = 200  # characters of an exception in a message
MAX_NAMES = 3  # of files in a message

P = ParamSpec("P")
T = TypeVar("T")


def damage_named(read: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Make a function that reads a run raise UserError (STORAGE), which names the run, whatever its files hold.

    A stranger's run may hold anything: what is damaged is that run alone, and never the list it stands in.
    """

    @functools.wraps(read)
    def guarded(run: Run, *args: P.args, **options: P.kwargs) -> T:
        try:
            return read(run, *args, **options)
        except UserError:
            raise
        except OSError as error:
            path = error.filename or run.path
            raise UserError(f"{path} cannot be read: {error.strerror or error}", Exit.STORAGE) from error
        except Exception as error:
            message = f"damaged: {type(error).__name__}: {one_line(str(error))[:MAX_REASON]}"
            raise UserError(message, Exit.STORAGE, file=str(run.path)) from error

    return guarded


@dataclass(frozen=True)
class Run:
    """A run directory (an absolute path) and the name it goes by in its root."""

    path: Path
    name: str

    @property
    def config_path(self) -> Path:
        return self.path / CONFIG

    @property
    def events_path(self) -> Path:
        return self.path / EVENTS

    @property
    def log_path(self) -> Path:
        return self.path / LOG

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return (self.path / CHECKPOINTS / "last").is_file()

    def checkpoint_steps(self) -> list[int]:
        """Return the steps after which the checkpoints that there are were written, in order."""
        folder = self.path / CHECKPOINTS
        if folder.is_symlink() or not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if CHECKPOINT_NAME.fullmatch(path.name))

    def failed_early(self) -> bool:
        """Return whether it failed before its first step, so that nothing of it can be resumed or compared."""
        return self.recorded_status() == "failed" and self.history().step == 0

    @property
    def imported(self) -> bool:
        """Whether it was trained by the original tool, so that there are no weights to resume from."""
        return (self.path / IMPORTED).is_file()

    @damage_named
    def import_record(self) -> dict[str, Any]:
        """Return the contents of `imported.json`; an empty dict where it is missing or not ours."""
        return marker.import_record(self.path)

    @damage_named
    def config(self) -> RunConfig:
        """Return the configuration of the run. Raises UserError where its file is damaged."""
        from convnn.config.toml import read_run

        return read_run(self.config_path)

    @damage_named
    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the unchecked values of `config.toml` by section and key. Raises UserError where it is not TOML."""
        from convnn.config.toml import loads, read_text

        tables = loads(read_text(self.config_path), str(self.config_path))
        return {
            section: {key: _parsed(section, key, value) for key, value in table.items()}
            for section, table in tables.items()
            if isinstance(table, dict)
        }

    @damage_named
    def history(self, *, steps: bool = True) -> History:
        """Return the history so far; without `steps` the Step events are left out, which is much faster."""
        history = History()
        history.update(self.events_path, steps=steps)
        return history

    def live_progress(self) -> Progress | None:
        """Return its epochs, and the step at the end of its history; None where that cannot be read."""
        try:
            progress = self.history(steps=False).progress
            event = last_status_event(self.events_path)
        except (OSError, UserError):
            return None
        if isinstance(event, Step) and event.step > progress.step:
            return progress._replace(step=event.step, epoch=event.epoch)
        return progress

    @damage_named
    def status(self) -> str:
        """Return the status, a key of STATUSES."""
        return with_job(self.recorded_status(), self.path)

    @damage_named
    def recorded_status(self) -> str:
        """Return the status by its files alone, whether or not a Slurm job waits to train it."""
        return derive_status(self.path, last_status_event(self.events_path))

    @property
    def remote_host(self) -> str | None:
        """The name of the other node that trains it; None where none does."""
        return remote_host(self.path)


def _parsed(section: str, key: str, value: Any) -> Any:
    """Return a value of the file; TOML has no null, so "none" stands for None where an option allows it.

    What no option can be, such as a table or a date, is text.
    """
    option = BY_KEY.get(f"{section}.{key}")
    if value == "none" and option is not None and option.optional:
        return None
    is_scalar = isinstance(value, bool | int | float | str)
    is_words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return value if is_scalar or is_words else str(value)


def runs_root(path: Path | None = None) -> Path:
    """Return the absolute directory of all runs: `path`, else $CONVNN_RUNS, else ./runs. Raises UserError: a file."""
    root = typed_path(path or os.environ.get("CONVNN_RUNS") or "runs").absolute()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a directory", value=str(root), fix="give --runs, or CONVNN_RUNS, a directory")
    return root


def is_run(path: Path) -> bool:
    """Return whether a directory holds a run, to be shown; what may be replaced or removed is for `is_ours` to say."""
    return (path / CONFIG).is_file() or (path / EVENTS).is_file()


def new_run_name(model: str, layer: str, name: str | None = None) -> str:
    """Return a name for a run that starts now: local time, `name` or else model and layer, four hex digits.

    Of `name` only letters, digits and . _ + = - are kept, so that it is one component of a path.
    """
    word = re.sub(r"[^A-Za-z0-9._+=-]+", "-", name or "")[:80].strip("-.") or f"{model}-{layer}"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{word}-{secrets.token_hex(2)}"


def create_run(
    config_toml: str,
    *,
    model: str,
    layer: str,
    root: Path,
    name: str | None = None,
    directory: Path | None = None,
    overwrite: bool = False,
) -> Run:
    """Make the directory of a new run, with its `config.toml`: in `root` or, linked from there, at `directory`.

    Raises UserError where `directory` is not empty; with `overwrite` a run in it is moved to the trash first.
    """
    if directory is not None:
        return _create_at(directory.resolve(), config_toml, new_run_name(model, layer, name), root, overwrite)
    root.mkdir(parents=True, exist_ok=True)
    path = root / new_run_name(model, layer, name)
    while path.exists():
        path = root / new_run_name(model, layer, name)
    path.mkdir()
    try:
        write_marker(path)
        write_atomic(path / CONFIG, config_toml)
    except BaseException:  # the disk is full, for example
        shutil.rmtree(path, ignore_errors=True)
        raise
    sync_directory(root)
    return Run(path, path.name)


def new_run(config: RunConfig, root: Path, *, overwrite: bool = False) -> Run:
    """Make the directory of a run of this configuration, as `create_run` does: where that says, else in `root`."""
    from convnn.config.toml import dumps

    directory = None
    if config.output.dir is not None:
        directory = Path(config.output.dir)
    return create_run(
        dumps(config, whole=True),
        model=config.model.name,
        layer=config.layer.type,
        root=root,
        name=config.run.name,
        directory=directory,
        overwrite=overwrite,
    )


def _create_at(path: Path, config_toml: str, name: str, root: Path, overwrite: bool) -> Run:
    """Make a run at any path; outside of `root`, a link in there gives it its name."""
    check_directory(path, root)
    foreign_files: list[Path] = []
    if overwrite and is_run(path) and is_ours(path):
        foreign_files = trash.foreign_files(trash.discard(path, run_name(path, root), root))
    check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)  # which may lie in it
    with lock_run(path):
        if is_run(path):  # of two processes that start a run here at once, one gets it
            check_free(path)
        write_marker(path)
        write_atomic(path / CONFIG, config_toml)
        for entry in foreign_files:  # a person's own, which stay where they are
            shutil.move(entry, path / entry.name)
    return named_run(path, name, root)


def named_run(path: Path, name: str, root: Path) -> Run:
    """Return the run at `path`, whose name outside of `root` is that of a link in there, which is made."""
    if path.parent == root.resolve() and not path.name.startswith("."):
        return Run(path, path.name)
    for link in _links(root):  # left by a run that was deleted by hand
        if trash.link_target(link) == path:
            link.unlink()
    trash.write_link(root / f"{name}.link", path)
    return Run(path, name)


def check_free(path: Path) -> None:
    """Raise UserError where a directory holds anything."""
    if (problem := not_free(path)) is not None:
        raise UserError(problem)


def not_free(path: Path, *, takes_over: bool = False) -> Problem | None:
    """Return why no run can be made in a directory: it holds something; None for one that is empty or not there.

    With `takes_over` a run of ours is resumed or replaced; what else is there is never touched.
    """
    if not path.is_dir():
        return None
    if is_ours(path) and is_run(path):
        if takes_over:
            return None
        fix = "resume it (--resume), move it to the trash first (--overwrite) or give another directory"
        return Problem(f"{path} holds a run already", key="output.dir", fix=fix)
    names = sorted(entry.name for entry in path.iterdir() if not _is_leftover(entry))
    if not names:
        return None
    first_names = ", ".join(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        first_names += ", ..."
    fix = "give --output_dir a directory that is empty or not there yet"
    if {text_files.ARGS, text_files.RESULTS} & set(names):
        fix += "; results of the original tool become runs with convnn import"
    return Problem(f"{path} is not empty and not a run of convnn: it holds {first_names}", key="output.dir", fix=fix)


def _is_leftover(entry: Path) -> bool:
    """Return whether a file was left by making a run here that was cut short."""
    if entry.name == LOCK_FILE:
        return is_lock_note(entry)
    is_temporary = re.fullmatch(rf"\.({CONFIG}|{MARKER})\.[0-9a-f]{{8}}\.tmp", entry.name) is not None
    is_temporary = is_temporary or re.fullmatch(LEFTOVER, entry.name) is not None
    return is_temporary or (entry.name in UNFINISHED and is_ours(entry.parent))


def check_output(directory: Path, root: Path, *, takes_over: bool) -> None:
    """Raise UserError where no run can be made in a directory, and OSError where it cannot be written.

    With `takes_over` a run of ours in it is no obstacle.
    """
    path = directory.resolve()
    check_directory(path, root)
    if (problem := not_free(path, takes_over=takes_over)) is not None:
        raise UserError(problem)
    folder = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code), str(folder))


def check_directory(path: Path, root: Path) -> None:
    """Raises UserError where no run can be made at `path`."""
    if path == root.resolve():
        raise UserError(f"{path} is the directory of all runs", fix="give --output_dir a directory in it")
    parts: tuple[str, ...] = ()
    if path.is_relative_to(root.resolve()):
        parts = path.relative_to(root.resolve()).parts
    if len(parts) > 1 and parts[0].startswith("."):
        message = f"{path} is in {root / parts[0]}, which convnn manages"
        raise UserError(message, key="output.dir", fix="give --output_dir another directory")
    if (outer := next((parent for parent in path.parents if is_run(parent) and is_ours(parent)), None)) is not None:
        message = f"{path} is in the directory of the run {outer}"
        raise UserError(message, key="output.dir", fix="give --output_dir a directory outside of it")
    if not str(path).isprintable():
        raise UserError(f"{path} has control characters in its name", fix="give another directory")
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir():
        raise UserError(f"{existing} is a file", key="output.dir", fix="give --output_dir a directory")


def _links(root: Path) -> list[Path]:
    return [link for link in root.glob("*.link") if link.is_file() and not link.is_symlink()]


def run_name(path: Path, root: Path) -> str:
    """Return the name of the run at `path`: of the link in `root` that leads there, else of its directory."""
    if path.parent != root.resolve():
        for link in sorted(_links(root), reverse=True):
            if trash.link_target(link) == path:
                return link.stem
    return path.name
