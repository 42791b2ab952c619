"""A sweep on the disk: its files, which cell has which run, and how far each is. No run is trained here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from convnn.config import toml
from convnn.errors import UserError
from convnn.events import Epoch, Finished, Started
from convnn.runs.event_log import append_event
from convnn.runs.run import create_run
from convnn.runs.summary_cache import summaries
from convnn.runs.sweep_cells import CELLS, SweepCell, append_cells, read_cells, sweeps_by_run
from convnn.sweeps.dump import dump_sweep
from convnn.sweeps.file import find_sweep, parse_sweep, shipped_sweeps
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.plan import plan_sweep
from convnn.sweeps.queue import Queue
from convnn.sweeps.results import results
from convnn.sweeps.start import PlannedSweep, plan_start, start, with_seeds
from convnn.sweeps.states import read_state

BASE = 'set = { layer.type = "ConvNN", data.dataset = "digits", data.limit = 40 }\n'


def write(tmp_path: Path, axes: str, seeds: int = 1, more: str = "") -> str:
    path = tmp_path / "mine.toml"
    path.write_text(f"seeds = {seeds}\n{BASE}axes = {{ {axes} }}\n{more}")
    return str(path)


def started(tmp_path: Path, axes: str, **options: object) -> PlannedSweep:
    planned = plan_start(write(tmp_path, axes), tmp_path / "runs", **options)  # type: ignore[arg-type]
    start(planned)
    return planned


def folder_of(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "runs", "mine")


def train(folder: SweepFolder, index: int, top1: float, outcome: str = "done") -> None:
    """Make the run of a cell as a worker would have left it."""
    queue = Queue(folder.root)
    (entry,) = [entry for entry in queue.entries()[0] if entry.cell == index]
    assert entry.run_path is not None
    run = create_run(entry.config, model="vgg11", layer="ConvNN", root=folder.root, directory=entry.run_path)
    append_event(run.events_path, Started(epochs=1, steps_per_epoch=1))
    append_event(run.events_path, Epoch(epoch=1, step=1, metrics={"test_top1": top1}))
    append_event(run.events_path, Finished(outcome=outcome, cause="a reason"))
    queue.leave(entry, "" if outcome == "done" else f"{outcome}: a reason")


@pytest.mark.parametrize("name", shipped_sweeps())
def test_a_sweep_written_down_has_the_same_cells(name):
    plan = plan_sweep(find_sweep(name))
    copy = plan_sweep(parse_sweep(dump_sweep(plan.sweep), name))
    facts = [[(cell.name, cell.key, cell.labels, cell.same_as) for cell in cells] for cells in (plan.cells, copy.cells)]
    text = dump_sweep(plan.sweep)
    assert facts[0] == facts[1] and dump_sweep(copy.sweep) == text
    assert not re.search(r'\[\n +[\d"]', text)  # a list of plain values is one line


def test_every_cell_enters_the_queue_once(tmp_path):
    planned = started(tmp_path, "K = [1, 4]")
    folder, queue = planned.folder, Queue(tmp_path / "runs")
    cells, _ = folder.cells()
    entries, _ = queue.entries()
    assert [entry.run for entry in entries] == [str(folder.root / (cell.run or "")) for cell in cells]
    assert [(entry.sweep, entry.cell) for entry in entries] == [("mine", 1), ("mine", 2)]
    config = toml.parse_run(entries[0].config)
    assert config.run.tags == ("mine",) and not config.checkpoint.keep_optimizer
    assert Path(config.data.path).is_absolute() and config == toml.read_run(folder.config_path(1))
    before = (folder.path / CELLS).read_bytes()
    start(plan_start("mine", folder.root))
    assert queue.entries()[0] == entries and (folder.path / CELLS).read_bytes() == before


def test_what_ended_early_goes_on_and_what_is_done_stays(tmp_path):
    folder, queue = started(tmp_path, "K = [1, 2, 4, 9, 16]").folder, Queue(tmp_path / "runs")
    for index, outcome in enumerate(["done", "failed", "interrupted", "diverged"], 1):
        train(folder, index, 50.0, outcome)
    states = [cell.state for cell in read_state(folder).cells]
    assert states == ["done", "failed", "interrupted", "diverged", "queued"]
    runs = {cell.index: cell.run for cell in folder.cells()[0]}
    entries = start(plan_start("mine", folder.root))
    assert [entry.cell for entry in entries] == [2, 3]  # one that diverged would do so again
    assert {cell.index: cell.run for cell in folder.cells()[0]} == runs
    assert [entry.cell for entry in queue.ended()] == [4]
    again = start(plan_start("mine", folder.root, again=True), again=True)
    assert [entry.cell for entry in again] == [1, 4]
    assert len({cell.run for cell in folder.cells()[0]} - set(runs.values())) == 2


def test_another_file_of_the_name_is_refused_unless_it_extends(tmp_path):
    folder = started(tmp_path, "K = [1, 4]").folder
    train(folder, 2, 60.0)
    with pytest.raises(UserError, match="other cells") as refusal:
        plan_start(write(tmp_path, "K = [4, 9]"), folder.root)
    assert "--extend" in (refusal.value.problems[0].fix or "")
    entries = start(plan_start(write(tmp_path, "K = [4, 9]"), folder.root, extend=True))
    assert [cell.labels["K"] for cell in folder.cells()[0]] == ["1", "4", "9"]
    assert [entry.cell for entry in entries] == [3]
    assert [cell.state for cell in read_state(folder).cells] == ["queued", "done", "queued"]


def test_a_new_axis_leaves_a_trained_model_where_it_belongs(tmp_path):
    folder = started(tmp_path, "K = [1, 4]").folder
    train(folder, 1, 60.0)
    start(plan_start(write(tmp_path, "K = [1, 4], lr = [0.01, 0.001]"), folder.root, extend=True))
    cells = {(cell.labels["K"], cell.labels["lr"]): cell for cell in folder.cells()[0]}
    assert len(cells) == 4 and cells["1", "0.001"].index == 1  # the default learning rate
    assert [cell.state for cell in read_state(folder).cells] == ["done", "queued", "queued", "queued"]


def test_a_run_that_is_trained_already_is_reused_and_counts_in_both_sweeps(tmp_path):
    folder = started(tmp_path, "K = [1, 4]").folder
    train(folder, 1, 60.0)
    planned = plan_start(write(tmp_path, "K = [1, 9]"), folder.root, name="other")
    assert list(planned.trained) == [1]
    assert [entry.cell for entry in start(planned)] == [2]
    (cell, _) = read_state(planned.folder).cells
    assert cell.is_done and cell.cell.reused
    assert cell.run is not None and sweeps_by_run(folder.root)[cell.run.path] == ("mine", "other")
    (run,) = [run for run in summaries(folder.root)[0] if run.sweeps]
    assert run.sweeps == ("mine", "other")
    again = plan_start(write(tmp_path, "K = [1, 9]"), folder.root, name="third", again=True)
    assert not again.trained and len(start(again, again=True)) == 2


def test_a_run_that_was_removed_is_trained_again(tmp_path):
    folder = started(tmp_path, "K = [1]").folder
    train(folder, 1, 60.0)
    (cell,) = read_state(folder).cells
    assert cell.run is not None
    Path(cell.run.path).rename(tmp_path / "away")
    assert [state.state for state in read_state(folder).cells] == ["waiting"]
    assert len(start(plan_start("mine", folder.root))) == 1


def test_a_line_cut_short_is_no_cell_and_hides_no_other(tmp_path):
    path = tmp_path / CELLS
    append_cells(path, [SweepCell(index=1, name="a", seed=0), SweepCell(index=2, name="b", seed=0)])
    path.write_bytes(path.read_bytes()[:-5])
    assert [cell.index for cell in read_cells(path)[0]] == [1]
    append_cells(path, [SweepCell(index=2, name="c", seed=0)])
    cells, warnings = read_cells(path)
    assert [cell.name for cell in cells] == ["a", "c"] and len(warnings) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        '{"index": 0, "name": "a", "seed": 1}',
        '{"index": 1, "name": "a", "seed": 1, "run": "../x"}',
        "[" * 5000,
        '{"index": 1, "name": "a", "seed": 1, "run": "."}',
        '{"index": 1e400, "name": "a", "seed": 1}',
    ],
)
def test_damaged_lines_are_named_and_end_nothing(tmp_path, line):
    folder = started(tmp_path, "K = [1]").folder
    with (folder.path / CELLS).open("a") as file:
        file.write(line + "\n")
    state = read_state(folder)
    assert [cell.state for cell in state.cells] == ["queued"]
    assert bool(state.warnings) == bool(line)
    assert results(state).table().rows
    assert len(summaries(folder.root)[0]) == 0


def test_infeasible_and_shared_cells_have_their_reasons(tmp_path):
    more = '[[derive]]\nwhen = "branch_ratio=1 magnitude_type=euclidean"\nset = { branching.ratio = 1 }\n'
    axes = 'K = [9, 5000], magnitude_type = ["cosine", "euclidean"], similarity_type = ["Loc"]'
    start(plan_start(write(tmp_path, axes, more=more), tmp_path / "runs"))
    folder = folder_of(tmp_path)
    state = read_state(folder)
    assert [cell.state for cell in state.cells] == ["queued", "same", "infeasible", "infeasible"]
    train(folder, 1, 55.0)
    state = read_state(folder)
    assert [cell.is_done for cell in state.cells] == [True, True, False, False] and state.is_done
    result = results(state)
    texts = [cell for row in result.table().rows for cell in row]
    assert texts.count("55.00") == texts.count("infeasible") == 2
    (sentence,) = [line for line in result.sentences() if line.startswith("cannot be trained")]
    assert "magnitude" in sentence and "layer.K is 5000" in sentence  # the reason once, with the names of the cells


def test_the_grid_has_means_and_says_what_is_left_out(tmp_path):
    start(plan_start(write(tmp_path, "K = [1, 4], augment = [false, true]", seeds=3), tmp_path / "runs"))
    folder = folder_of(tmp_path)
    for index in range(1, 13):
        cell = folder.cells()[0][index - 1]
        if index == 12:
            train(folder, index, 1.0, "diverged")
        elif index != 3:
            train(folder, index, 60.0 + 10 * (cell.labels["K"] == "4") + cell.seed / 10)
    result = results(read_state(folder))
    assert result.row_axes == ["K"] and result.col_axis == "augment"
    assert [[cell.text for cell in row if cell] for row in result.grid] == [
        ["60.05 ± 0.07 (2 of 3)", "60.10 ± 0.10 (3)"],
        ["70.10 ± 0.10 (3)", "70.05 ± 0.07 (2 of 3)"],
    ]
    assert result.best is not None and result.best.name == "mine-K4-augmentfalse"
    verdicts = {cell.name: comparison.distinguishable for cell, comparison in result.comparisons}
    assert verdicts == {"mine-K4-augmenttrue": False, "mine-K1-augmenttrue": True, "mine-K1-augmentfalse": True}
    text = "\n".join(result.sentences())
    assert "left out: 2 runs that are not done (1 queued, 1 diverged)" in text and "Holm-adjusted" in text
    baseline = results(read_state(folder), baseline="mine-K1-augmentfalse")
    assert len(baseline.comparisons) == 3 and baseline.reference is not baseline.best
    with pytest.raises(UserError, match="no cell"):
        results(read_state(folder), baseline="nothing")
    tied = results(read_state(folder), key="epoch")
    assert all(map(tied.is_best, tied.cells)) and "the same value: mine-K1-augmenttrue" in tied.sentences()[0]


def test_seeds_are_a_number_or_a_list():
    assert with_seeds({}, "3") == {"training.seed": "0..2"} and with_seeds({}, "4,7") == {"training.seed": "4,7"}
    for typed, text in (({}, "0"), ({}, "9" * 30), ({"training.seed": "1"}, "3")):
        with pytest.raises(UserError):
            with_seeds(typed, text)


def test_an_unsafe_name_is_refused(tmp_path):
    for name in ("../x", ".hidden", "a b", ""):
        with pytest.raises(UserError, match="cannot be the name"):
            plan_start("quickstart", tmp_path / "runs", {"layer.K": "1,4"}, name=name)
    assert not (tmp_path / "runs").exists()


def test_a_preset_with_flags_is_named_after_its_axes(tmp_path):
    planned = plan_start("quickstart", tmp_path / "runs", {"layer.K": "1,4"})
    assert planned.folder.name == "quickstart-K" and planned.plan.cells[0].name == "quickstart-K1"
    start(planned)
    again = plan_start("quickstart", tmp_path / "runs", {"layer.K": "1,4"})
    assert again.state is not None and not start(again)
    document = json.loads((planned.folder.path / CELLS).read_text().splitlines()[0])
    assert document["options"] == {"layer.K": 1}
