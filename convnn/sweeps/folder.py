"""The folder of a sweep in a runs folder, from which alone it goes on and is shown.

    .sweeps/NAME/sweep.toml       what varies, with the values of its base and of flags
    .sweeps/NAME/cells.jsonl      its cells and the run of each (`convnn.runs.sweep_cells`)
    .sweeps/NAME/cells/0007.toml  the configuration of a cell
    .sweeps/NAME/study.log        of a search: what it has proposed and what became of it (`search.study`)
    .sweeps/NAME/coordinator      a lock, which the process holds that draws the trials of a search; stop ends it

A changed file adds cells and forgets none: a cell is its model and its seed, whatever its number in the file. How far a
cell is follows from its run and from the queue; nothing about that is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnn.config import toml
from convnn.config.schema import RunConfig
from convnn.errors import Exit, UserError, did_you_mean
from convnn.files import open_append, with_time, write_atomic
from convnn.json_values import json_value
from convnn.presets import store
from convnn.runs.file_lock import is_held
from convnn.runs.run import new_run_name
from convnn.runs.sweep_cells import CELLS, SWEEPS, SweepCell, append_cells, is_sweep_name, read_cells, sweep_names
from convnn.sweeps import file as sweep_file
from convnn.sweeps.claims import exclusive
from convnn.sweeps.dump import dump_sweep
from convnn.sweeps.file import Sweep, parse_sweep
from convnn.sweeps.plan import Cell, SweepPlan
from convnn.sweeps.queue import with_absolute_data_path
from convnn.sweeps.search.settings import Search
from convnn.worker.crash_points import reach

KEEP_OPTIMIZER = "checkpoint.keep_optimizer"
KILL_POINTS = ("sweep.configured", "sweep.named", "sweep.mapped", "sweep.queued")


@dataclass(frozen=True)
class SweepFolder:
    """The folder of the sweep `name` in the runs folder `root`, an absolute path; it need not be there yet."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        return self.root / SWEEPS / self.name

    @property
    def file(self) -> Path:
        return self.path / "sweep.toml"

    @property
    def is_there(self) -> bool:
        return self.file.is_file()

    def sweep(self) -> Sweep:
        """Return the sweep as it was started last. Raises UserError where its file is damaged."""
        return parse_sweep(toml.read_text(self.file), self.name, self.file)

    def cells(self) -> tuple[list[SweepCell], list[str]]:
        """Return its cells, and a warning for each damaged line. Raises OSError."""
        return read_cells(self.path / CELLS)

    def search(self) -> Search | None:
        """Return how the sweep draws its cells; None for one that has all. Raises UserError."""
        if not self.study.is_file():
            return None
        return self.sweep().search

    @property
    def study(self) -> Path:
        return self.path / "study.log"

    @property
    def coordinator(self) -> Path:
        return self.path / "coordinator"

    @property
    def stop(self) -> Path:
        """The file that tells the coordinator to end."""
        return self.path / "stop"

    @property
    def is_searching(self) -> bool:
        """Whether a process draws the trials of a search now."""
        return is_held(self.coordinator)

    def config_path(self, index: int) -> Path:
        return self.path / "cells" / f"{index:04d}.toml"

    def config_text(self, cell: SweepCell) -> str:
        """Return the configuration of a cell as TOML. Raises UserError where its file is gone."""
        return toml.read_text(self.config_path(cell.index))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock that orders the processes which change this sweep. Raises UserError where it is a link."""
        self.check_own()
        self.path.mkdir(parents=True, exist_ok=True)
        with exclusive(self.path / "lock"):
            yield

    def check_own(self) -> None:
        """Raise UserError where the folder, or one on the way to it, is a link: what is behind it is somebody's."""
        for folder in (self.path.parent, self.path, self.path / "cells"):
            if folder.is_symlink():
                message = f"{folder} is a symbolic link: a sweep has to be a directory of its own"
                raise UserError(message, fix="remove the link")

    def record(self, plan: SweepPlan) -> list[SweepCell]:
        """Bring the files of the sweep up to date with a plan, and return all its cells. The lock is held.

        Killed between any two files it is brought up to date by the next call.
        """
        present, _ = self.cells()
        matches = _match(plan.cells, present)
        next_index = max((cell.index for cell in present), default=0) + 1
        runs = {} if plan.sweep.trains_same else {cell.id: cell for cell in present if cell.run is not None}
        indices: dict[int, int] = {}  # number in the plan: index here
        changed: list[SweepCell] = []
        self.config_path(0).parent.mkdir(exist_ok=True)
        for cell in plan.cells:
            known, index, source = matches.get(cell.index), next_index, runs.get(cell_id(cell))
            if known is None:
                next_index += 1
            else:
                index = known.index
                if known.run is not None:
                    source = known
            indices[cell.index] = index
            recorded = self._recorded(cell, index, source, indices)
            if recorded != known:
                changed.append(recorded)
            if recorded.run is not None and not self.config_path(index).is_file():
                config = run_config(plan.sweep, cell, self.name)
                write_atomic(self.config_path(index), toml.dumps(config, whole=True))
        reach("sweep.configured")
        write_atomic(self.file, dump_sweep(plan.sweep))
        reach("sweep.named")
        append_cells(self.path / CELLS, changed)
        reach("sweep.mapped")
        return self.cells()[0]

    def record_search(self, sweep: Sweep) -> None:
        """Bring the file of a search up to date; its cells are drawn later. The lock is held."""
        self.config_path(0).parent.mkdir(exist_ok=True)
        os.close(open_append(self.study))  # before the file that says what it is
        write_atomic(self.file, dump_sweep(sweep))

    def add_trial(self, sweep: Sweep, cell: Cell, trial: int, repeats: int | None = None) -> SweepCell:
        """Record a cell that a search drew, or that repeats the cell `repeats`, and return it. The lock is held."""
        present, _ = self.cells()
        index = max((known.index for known in present), default=0) + 1
        if not sweep.trains_same:
            id = cell_id(cell)
            first = next((known.index for known in present if known.id == id and known.run is not None), None)
            cell = replace(cell, same_as=first)
        recorded = self._recorded(cell, index, None, {known.index: known.index for known in present})
        recorded = recorded.model_copy(update={"trial": trial, "repeats": repeats})
        if recorded.run is not None:
            write_atomic(self.config_path(index), toml.dumps(run_config(sweep, cell, self.name), whole=True))
        append_cells(self.path / CELLS, [recorded])
        return recorded

    def set_runs(self, cells: Sequence[SweepCell]) -> None:
        """Record that cells have other runs than before. The lock is held."""
        append_cells(self.path / CELLS, cells)

    def new_run(self, config: RunConfig, name: str) -> str:
        """Return the name of a run directory that is not there."""
        while (self.root / (run := new_run_name(config.model.name, config.layer.type, name))).exists():
            pass
        return run

    def _recorded(self, cell: Cell, index: int, source: SweepCell | None, indices: Mapping[int, int]) -> SweepCell:
        """Return a cell as it is recorded, with the run of `source`, or a new one."""
        same_as = run = None
        if cell.same_as is not None:
            same_as = indices[cell.same_as]
        elif not cell.problems and source is not None:
            run = source.run
        elif not cell.problems:
            run = self.new_run(cell.config, cell.name)
        return SweepCell(
            index=index,
            name=cell.name,
            seed=cell.seed,
            id=cell_id(cell),
            block=cell.block,
            labels=dict(cell.labels),
            options=json.loads(json.dumps(json_value(cell.varied))),
            run=run,
            reused=source is not None and run is not None and source.reused,
            reason=cell.reason,
            same_as=same_as,
        )


def cell_id(cell: Cell) -> str:
    """Return what cells have in common that are one model with one seed."""
    return hashlib.sha256(json.dumps(cell.key).encode()).hexdigest()[:16]


def _match(cells: Sequence[Cell], present: Sequence[SweepCell]) -> dict[int, SweepCell]:
    """Return the recorded cell of each planned one, by its number in the plan.

    That of the same place in the grid comes first, as several cells may be one model; then any that is the same model.
    """
    by_place = {(cell.id, cell.block, *sorted(cell.labels.items())): cell for cell in present}
    ids = {cell.index: cell_id(cell) for cell in cells}
    matches: dict[int, SweepCell] = {}
    for cell in cells:
        known = by_place.get((ids[cell.index], cell.block, *sorted(cell.labels.items())))
        if known is not None:
            matches[cell.index] = known
    taken = {known.index for known in matches.values()}
    left: dict[str, list[SweepCell]] = {}
    for known in present:
        if known.index not in taken:
            left.setdefault(known.id, []).append(known)
    for cell in cells:
        if cell.index not in matches and left.get(ids[cell.index]):
            matches[cell.index] = left[ids[cell.index]].pop(0)
    return matches


def run_config(sweep: Sweep, cell: Cell, name: str) -> RunConfig:
    """Return the configuration that a cell is trained with.

    Its run has the name of the sweep as a tag. It keeps no optimizer state unless the sweep says so. The path of its
    data is absolute, since its process may work in another folder.
    """
    values: dict[str, Any] = {"run.tags": tuple(dict.fromkeys([*cell.config.run.tags, name]))}
    if KEEP_OPTIMIZER not in _set_keys(sweep):
        values[KEEP_OPTIMIZER] = False
    return with_absolute_data_path(cell.config).with_values(values)


def _set_keys(sweep: Sweep) -> set[str]:
    """Return the options that a sweep or its base sets somewhere."""
    tables = [sweep.values, *(block.values for block in sweep.blocks), *(d.values for d in sweep.derivations)]
    if sweep.base is not None:
        tables.append(sweep.base.values)
    return {key for table in tables for key in table} | {key for axis in sweep.all_axes for key in axis.option_keys}


def find_folder(name: str, root: Path) -> SweepFolder:
    """Return the folder of a sweep of a runs folder. Raises UserError (NO_RUN) with the nearest name."""
    names = sweep_names(root)
    if name in names and SweepFolder(root, name).is_there:
        return SweepFolder(root, name)
    fix = "start one: convnn sweep run"
    if names:
        fix = f"the sweeps there: {', '.join(names)}"
    raise UserError(f"there is no sweep {name} in {root}{did_you_mean(name, names)}", Exit.NO_RUN, value=name, fix=fix)


def find_sweep(name: str, root: Path) -> tuple[Sweep, list[str]]:
    """Return the sweep of a path, of a sweep in the runs folder, of a shipped sweep or of a preset, in that order.

    The second value is a note where the name stands for several.
    """
    if toml.is_path(name):
        return sweep_file.find_sweep(name), []
    folder = SweepFolder(root, name)
    is_started = is_sweep_name(name) and folder.is_there
    kinds = {
        f"the sweep {name} in {root}": is_started,
        f"the sweep {name} of convnn": name in sweep_file.shipped_sweeps(),
        f"the preset {name}": name in store.listed(),
    }
    meanings = [text for text, is_meant in kinds.items() if is_meant]
    notes = []
    if len(meanings) > 1:
        notes.append(f"{name} is {meanings[0]} here, not {' or '.join(meanings[1:])}")
    if is_started:
        return folder.sweep(), notes
    return sweep_file.find_sweep(name), notes


def named(sweep: Sweep, name: str | None, *, is_preset: bool) -> Sweep:
    """Return a sweep under the name of its folder: a typed one, that of its file or, of a preset, with its axes.

    Raises UserError where that is no name.
    """
    template = sweep.template
    if is_preset:
        template = "-".join([sweep.name, *(f"{axis.name}{{{axis.name}}}" for axis in sweep.axes)])
        if name is None:
            name = "-".join([sweep.name, *([axis.name for axis in sweep.axes] or ["seeds"])])
    if name is None:
        name = sweep.name
    if not is_sweep_name(name):
        fix = "give --name NAME: letters, digits and . _ + = -, 80 at most"
        raise UserError(f"{name!r} cannot be the name of a sweep", key="name", value=name, fix=fix)
    return replace(sweep, name=name, template=template)


def remove(folder: SweepFolder) -> Path:
    """Move the folder of a sweep into the trash beside it, and return it there; its runs are left alone."""
    folder.check_own()
    trash = folder.path.parent / ".trash"
    if trash.is_symlink():
        raise UserError(f"{trash} is a symbolic link", fix="remove the link")
    trash.mkdir(exist_ok=True)
    target = trash / with_time(folder.name)
    folder.path.rename(target)
    return target


def is_searching(root: Path) -> bool:
    """Return whether some search of a runs folder draws trials now, so that its queue will not stay empty."""
    return any(SweepFolder(root, name).is_searching for name in sweep_names(root))
