"""Runs are created, listed, found and discarded; what is damaged is named and stops nothing."""

from __future__ import annotations

import os
import re
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.runs import CONFIG, epoch, new

from convnn.errors import Exit, UserError
from convnn.events import Epoch, Finished, Started
from convnn.runs import event_log, find, lock, summary, summary_cache, trash
from convnn.runs import run as runs_run
from convnn.runs.event_log import event_line
from convnn.runs.lock import lock_run
from convnn.runs.marker import MARKER, is_ours, write_marker
from convnn.runs.resume import resumable_run
from convnn.runs.run import Run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def names(runs):
    return [run.name for run in runs]


# made


def test_a_run_is_a_directory_named_by_local_time_model_layer_and_four_digits(root):
    run = new(root)
    assert re.fullmatch(r"\d{8}-\d{6}-vgg11-ConvNN-[0-9a-f]{4}", run.name)
    assert run.path == root / run.name and run.config_path.read_text() == CONFIG


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "x" * 500, "\x1b[2J", "ünïcode", "-rf", ".hidden", ""])
def test_a_run_of_any_name_is_one_directory_in_its_root(root, name):
    run = new(root, name=name)
    assert run.path.parent == root and re.fullmatch(r"\d{8}-\d{6}-[\w.+=-]+-[0-9a-f]{4}", run.name)
    assert names(find.list_runs(root)[0]) == [run.name]


def test_a_run_that_cannot_be_written_leaves_no_directory(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            runs_run.create_run("", model="vgg11", layer="ConvNN", root=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_name_replaces_model_and_layer(root):
    assert re.fullmatch(r"\d{8}-\d{6}-wide_k9-[0-9a-f]{4}", new(root, name="wide_k9").name)


def test_a_run_made_elsewhere_is_listed_by_its_link(root, tmp_path):
    elsewhere = tmp_path / "Output" / "VGG11"
    run = new(root, directory=elsewhere)
    assert run.path == elsewhere and (root / f"{run.name}.link").read_text() == f"{elsewhere}\n"
    assert find.list_runs(root) == ([run], [])
    assert find.find_run(str(elsewhere), root) == find.find_run(run.name[-4:], root) == run


def test_an_output_directory_in_the_root_needs_no_link(root):
    run = new(root, directory=root / "mine")
    assert run.name == "mine" and find.list_runs(root) == ([run], [])
    assert [path.name for path in root.iterdir()] == ["mine"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        ["notes"],
        [".hidden"],
        ["args.txt", "model.txt", "train_eval_results.txt"],  # results of the original tool
        ["config.toml", "thesis.tex"],
        ["config.toml"],
        ["run.lock"],
        ["log.txt"],
        ["run.json"],
        ["events.jsonl"],
        ["imported.json"],
        ["checkpoints/20240101/weights.pt", "checkpoints/.git/config"],
    ],
)
def test_an_output_directory_with_other_files_is_refused_and_not_touched(root, tmp_path, files, overwrite):
    directory = tmp_path / "mine"
    for file in files:
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text('{"a": "person wrote this"}')
    with pytest.raises(UserError, match="not empty") as refused:
        new(root, directory=directory, overwrite=overwrite)
    assert refused.value.code is Exit.USAGE
    written = [path for path in directory.rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(directory)) for path in written) == sorted(files)
    assert {path.read_text() for path in written} == {'{"a": "person wrote this"}'}
    assert not root.exists() or list(root.iterdir()) == []


@pytest.mark.parametrize("files", [{}, {"run.lock": ""}, {"run.lock": "note"}, {".config.toml.0a1b2c3d.tmp": "x"}])
def test_an_output_directory_whose_making_was_cut_short_is_used(root, tmp_path, files):
    directory = tmp_path / "out"
    directory.mkdir()
    if files.get("run.lock") == "note":
        with lock_run(directory):
            files = {"run.lock": (directory / "run.lock").read_text()}
    for name, text in files.items():
        (directory / name).write_text(text)
    assert new(root, directory=directory).path == directory


def test_an_empty_directory_that_the_root_lies_in_takes_a_run(tmp_path):
    assert new(tmp_path / "runs", directory=tmp_path).path == tmp_path


def test_a_run_is_told_by_its_marker_or_made_by_an_earlier_version_by_its_history(root):
    run = new(root, Started())
    assert is_ours(run.path)
    (run.path / MARKER).unlink()
    assert is_ours(run.path)  # by its history
    run.events_path.write_text('{"event": "Login", "time": "2026-01-01T00:00:00Z"}\n')
    assert not is_ours(run.path)
    (run.path / "imported.json").write_text('{"schema": "convnn/1", "source": "/a", "digest": "0"}')
    assert is_ours(run.path)
    (root / "link").symlink_to(run.path)
    assert not is_ours(root / "link") and not is_ours(root / "nothing")


def test_an_output_directory_with_a_run_is_refused_or_with_overwrite_moved_to_the_trash(root, tmp_path):
    elsewhere = tmp_path / "out"
    first = new(root, epoch(1, 50.0), directory=elsewhere)
    with pytest.raises(UserError, match="holds a run"):
        new(root, directory=elsewhere)
    second = new(root, directory=elsewhere, overwrite=True)
    assert second.path == elsewhere and not second.events_path.exists()
    assert names(find.list_runs(root)[0]) == [second.name]
    (trashed,) = trash.trashed_runs(root)
    assert trashed.name.endswith(first.name) and Run(trashed, "x").history().epochs


def test_a_persons_files_stay_where_they_are_when_a_run_is_overwritten(root, tmp_path):
    elsewhere = tmp_path / "out"
    new(root, epoch(1, 50.0), directory=elsewhere)
    (elsewhere / "notes.md").write_text("mine")
    (elsewhere / "plots").mkdir()
    second = new(root, directory=elsewhere, overwrite=True)
    assert (elsewhere / "notes.md").read_text() == "mine" and (elsewhere / "plots").is_dir()
    (trashed,) = trash.trashed_runs(root)
    assert trash.foreign_files(trashed) == [] and Run(trashed, "x").history().epochs
    assert [entry.name for entry in trash.foreign_files(second.path)] == ["notes.md", "plots"]


@pytest.mark.parametrize("place", [".trash/x", ".queue/x", "RUN/x", "RUN/checkpoints/x"])
def test_a_run_is_not_made_in_another_run_or_in_what_convnn_manages(root, place):
    run = new(root)
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError) as refused:
        new(root, directory=root / place.replace("RUN", run.name))
    assert refused.value.problems[0].key == "output.dir"
    assert sorted(root.rglob("*")) == before


def test_a_running_run_is_not_overwritten(root, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.0)
    run = new(root, directory=tmp_path / "out")
    with lock_run(run.path), pytest.raises(UserError) as refused:
        new(root, directory=run.path, overwrite=True)
    assert refused.value.code is Exit.HELD and run.config_path.exists()


@pytest.mark.parametrize("place", ["runs", "file", "two\nlines"])
def test_an_output_directory_that_cannot_be_one_is_refused(root, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError):
        new(root, directory=tmp_path / place)


def test_a_link_left_by_a_run_deleted_by_hand_is_replaced(root, tmp_path):
    first = new(root, directory=tmp_path / "out")
    first.config_path.unlink()
    second = new(root, directory=tmp_path / "out")
    assert find.list_runs(root) == ([second], [])


# listed


def test_runs_are_listed_newest_first_also_within_a_second(root):
    order = ["20260102-000000-a", "20260101-000000-b", "20260101-000000-c", "20260101-000000-a"]
    for age, name in enumerate(order):
        run = new(root)
        (run.path / MARKER).unlink()  # of an earlier version, and never started: the name counts
        run.path.rename(root / name)
        os.utime(root / name / "config.toml", (0, 1000 - age))
    assert names(find.list_runs(root)[0]) == order


def test_runs_are_listed_by_the_time_they_recorded_whatever_zone_their_names_were_made_in(root):
    """Tokyo is nine hours ahead: its earlier run has the later name."""
    tokyo, utc, unmarked = new(root), new(root), new(root, Started(time=datetime(2026, 1, 1, 2, tzinfo=UTC)))
    write_marker(tokyo.path, datetime(2026, 1, 1, 0, tzinfo=UTC))
    write_marker(utc.path, datetime(2026, 1, 1, 1, tzinfo=UTC))
    (unmarked.path / MARKER).unlink()
    order = ["20260101-010000-unmarked", "20260101-020000-utc", "20260101-090000-tokyo"]
    for run, name in zip([unmarked, utc, tokyo], order, strict=True):
        run.path.rename(root / name)
    assert names(find.list_runs(root)[0]) == [run.name for run in summary_cache.summaries(root)[0]] == order
    assert find.find_run("@last", root).name == order[0] and resumable_run(None, root).name == order[0]


def test_a_missing_root_holds_no_runs(root):
    assert find.list_runs(root) == ([], [])
    assert summary_cache.summaries(root) == ([], [])


def test_each_damaged_entry_gives_a_warning_and_the_rest_is_listed(root, tmp_path):
    good = new(root)
    new(root, directory=tmp_path / "gone").config_path.unlink()
    (root / "bad.link").write_bytes(b"\xff\x00relative")
    (root / "directory.link").mkdir()
    (root / "stranger").mkdir()
    (root / "a file").touch()
    headless = new(root, Started())
    headless.config_path.unlink()
    outside = new(tmp_path / "other")
    (root / "sneaky").symlink_to(outside.path)
    (root / "sneaky.link").symlink_to(root / "bad.link")
    os.mkfifo(root / "pipe.link")
    runs, warnings = find.list_runs(root)
    assert runs == [good]
    text = "\n".join(warnings)
    assert len(warnings) == 5 and str(tmp_path / "gone") in text
    assert all(word in text for word in ["bad.link", headless.name, "sneaky:", "sneaky.link:"])


def test_a_link_that_leads_nowhere_is_named_with_the_first_line_of_its_target(root):
    root.mkdir()
    (root / "x.link").write_bytes(b"/tmp/\x1b[2J\xff\nsecond line\n")
    (warning,) = find.list_runs(root)[1]
    assert "/tmp/\x1b[2J" in warning and "second line" not in warning


# found


def test_a_run_is_found_by_number_name_part_of_a_name_path_and_best_metric(root):
    made = [new(root, epoch(1, top1), name=name) for name, top1 in [("one", 50.0), ("two", 70.0), ("two-b", 60.0)]]
    for age, run in enumerate(made):
        run.path.rename(root / f"20260101-00000{age}-{run.name[16:]}")
    first, second, third = find.list_runs(root)[0][::-1]
    assert find.find_run("@last", root) == find.find_run("@1", root) == third and find.find_run("@3", root) == first
    assert find.find_run("@best:test_top1", root) == find.find_run("@best:test_loss", root) == second
    assert (
        find.find_run(first.name[-6:], root)
        == find.find_run("one", root)
        == find.find_run(str(first.path), root)
        == first
    )
    assert find.find_run(second.name, root) == second
    with pytest.raises(UserError, match="2 runs") as several:
        find.find_run("two", root)
    assert second.name in str(several.value) and third.name in str(several.value)


@pytest.mark.parametrize("ref", ["nothing", "", "@4", "@best:no_such", "/nowhere/at/all", "\x1b[2J"])
def test_a_missing_run_is_exit_code_6(root, ref):
    new(root, name="first")
    new(root, name="second")
    with pytest.raises(UserError) as missing:
        find.find_run(ref, root)
    assert missing.value.code is Exit.NO_RUN
    assert str(missing.value).replace("\n", "").isprintable()


def test_a_wrong_name_suggests_the_nearest(root):
    run = new(root, name="branching")
    with pytest.raises(UserError) as missing:
        find.find_run("brnching", root)
    assert run.name in str(missing.value)


@pytest.mark.parametrize("ref", ["@", "@0", "@x", "@best:", "@²"])
def test_an_invalid_reference_lists_the_valid_ones(root, ref):
    new(root)
    with pytest.raises(UserError) as refused:
        find.find_run(ref, root)
    assert refused.value.code is Exit.USAGE and "@best:METRIC" in refused.value.problems[0].fix


def test_the_root_is_the_argument_else_the_environment_else_runs_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONVNN_RUNS", raising=False)
    assert runs_run.runs_root() == tmp_path / "runs"
    monkeypatch.setenv("CONVNN_RUNS", "there")
    assert runs_run.runs_root() == tmp_path / "there" and runs_run.runs_root(Path("given")) == tmp_path / "given"


def test_reading_a_run_changes_no_file(root):
    run = new(root, Started(), epoch(1, 50.0))
    with run.events_path.open("a") as file:
        file.write(event_line(Finished(outcome="done"))[:-5])
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    run.status(), run.history(), summary.summary_json(run), find.find_run(run.name, root)
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before


def test_the_best_run_is_one_of_a_single_data_set(tmp_path):
    for dataset, value in (("digits", 99.0), ("cifar10", 60.0), ("cifar10", 70.0)):
        run = runs_run.create_run(f'[data]\ndataset = "{dataset}"\n', model="vgg11", layer="Conv2d", root=tmp_path)
        event_log.append_event(run.events_path, Epoch(epoch=1, step=1, metrics={"test_top1": value}))
    with pytest.raises(UserError, match="2 data sets") as refused:
        find.find_run("@best:test_top1", tmp_path)
    assert "@best:test_top1:cifar10 or @best:test_top1:digits" in refused.value.problems[0].fix
    best = find.find_run("@best:test_top1:cifar10", tmp_path)
    assert best.history().best("test_top1") == (70.0, 1)
    with pytest.raises(UserError, match="on folder"):
        find.find_run("@best:test_top1:folder", tmp_path)
