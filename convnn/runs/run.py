"""A run is a directory: its configuration, its event log, its checkpoints and text files."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn.config.options import BY_KEY
from convnn.errors import Problem, UserError
from convnn.files import sync_directory, write_atomic
from convnn.runs import trash
from convnn.runs.history import History
from convnn.runs.lock import lock_run
from convnn.runs.status import derive_status, last_status_event

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

CONFIG, EVENTS, LOG = "config.toml", "events.jsonl", "log.txt"
CHECKPOINTS = "checkpoints"
IMPORTED = "imported.json"  # where the values of a run come from that was not trained here


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

    @property
    def imported(self) -> bool:
        """Whether it was trained by the original tool, so that there are no weights to resume from."""
        return (self.path / IMPORTED).is_file()

    def import_record(self) -> dict[str, Any]:
        """Return the contents of `imported.json`; an empty dict where it is missing or damaged."""
        try:
            record = json.loads((self.path / IMPORTED).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    def config(self) -> RunConfig:
        """Return the configuration of the run. Raises UserError where its file is damaged."""
        from convnn.config.toml import read_run

        return read_run(self.config_path)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the unchecked values of `config.toml` by section and key. Raises UserError where it is not TOML."""
        try:
            tables = tomllib.loads(self.config_path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(Problem(f"damaged: {error}", file=str(self.config_path))) from error
        return {
            section: {key: _parsed(section, key, value) for key, value in table.items()}
            for section, table in tables.items()
            if isinstance(table, dict)
        }

    def history(self, *, steps: bool = True) -> History:
        """Return the history so far; without `steps` the Step events are left out, which is much faster."""
        history = History()
        history.update(self.events_path, steps=steps)
        return history

    def status(self) -> str:
        """Return the status, a key of STATUSES."""
        return derive_status(self.path, last_status_event(self.events_path))


def _parsed(section: str, key: str, value: Any) -> Any:
    """Return a value of the file; TOML has no null, so "none" stands for None where an option allows it."""
    option = BY_KEY.get(f"{section}.{key}")
    is_none = value == "none" and option is not None and option.optional
    return None if is_none else value


def runs_root(path: Path | None = None) -> Path:
    """Return the absolute directory of all runs: `path`, else $CONVNN_RUNS, else ./runs."""
    return (path or Path(os.environ.get("CONVNN_RUNS") or "runs")).absolute()


def is_run(path: Path) -> bool:
    """Return whether a directory is a run."""
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

    Raises UserError where `directory` holds a run already; with `overwrite` that one is moved to the trash first.
    """
    root.mkdir(parents=True, exist_ok=True)
    if directory is not None:
        return _create_at(directory.resolve(), config_toml, new_run_name(model, layer, name), root, overwrite)
    path = root / new_run_name(model, layer, name)
    while path.exists():
        path = root / new_run_name(model, layer, name)
    path.mkdir()
    write_atomic(path / CONFIG, config_toml)
    sync_directory(root)
    return Run(path, path.name)


def _create_at(path: Path, config_toml: str, name: str, root: Path, overwrite: bool) -> Run:
    """Make a run at any path; outside of `root`, a link in there gives it its name."""
    _check_directory(path, root)
    if overwrite and is_run(path):
        trash.discard(path, run_name(path, root), root)
    path.mkdir(parents=True, exist_ok=True)
    with lock_run(path):  # of two processes that start a run here at once, one gets it
        if is_run(path):
            fix = "resume it (--resume), move it to the trash first (--overwrite) or give another directory"
            raise UserError(Problem(f"{path} holds a run already", fix=fix))
        write_atomic(path / CONFIG, config_toml)
    if path.parent == root.resolve() and not path.name.startswith("."):
        return Run(path, path.name)
    for link in _links(root):  # left by a run that was deleted by hand
        if trash.link_target(link) == path:
            link.unlink()
    trash.write_link(root / f"{name}.link", path)
    return Run(path, name)


def _check_directory(path: Path, root: Path) -> None:
    """Raises UserError where no run can be made at `path`."""
    if path == root.resolve():
        raise UserError(Problem(f"{path} is the directory of all runs", fix="give --output_dir a directory in it"))
    if not str(path).isprintable():
        raise UserError(Problem(f"{path} has control characters in its name", fix="give another directory"))
    if path.exists() and not path.is_dir():
        raise UserError(Problem(f"{path} is a file", fix="give --output_dir a directory"))


def _links(root: Path) -> list[Path]:
    return [link for link in root.glob("*.link") if link.is_file() and not link.is_symlink()]


def run_name(path: Path, root: Path) -> str:
    """Return the name of the run at `path`: of the link in `root` that leads there, else of its directory."""
    if path.parent != root.resolve():
        for link in sorted(_links(root), reverse=True):
            if trash.link_target(link) == path:
                return link.stem
    return path.name
