"""A run is a directory: made here, listed, found by what a person types, and asked how it is."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnn import trash
from convnn.errors import Exit, Problem, UserError, escaped
from convnn.files import sync_directory, write_atomic
from convnn.history import History, lower_is_better
from convnn.lock import hold
from convnn.options import BY_PLACE
from convnn.status import ASCII_GLYPHS as ASCII_GLYPHS
from convnn.status import GLYPHS as GLYPHS
from convnn.status import decisive, status

if TYPE_CHECKING:
    from convnn.config import RunConfig

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

    def origin(self) -> dict[str, Any]:
        """What `imported.json` tells; nothing where there is none that can be read."""
        try:
            found = json.loads((self.path / IMPORTED).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def config(self) -> RunConfig:
        """The configuration of the run. Raises UserError where its file is damaged."""
        from convnn.presets import read_run

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
        """How the run is, a key of GLYPHS."""
        return status(self.path, decisive(self.events_path))


def _value(section: str, key: str, value: Any) -> Any:
    """A value of the file; TOML has no null, so the word "none" stands for it where an option may have none."""
    option = BY_PLACE.get(f"{section}.{key}")
    return None if value == "none" and option is not None and option.optional else value


def root(given: Path | None = None) -> Path:
    """The directory of the runs, absolute: the one given, else $CONVNN_RUNS, else ./runs."""
    return (given or Path(os.environ.get("CONVNN_RUNS") or "runs")).absolute()


def holds_run(path: Path) -> bool:
    """Whether a directory is a run."""
    return (path / CONFIG).is_file() or (path / EVENTS).is_file()


def fresh_name(model: str, layer: str, name: str | None = None) -> str:
    """A name for a run that starts now: local time, the given name or else model and layer, four hex digits.

    Of a given name only letters, digits and . _ + = - are kept, so that it is one component of a path.
    """
    word = re.sub(r"[^A-Za-z0-9._+=-]+", "-", name or "")[:80].strip("-.") or f"{model}-{layer}"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{word}-{secrets.token_hex(2)}"


def create(
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
    called = fresh_name(model, layer, name)
    if directory is None:
        while (root / called).exists():
            called = fresh_name(model, layer, name)
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
    if overwrite and holds_run(path):
        trash.discard(path, name_of(path, root), root)
    path.mkdir(parents=True, exist_ok=True)
    with hold(path):  # of two that start here at once, one gets it
        if holds_run(path):
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


def name_of(path: Path, root: Path) -> str:
    """What the run at `path` is called: by the link of `root` that leads there, else like its directory."""
    for link in sorted(_links(root), reverse=True) if path.parent != root.resolve() else []:
        if trash.link_target(link) == path:
            return link.stem
    return path.name


def list_runs(root: Path) -> tuple[list[Run], list[str]]:
    """All runs of a root, newest first, and a warning for each entry that looks like a run and is none."""
    found: dict[Path, tuple[tuple[str, int], Run]] = {}
    warnings: list[str] = []
    if not root.is_dir():
        return [], []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_symlink():
                    raise UserError("a symbolic link, not followed")
                run = listed(entry)
                if run is not None:
                    found[run.path] = (age(run), run)
            except (OSError, UserError) as error:
                said = error.strerror if isinstance(error, OSError) else error
                warnings.append(f"{escaped(entry.path)}: {said}")
    return [run for _, run in sorted(found.values(), key=lambda pair: pair[0], reverse=True)], sorted(warnings)


def listed(entry: os.DirEntry[str]) -> Run | None:
    """The run that an entry of a root is or links to; None for other things. Raises UserError for what is damaged."""
    path = Path(entry.path)
    if entry.is_dir(follow_symlinks=False):
        if not (path / CONFIG).is_file():
            if (path / EVENTS).is_file():
                raise UserError(f"a run without its {CONFIG}")
            return None
        return Run(path, entry.name)
    if not entry.name.endswith(".link") or not entry.is_file(follow_symlinks=False):
        return None
    target = trash.link_target(path)
    if target is None:
        raise UserError("names no absolute path; delete it")
    if not (target / CONFIG).is_file():
        raise UserError(f"leads to {escaped(target)}, where there is no run; bring that back or delete the link")
    return Run(target, path.stem)


def age(run: Run) -> tuple[str, int]:
    """Sorts runs by when they were made: the time in the name, within a second that of the configuration file."""
    made = run.config_path.stat().st_mtime_ns
    stamp = re.match(r"\d{8}-\d{6}", run.name)
    return stamp[0] if stamp else time.strftime("%Y%m%d-%H%M%S", time.localtime(made / 1e9)), made


def find(ref: str, root: Path) -> Run:
    """The run a person means: @last, @2, @best:METRIC, a path, or any part of a name that only one run has.

    Raises UserError: NO_RUN with the nearest names, or with those that the part fits.
    """
    if ("/" in ref or ref in {".", ".."}) and not ref.startswith("@"):
        path = Path(ref).resolve()
        if not holds_run(path):
            raise UserError(f"there is no run in {escaped(path)}", Exit.NO_RUN)
        return Run(path, name_of(path, root))
    found, _ = list_runs(root)
    if not found:
        raise UserError(Problem(f"there are no runs in {escaped(root)}", fix="start one: convnn run"), Exit.NO_RUN)
    if ref.startswith("@"):
        return _counted(ref, found)
    exact = [run for run in found if run.name == ref]
    several = exact or [run for run in found if ref and ref in run.name]
    if len(several) == 1:
        return several[0]
    if several:
        names = [escaped(run.name) for run in several]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UserError(
            Problem(f"{len(names)} runs have {ref!r} in their names: {', '.join(names[:10])}{more}", value=ref)
        )
    if ref and holds_run(Path(ref)):
        return Run(Path(ref).resolve(), name_of(Path(ref).resolve(), root))
    near = get_close_matches(ref, [run.name for run in found], 3, 0.3) or [run.name for run in found[:3]]
    raise UserError(
        Problem(f"no run is called {ref!r}", value=ref, fix=f"nearest: {', '.join(escaped(name) for name in near)}"),
        Exit.NO_RUN,
    )


def _counted(ref: str, found: list[Run]) -> Run:
    if metric := ref.removeprefix("@best:") if ref.startswith("@best:") else "":
        sign = 1 if lower_is_better(metric) else -1
        bests = [(run.history(steps=False).best(metric), run) for run in found]
        ranked = [(sign * best[0], at, run) for at, (best, run) in enumerate(bests) if best]
        if not ranked:
            raise UserError(f"no run has a value of {escaped(metric)}", Exit.NO_RUN)
        return min(ranked)[2]
    number = 1 if ref == "@last" else int(ref[1:]) if re.fullmatch(r"@[0-9]{1,9}", ref) else 0
    if number < 1:
        raise UserError(Problem(f"{escaped(ref)} means no run", value=ref, fix="use @last, @2, ... or @best:METRIC"))
    if number > len(found):
        raise UserError(f"there is no {ref}: there are {len(found)} runs", Exit.NO_RUN)
    return found[number - 1]
