"""Start a sweep, or go on with it: what is left of it enters the queue, each cell once, however often it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from convnn.config import toml
from convnn.config.command_line import seed_values
from convnn.config.recorded import SEED
from convnn.data.catalog import dataset_info
from convnn.errors import Exit, UserError
from convnn.events import PRUNED
from convnn.runs.slurm_jobs import SCRIPT, refresh
from convnn.runs.status import STATUSES
from convnn.runs.summary import Summary
from convnn.runs.summary_cache import summaries
from convnn.runs.sweep_cells import SweepCell
from convnn.sweeps import file as sweep_file
from convnn.sweeps.costs import SweepCost, sweep_cost
from convnn.sweeps.dump import dump_sweep, same_cells
from convnn.sweeps.file import Sweep
from convnn.sweeps.folder import SweepFolder, cell_id, find_sweep, named
from convnn.sweeps.plan import SweepPlan, plan_sweep, trained_cells
from convnn.sweeps.queue import Entry, Queue, resuming_entry
from convnn.sweeps.search.settings import Search, check_packages
from convnn.sweeps.slurm import common_processes, submit, sweep_job
from convnn.sweeps.states import INFEASIBLE, SAME, CellState, SweepState, read_state
from convnn.worker.crash_points import reach


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep before it starts or goes on: where it belongs, its plan, and what is trained already."""

    folder: SweepFolder
    plan: SweepPlan
    trained: Mapping[int, Summary]  # done runs by the number of the cell in the plan
    state: SweepState | None  # of a sweep that was started before
    cost: SweepCost  # of the cells that are left to train
    notes: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train or to write down."""
        if self.state is None or not self.state.is_done:
            return False
        if self.plan.sweep.search is not None:
            return self.state.search == self.plan.sweep.search
        recorded = {cell.cell.id for cell in self.state.cells}
        return all(cell_id(cell) in recorded for cell in self.plan.cells)


def plan_start(
    source: str,
    root: Path,
    typed: Mapping[str, str | bool] = MappingProxyType({}),
    *,
    name: str | None = None,
    extend: bool = False,
    again: bool = False,
) -> PlannedSweep:
    """Return what `convnn sweep run` would do; no file is changed.

    Args:
        source: a path, a sweep of the runs folder, a sweep or a preset of convnn
        typed: flags by option key, as text
        name: of the sweep, in place of that of its file
        extend: a sweep of that name with other cells gets those of `source`, and keeps its own
        again: runs of earlier sweeps are not reused

    Raises:
        UserError: for everything that is wrong with the sweep, or with its data
    """
    sweep, notes = find_sweep(source, root)
    planned = plan_sweep_start(sweep, root, typed, name=name, extend=extend, again=again)
    return replace(planned, notes=notes)


def plan_sweep_start(
    sweep: Sweep,
    root: Path,
    typed: Mapping[str, str | bool] = MappingProxyType({}),
    *,
    name: str | None = None,
    extend: bool = False,
    again: bool = False,
) -> PlannedSweep:
    """Return the same of a sweep that was read, or of a preset as one."""
    is_started = sweep.path is not None and sweep.path == SweepFolder(root, sweep.name).file
    plan = plan_sweep(sweep, typed)
    if not (is_started and name is None):
        plan = plan_sweep(named(plan.sweep, name, is_preset=sweep.path is None))
    folder = SweepFolder(root, plan.sweep.name)
    if folder.is_there and not same_cells(present := folder.sweep(), plan.sweep):
        _check_extension(folder, present, plan.sweep, extend=extend)
    _check_data(plan)
    runs = summaries(root)[0]
    trained: dict[int, Summary] = {}
    if not (again or plan.sweep.trains_same or plan.sweep.search):
        trained = trained_cells(plan, runs)
    state = None
    if folder.is_there:
        state = read_state(folder, runs)
    left = [cell for cell in plan.to_train if cell.index not in trained]
    return PlannedSweep(folder, plan, trained, state, sweep_cost(plan, left, runs))


def _check_extension(folder: SweepFolder, present: Sweep, sweep: Sweep, *, extend: bool) -> None:
    """Raise UserError where a sweep is not the one of its folder, and may not change it."""
    if not extend:
        message = f"there is a sweep {folder.name} with other cells or values in {folder.root}"
        fix = "--extend adds these cells to it and keeps its own, --name NAME starts another sweep"
        raise UserError(message, key="name", value=folder.name, fix=fix)
    if present.search is None and sweep.search is None:
        return
    if present.search is None or sweep.search is None or _space_text(present) != _space_text(sweep):
        kind = "a search" if present.search else "a grid"
        message = f"{folder.name} is {kind} with other axes, values or metric"
        raise UserError(message, key="name", value=folder.name, fix="start another one with --name NAME")


def _space_text(sweep: Sweep) -> str:
    """Return what a search cannot change once it has trials: the rest of its table may."""
    assert sweep.search is not None
    fixed = Search(metric=sweep.search.metric, on_test=sweep.search.on_test)
    return dump_sweep(replace(sweep, search=fixed, about="", slurm=None))


def with_seeds(typed: Mapping[str, str | bool], seeds: str | None) -> dict[str, str | bool]:
    """Return flags with `--seeds`: a number of seeds from 0 on, or a list. Raises UserError."""
    if seeds is None:
        return dict(typed)
    if SEED in typed:
        raise UserError("--seeds and --seed exclude each other", key="seeds", fix="leave one of them out")
    if seeds.isascii() and seeds.isdecimal() and not 1 <= int(seeds[:9]) <= sweep_file.MAX_SEEDS:
        message = f"--seeds is {seeds}: must be from 1 to {sweep_file.MAX_SEEDS}, or a list"
        raise UserError(message, key="seeds", value=seeds, fix="give --seeds 3, or --seeds 0,1,2")
    return {**typed, SEED: seed_values(seeds)}


def start(planned: PlannedSweep, *, again: bool = False) -> list[Entry]:
    """Write the sweep down, then put into the queue what is left to train; return what entered it.

    The trials of a search are drawn and queued by its coordinator, which this does not start.

    A cell whose run is done stays as it is, unless it is to be trained `again`. One whose run was interrupted, stopped
    or killed or failed goes on; one whose run diverged would diverge again and is left, unless `again`. A cell that
    waits already, in the queue or in that of Slurm, does not enter it again.
    """
    folder = planned.folder
    if planned.plan.sweep.search is not None:
        _start_search(planned, again=again)
        return []
    with folder.changing():
        entries = _write_down(planned, again=again)
        Queue(folder.root).add(entries)
    return entries


def queue_cells(
    folder: SweepFolder, cells: Iterable[CellState], trained: Mapping[str, Summary] = MappingProxyType({})
) -> None:
    """Put into the queue what is left to train of some cells of a search. The lock is held."""
    Queue(folder.root).add(_left_entries(folder, cells, trained))


def start_jobs(
    planned: PlannedSweep, *, again: bool = False, slots: int | None = None, max_minutes: str | None = None
) -> tuple[str | None, int]:
    """Write the sweep down, then submit what is left to train as an array of Slurm.

    Returns the number of the job, None where nothing is left, and the number of its elements. Raises SlurmError.
    """
    folder = planned.folder
    with folder.changing():
        if (folder.path / SCRIPT).exists():
            refresh()  # what has a job is not submitted again
        cells = [cell for entry in _write_down(planned, again=again) if (cell := entry.cell) is not None]
        if not cells:
            return None, 0
        processes = common_processes(cell.config for cell in planned.plan.to_train)
        job = sweep_job(folder, cells, planned.plan.sweep.slurm or {}, slots, max_minutes, processes)
        return submit(job), len(cells)


def cells_to_train(planned: PlannedSweep, *, again: bool = False) -> list[int]:
    """Write the sweep down, and return the cells that are left to train."""
    with planned.folder.changing():
        return [cell for entry in _write_down(planned, again=again) if (cell := entry.cell) is not None]


def check_grid(planned: PlannedSweep) -> None:
    """Raise UserError for a search, whose cells are not known before it ends."""
    if planned.plan.sweep.search is not None:
        fix = f"call convnn sweep run {planned.folder.name} --yes in the script of a job, without --slurm"
        raise UserError("a search draws its cells one by one, for the queue of the machine that it runs on", fix=fix)


def _write_down(planned: PlannedSweep, *, again: bool) -> list[Entry]:
    """Write the sweep down, and return an entry for each cell that is left and waits nowhere. The lock is held."""
    folder = planned.folder
    check_grid(planned)
    trained = {
        cell_id(cell): planned.trained[cell.index] for cell in planned.plan.to_train if cell.index in planned.trained
    }
    folder.record(planned.plan)
    return _left_entries(folder, read_state(folder).cells, trained, again=again)


def _left_entries(
    folder: SweepFolder, cells: Iterable[CellState], trained: Mapping[str, Summary], *, again: bool = False
) -> list[Entry]:
    """Return an entry for each cell that is left to train and waits nowhere, and record which run each has.

    `trained` are runs that were trained to their end already, by the `id` of the cell that they are of.
    """
    changed: list[SweepCell] = []
    entries: list[Entry] = []
    for state in cells:
        waits = state.position is not None or state.job is not None
        if state.state in (INFEASIBLE, SAME) or waits:
            continue
        cell, entry = _next_step(folder, state, trained.get(state.cell.id), again=again)
        if cell != state.cell:
            changed.append(cell)
        if entry is not None:
            entries.append(entry)
    folder.set_runs(changed)
    reach("sweep.queued")
    return entries


def _start_search(planned: PlannedSweep, *, again: bool) -> None:
    search = planned.plan.sweep.search
    assert search is not None
    if again:
        message = "a search trains nothing again"
        raise UserError(message, key="again", fix="leave --again out, or start another with --name NAME")
    check_packages(search)
    with planned.folder.changing():
        planned.folder.record_search(planned.plan.sweep)


def _next_step(
    folder: SweepFolder, state: CellState, trained: Summary | None, *, again: bool
) -> tuple[SweepCell, Entry | None]:
    """Return a cell with the run that it has from now on, and the entry that trains it, if anything is left to do."""
    cell, run = state.cell, state.run
    if run is not None and STATUSES[run.status].is_live:
        return cell, None
    if run is not None and run.status in ("done", "diverged", PRUNED):
        if not again:
            return cell, None
        return _with_new_run(folder, cell)
    if run is not None:
        text = toml.read_text(run.run.config_path)
        entry = resuming_entry(run.run, text)
        return cell, entry.model_copy(update={"sweep": folder.name, "cell": cell.index})
    if trained is not None:
        path = Path(trained.path)
        name = str(path)
        if path.parent == folder.root:
            name = path.name
        return cell.model_copy(update={"run": name, "reused": True}), None
    if cell.reused:  # and was removed since
        return _with_new_run(folder, cell)
    return cell, _first_entry(folder, cell)


def _with_new_run(folder: SweepFolder, cell: SweepCell) -> tuple[SweepCell, Entry]:
    config = toml.parse_run(folder.config_text(cell), str(folder.config_path(cell.index)))
    cell = cell.model_copy(update={"run": folder.new_run(config, cell.name), "reused": False})
    return cell, _first_entry(folder, cell)


def _first_entry(folder: SweepFolder, cell: SweepCell) -> Entry:
    path = cell.run_path(folder.root)
    return Entry(config=folder.config_text(cell), name=cell.name, run=str(path), sweep=folder.name, cell=cell.index)


def _check_data(plan: SweepPlan) -> None:
    """Raise UserError (DATA) where data of the cells cannot be read, before anything starts."""
    data = {(d.dataset, d.path, d.resize): None for d in (cell.config.data for cell in plan.to_train)}
    problems = [problem for key in data if (problem := dataset_info(*key).problem) is not None]
    if problems:
        raise UserError(problems, Exit.DATA)
