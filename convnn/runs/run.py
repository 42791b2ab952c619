"""A run is a directory: made here, listed, found by what a person types, and asked how it is."""

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
from convnn.text import escaped

if TYPE_CHECKING:
    from convnn.config.schema import RunConfig

CONFIG, EVENTS = "config.toml", "events.jsonl"
IMPORTED = "imported.json"  # where the figures of a run come from that was not trained here


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
    def imported(self) -> bool:
        """Whether its figures come from elsewhere, so that there are no weights to go on from."""
        return (self.path / IMPORTED).is_file()

    def import_record(self) -> dict[str, Any]:
        """What `imported.json` tells; nothing where there is none that can be read."""
        try:
            found = json.loads((self.path / IMPORTED).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def config(self) -> RunConfig:
        """The configuration of the run. Raises UserError where its file is damaged."""
        from convnn.config.toml import read_run

        return read_run(self.config_path)

    def sections(self) -> dict[str, dict[str, Any]]:
        """The values in `config.toml` by section and key, unchecked. Raises UserError where it is no TOML."""
        try:
            tables = tomllib.loads(self.config_path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(Problem(f"damaged: {escaped(error)}", file=escaped(self.config_path))) from error
        return {
            section: {key: _value(section, key, value) for key, value in table.items()}
            for section, table in tables.items()
            if isinstance(table, dict)
        }

    def history(self, *, steps: bool = True) -> History:
        """What happened so far; without `steps` only what an epoch or more is told of, which is much quicker."""
        history = History()
        history.update(self.events_path, steps=steps)
        return history

    def status(self) -> str:
        """Return the status, a key of STATUSES."""
        return derive_status(self.path, last_status_event(self.events_path))


def _value(section: str, key: str, value: Any) -> Any:
    """A value of the file; TOML has no null, so the word "none" stands for it where an option may have none."""
    option = BY_KEY.get(f"{section}.{key}")
    return None if value == "none" and option is not None and option.optional else value


def runs_root(given: Path | None = None) -> Path:
    """The directory of the runs, absolute: the one given, else $CONVNN_RUNS, else ./runs."""
    return (given or Path(os.environ.get("CONVNN_RUNS") or "runs")).absolute()


def is_run(path: Path) -> bool:
    """Whether a directory is a run."""
    return (path / CONFIG).is_file() or (path / EVENTS).is_file()


def new_run_name(model: str, layer: str, name: str | None = None) -> str:
    """A name for a run that starts now: local time, the given name or else model and layer, four hex digits.

    Of a given name only letters, digits and . _ + = - are kept, so that it is one component of a path.
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
    called = new_run_name(model, layer, name)
    if directory is None:
        while (root / called).exists():
            called = new_run_name(model, layer, name)
        path = root / called
        path.mkdir()
        write_atomic(path / CONFIG, config_toml)
        sync_directory(root)
        return Run(path, called)

    path = directory.resolve()
    if path == root.resolve():
        raise UserError(Problem(f"{escaped(path)} is where runs are kept", fix="give --output_dir a directory in it"))
    if not str(path).isprintable():
        raise UserError(Problem(f"{escaped(path)} has control characters in its name", fix="give another directory"))
    if path.exists() and not path.is_dir():
        raise UserError(Problem(f"{escaped(path)} is a file", fix="give --output_dir a directory"))
    if overwrite and is_run(path):
        trash.discard(path, run_name(path, root), root)
    path.mkdir(parents=True, exist_ok=True)
    with lock_run(path):  # of two that start here at once, one gets it
        if is_run(path):
            raise UserError(
                Problem(
                    f"{escaped(path)} holds a run already",
                    fix="go on with it (--resume), move it to the trash first (--overwrite) or give another directory",
                )
            )
        write_atomic(path / CONFIG, config_toml)
    if path.parent == root.resolve() and not path.name.startswith("."):
        return Run(path, path.name)
    for link in _links(root):  # left by a run that was deleted by hand
        if trash.link_target(link) == path:
            link.unlink()
    trash.write_link(root / f"{called}.link", path)
    return Run(path, called)


def _links(root: Path) -> list[Path]:
    return [link for link in root.glob("*.link") if link.is_file() and not link.is_symlink()]


def run_name(path: Path, root: Path) -> str:
    """What the run at `path` is called: by the link of `root` that leads there, else like its directory."""
    for link in sorted(_links(root), reverse=True) if path.parent != root.resolve() else []:
        if trash.link_target(link) == path:
            return link.stem
    return path.name
