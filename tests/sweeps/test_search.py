"""A search: what its file may say, what its methods draw, and that no trial is lost, whatever its process remembers."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from convnn.config.toml import parse_run
from convnn.errors import UserError
from convnn.events import Epoch, Event, Finished, Started
from convnn.runs.event_log import event_line
from convnn.runs.file_lock import read_holder
from convnn.runs.sweep_cells import CELLS
from convnn.sweeps.axes import parse_axis
from convnn.sweeps.dump import dump_sweep
from convnn.sweeps.file import Sweep, parse_sweep
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.plan import plan_sweep
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.results import results
from convnn.sweeps.search.settings import METHODS, Search, StopRule, missing_package
from convnn.sweeps.search.space import parameter_of, point_of, random_point
from convnn.sweeps.slots import Slot
from convnn.sweeps.start import plan_start, start
from convnn.sweeps.states import read_state
from convnn.sweeps.work import Worker

SET = '[set]\nlayer.type = "ConvNN"\ndata.dataset = "digits"\ndata.limit = 40\ndata.val_share = 0.2\n'
NUMBERS = "[axes]\nlr = { min = 1e-4, max = 1e-1, log = true }\nK = { from = 1, to = 9, step = 2 }\n"
CHOICES = NUMBERS + 'similarity_type = ["Col", "Loc_Col"]\n'


def planned(text: str) -> Sweep:
    return plan_sweep(parse_sweep(text, "mine")).sweep


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metod = 'tpe'", "Did you mean method"),
        ("method = 'tpee'", "one of random, qmc, tpe, gp, cmaes. Did you mean tpe"),
        ("trials = 0", "whole number from 1"),
        ("trials = true", "whole number from 1"),
        ("confirm = -1", "whole number from 0"),
        ("seed = 1.5", "whole number from 0"),
        ("on_test = 1", "true or false"),
        ("metric = 3", "name of a metric"),
        ("stop = 3", "table or a method"),
        ("stop = 'ash'", "Did you mean asha"),
        ("stop = { eta = 1 }", "from 2"),
        ("stop = { method = 'median', eta = 3 }", "eta has no effect with median"),
        ("stop = { min_epoch = 3 }", "Did you mean min_epochs"),
        ("stop = { min_epochs = 12 }", "12 epochs is never stopped early"),
        ("metric = 'test_top1'", "no longer a test.* on_test = true"),
        ("metric = 'train_loss'", "metric of the validation split"),
        ("metric = 'val_tpo1'", "Did you mean val_top1"),
        ("method = 'cmaes'", "similarity_type is a list of choices"),
    ],
)
def test_what_is_wrong_with_a_search_is_named_with_a_fix(text, words):
    with pytest.raises(UserError) as caught:
        planned(f"{SET}training.num_epochs = 12\n{CHOICES}[search]\n{text}")
    assert any(re.search(words, f"{problem.message} {problem.fix}") for problem in caught.value.problems)
    assert all(problem.fix for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axes]\nK = [1, 9]\n[search]", "no validation split"),
        ("[axes]\nval_share = [0.1, 0.2]\n[search]", "other images"),
        (f"seeds = 3\n{SET}{NUMBERS}[search]", "confirm = 3"),
        (f"{SET}[search]", "needs axes"),
        (f"{SET}[axes]\nlr = {{ min = 1e-4, max = 1e-1 }}\n[search]\nmethod = 'cmaes'", "two axes"),
        (f"{SET}{NUMBERS}[[block]]\nid = 'a'\n[search]", "no blocks"),
        (f"{SET}{NUMBERS}[slurm]\ntime = '1:00'\n[search]", "queue of the machine"),
        (f"{SET}{NUMBERS}", "min and max are for a search"),
        (f"{SET}[axes]\nK = {{ min = 400, max = 500 }}\n[search]", "none of .* can be trained"),
        (f"{SET}[axes]\nK = {{ min = 9, max = 1 }}\n[search]", "min must be below max"),
        (f"{SET}[axes]\nK = {{ min = 1, max = 9, step = 2 }}\n[search]", "no key step beside min and max"),
        (f"{SET}[axes]\nlr = {{ min = 0.0, max = 1, log = true }}\n[search]", "above 0"),
        (f"{SET}[axes]\ndataset = {{ min = 1, max = 2 }}\n[search]", "no number"),
        (f"{SET}[axes]\nK = {{ min = 0.5, max = 2 }}\n[search]", "layer.K is 0.5"),
    ],
)
def test_what_a_search_cannot_do_is_named_before_it_starts(text, words):
    with pytest.raises(UserError) as caught:
        planned(text)
    assert any(re.search(words, f"{problem.message} {problem.fix}") for problem in caught.value.problems)


def test_the_test_split_is_used_only_on_request():
    search = planned(f"{SET}{NUMBERS}[search]\nmetric = 'test_top1'\non_test = true").search
    assert search is not None and search.on_test and Search().metric == "val_top1"


def test_a_search_written_down_is_the_same_search():
    text = f"{SET}{CHOICES}[search]\nmethod = 'gp'\ntrials = 7\nstop = {{ min_epochs = 2, eta = 4 }}\nconfirm = 2"
    sweep = parse_sweep(text, "mine")
    copy = parse_sweep(dump_sweep(sweep), "mine")
    assert copy.search == sweep.search and copy.search.stop == StopRule("asha", 2, 4)
    assert {axis.name: axis for axis in copy.axes} == {axis.name: axis for axis in sweep.axes}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("lr", {"min": 1e-4, "max": 0.1, "log": True}),
        ("branch_ratio", {"min": 0, "max": 1}),
        ("K", {"min": 1, "max": 9}),
        ("K", {"min": 1, "max": 1000, "log": True}),
        ("K", {"from": 1, "to": 9, "step": 4}),
        ("N", {"min": 1, "max": 4}),
        ("dataset", ["digits", "cifar10"]),
    ],
)
def test_a_point_is_in_its_space_and_is_known_by_its_label(name, table):
    axis, random = parse_axis(name, table), Random(0)
    points = {point.label: point for point in (random_point(axis, random) for _ in range(200))}
    assert all(point_of(axis, parameter_of(axis, label)) == point for label, point in points.items())
    if axis.interval is not None:
        numbers = [float(label) for label in points]
        assert axis.interval.low <= min(numbers) and max(numbers) <= axis.interval.high
    else:
        assert len(points) == len(axis.points)


def test_a_bound_with_more_digits_than_its_label_is_in_its_space():
    axis = parse_axis("x", {"min": 1 / 3, "max": 2 / 3})
    assert [parameter_of(axis, axis.point(number).label) for number in (0, 1)] == [1 / 3, 2 / 3]
    for label in ("0.3333", "nan", "inf"):
        with pytest.raises(ValueError, match=label):
            parameter_of(axis, label)


def test_without_the_extra_a_search_is_planned_and_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)  # as where it is not installed
    assert missing_package(Search()).fix == "pip install 'convnn[search]'"
    with pytest.raises(UserError, match=r"a search needs optuna.*\n.*convnn\[search\]"):
        started(tmp_path, "trials = 3")
    assert not (tmp_path / "runs" / ".sweeps").exists()


# -- trials, with runs as a worker would have left them --------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker with two slots that starts nothing."""
    with Worker(Queue(tmp_path / "runs"), [Slot("cpu0", 1), Slot("cpu1", 1)]) as worker:
        yield worker


def started(tmp_path: Path, table: str, axes: str = NUMBERS) -> SweepFolder:
    path = tmp_path / "mine.toml"
    path.write_text(f"{SET}{axes}[search]\n{table}")
    start(plan_start(str(path), tmp_path / "runs"))
    return SweepFolder((tmp_path / "runs").absolute(), "mine")


def write_run(entry: Entry, outcome: str = "done", cause: str = "") -> None:
    """Write the run of an entry: the smaller K, the better."""
    assert entry.run_path is not None
    entry.run_path.mkdir()
    (entry.run_path / "config.toml").write_text(entry.config)
    metrics = {"val_top1": 90.0 - parse_run(entry.config).layer.K, "test_top1": 1.0, "train_s": 9.0}
    events: list[Event] = [Started(epochs=2, steps_per_epoch=1, images={"val": 100})]
    events += [Epoch(epoch=number, step=number, metrics=metrics) for number in (1, 2)]
    events.append(Finished(outcome=outcome, cause=cause))  # type: ignore[arg-type]
    (entry.run_path / "events.jsonl").write_text("".join(event_line(event) + "\n" for event in events))


def train(folder: SweepFolder, coordinator, outcomes: dict[int, tuple[str, str]]) -> int:
    """Let a coordinator and a worker go on until the search ends; return the number of runs that were written."""
    queue, count = Queue(folder.root), 0
    while coordinator.step():
        for entry in queue.entries()[0]:
            count += 1
            outcome, cause = outcomes.get(entry.cell or 0, ("done", ""))
            write_run(entry, outcome, cause)
            queue.leave(entry, "" if outcome == "done" else f"{outcome}: {cause}")
        assert count < 50
    return count


@pytest.mark.parametrize(
    "method", [name if name in ("tpe", "cmaes") else pytest.param(name, marks=pytest.mark.torture) for name in METHODS]
)
def test_every_method_draws_trials_until_all_have_an_outcome(tmp_path, worker, method):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, f"method = '{method}'\ntrials = 7")
    coordinator = Coordinator(folder)
    assert coordinator.step() and len(Queue(folder.root).entries()[0]) == 2
    train(folder, coordinator, {2: ("diverged", "NaN"), 3: ("failed", "OSError"), 4: ("stopped", "pruned")})
    state = read_state(folder)
    assert state.is_done and state.counts["done"] == 4 and state.counts["pruned"] == 1
    assert coordinator.study.unfinished == set()
    assert not re.search(rb"8005|gASV|pickle", folder.study.read_bytes())
    assert all(isinstance(json.loads(line), dict) for line in folder.study.read_text().splitlines())


def test_a_search_forgets_and_repeats_no_trial_when_its_process_or_its_journal_is_lost(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 6\nconfirm = 2", CHOICES)
    Coordinator(folder).step()
    with folder.study.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # as a kill leaves it
    drawn = [cell.labels for cell in folder.cells()[0]]
    Coordinator(folder).study.ask()  # and is killed before it writes that down
    Coordinator(folder).step()
    folder.study.write_bytes(b"no journal\n" * 3)
    trained = train(folder, Coordinator(folder), {})
    state = read_state(folder)
    assert [cell.labels for cell in folder.cells()[0]][:2] == drawn
    assert state.is_done and trained == 6 + 2 * 2 and state.counts == {"done": 10}
    assert len(list(folder.path.glob("*study.log"))) == 2  # the damaged one is beside it


def test_a_model_that_was_drawn_before_is_no_trial_and_a_small_space_ends_the_search(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 9", '[axes]\nK = [1, 2, 300]\n[[skip]]\nwhen = "K=2"\n')
    assert train(folder, Coordinator(folder), {}) == 1
    state = read_state(folder)
    assert state.is_done and state.counts["done"] == 1
    assert {cell.cell.reason.partition(":")[0] for cell in state.cells if cell.cell.reason} >= {"left out"}


def test_the_best_trials_come_first_with_the_mean_of_their_repeats_alone(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 12\nmethod = 'random'\nconfirm = 2")
    train(folder, Coordinator(folder), {2: ("stopped", "pruned")})
    result = results(read_state(folder))
    values = [cell.value for cell in result.cells if cell.value is not None]
    assert values == sorted(values, reverse=True) and len(values) == 11
    assert result.best is result.cells[0] and len(result.cells[0].group.runs) == 2
    assert "pruned, epoch 2" in [cell.text for cell in result.cells]
    assert result.importance.shares["K"] > result.importance.shares["lr"]
    assert result.json()["search"]["importance"]["method"] == "PED-ANOVA"
    assert any(line.startswith("importance: K ") and "over 12 trials" in line for line in result.sentences())
    assert read_state(folder).counts_text() == "12 of 12 trials and 4 repeats of the best: 15 done, 1 pruned"


def test_no_importance_is_read_from_trials_with_one_value(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 10\nmethod = 'random'", "[axes]\nlr = { min = 1e-5, max = 1e-2 }\n")
    train(folder, Coordinator(folder), {})
    importance = results(read_state(folder)).importance
    assert not importance.shares and importance.source.endswith("all 10 trials have the same value")


def test_a_search_takes_more_trials_but_no_other_space(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 2")
    train(folder, Coordinator(folder), {})
    path = tmp_path / "mine.toml"
    path.write_text(f"{SET}{NUMBERS}[search]\ntrials = 4")
    with pytest.raises(UserError, match="extend"):
        plan_start(str(path), folder.root)
    extended = plan_start(str(path), folder.root, extend=True)
    assert not extended.is_done
    start(extended)
    assert train(folder, Coordinator(folder), {}) == 2 and read_state(folder).is_done
    path.write_text(f"{SET}{CHOICES}[search]\ntrials = 4")
    with pytest.raises(UserError, match="other axes"):
        plan_start(str(path), folder.root, extend=True)


def test_the_lock_of_a_search_names_its_process_while_that_draws(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator
    from convnn.sweeps.search.process import coordinate

    folder = started(tmp_path, "trials = 1")
    train(folder, Coordinator(folder), {})
    holders = []
    coordinate(folder, None, lambda line: holders.append(read_holder(folder.coordinator)))
    assert [holder.pid for holder in holders] == [os.getpid()] and not folder.is_searching


def test_what_no_search_has_written_is_neither_drawn_from_nor_lost(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator
    from convnn.sweeps.search.study import LONGEST_LINE, SearchStudy

    folder = started(tmp_path, "trials = 2\nmethod = 'random'")
    small_study = SearchStudy(folder.study, Search(), [parse_axis("K", {"min": 1, "max": 9})], [])
    small_study.complete(small_study.ask()[0], 1.0)  # a valid journal
    with (folder.path / CELLS).open("a") as file:
        file.write('{"index": 9, "name": "a", "seed": 0, "trial": 1000000000}\n')
    Coordinator(folder).step()
    folder.study.write_bytes(b"x" * (LONGEST_LINE + 1))
    train(folder, Coordinator(folder), {})
    state = read_state(folder)
    assert state.is_done and any("is no cell" in warning for warning in state.warnings)
    assert sorted(path.stat().st_size > LONGEST_LINE for path in folder.path.glob("*-study.log")) == [False, True]


def test_a_trial_of_another_space_is_named_where_it_is_to_be_repeated(tmp_path, worker):
    from convnn.sweeps.search.coordinator import Coordinator

    folder = started(tmp_path, "trials = 1\nconfirm = 1")
    coordinator = Coordinator(folder)
    coordinator.step()
    (cell,) = folder.cells()[0]
    folder.set_runs([cell.model_copy(update={"labels": {"K": "2", "lr": "9"}})])
    write_run(Queue(folder.root).entries()[0][0])
    Queue(folder.root).leave(Queue(folder.root).entries()[0][0], "")
    with pytest.raises(UserError, match="cell 1 of mine has values"):
        coordinator.step()
