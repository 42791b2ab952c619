"""Old result directories become runs, once each, whatever state they are in."""

from __future__ import annotations

import json
import math
import os

import pytest
from support import old_results as oldfiles

from convnn.errors import UserError
from convnn.legacy import importer
from convnn.legacy.importer import import_tree
from convnn.runs import event_log, find, index, resume
from convnn.runs import run as runs_run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def imported(source, root, **options):
    return list(import_tree(source, root, **options))


def only(source, root):
    (told,) = imported(source, root)
    return told, find.find_run(told.name, root)


def test_a_directory_becomes_a_run_with_its_configuration_curves_times_and_origin(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old" / "Branching_K9_br0500_s42")
    told, run = only(source, root)
    assert told.outcome == "new" and told.reason is None and told.passed == () and told.epochs == 3
    config, history = run.config(), run.history()
    assert config.layer.type == "Branching" and config.optimizer.lr == 1e-4 and config.training.seed == 42
    assert config.output.dir is None and config.model.width == 1.0
    assert history.best() == (60.0, 2) and run.status() == "done" and history.skipped_lines == []
    assert history.series("test_top1", "seconds") == ([16.0, 32.0, 48.0], [40.0, 60.0, 55.0])
    assert history.series("test_top1", "step")[0] == [196.0, 392.0, 588.0]
    record = json.loads((run.path / runs_run.IMPORTED).read_text())
    assert record["source"] == str(source) and record["output_dir"] == "./Final_Output/elsewhere"
    assert record["as_published"]["best"] == {"value": 60.0, "epoch": 2} and record["launchable"]
    for name in ("args.txt", "train_eval_results.txt"):
        assert (run.path / name).read_bytes() == (source / name).read_bytes()
    (summary,) = index.summaries(root)[0]
    assert summary.source == str(source) and summary.not_launchable_reason is None


def test_lines_are_those_that_the_log_itself_would_write(tmp_path, root):
    _, run = only(oldfiles.directory(tmp_path / "old", oldfiles.epoch(1, 10.0, loss="nan")), root)
    lines = run.events_path.read_text().splitlines()
    for line, event in zip(lines, event_log.read_events(run.events_path)[0], strict=True):
        ours, theirs = json.loads(line), json.loads(event_log.event_line(event))
        assert ours == {name: theirs[name] for name in ours}
        assert all(theirs[name] in (None, "", [], {}) for name in theirs.keys() - ours.keys())
    assert math.isnan(run.history().epochs[0].metrics["train_loss"])


def test_a_tree_is_imported_in_one_pass_and_the_second_adds_nothing(tmp_path, root):
    for seed in range(3):
        oldfiles.directory(tmp_path / "old" / "VGG" / f"s{seed}", seed=seed)
    first, second = imported(tmp_path / "old", root), imported(tmp_path / "old", root)
    assert [told.outcome for told in first] == ["new"] * 3 and [told.outcome for told in second] == ["known"] * 3
    assert [told.name for told in first] == [told.name for told in second]
    assert len(find.list_runs(root)[0]) == 3 and not list(root.glob(".importing*"))
    (tmp_path / "old").rename(tmp_path / "moved")
    assert {told.outcome for told in imported(tmp_path / "moved", root)} == {"known"}


def test_a_run_cut_short_is_a_run_cut_short_and_is_brought_up_to_date_when_it_grew(tmp_path, root):
    whole = oldfiles.results(40.0, 60.0, 55.0)
    source = oldfiles.directory(tmp_path / "old", "".join(whole.splitlines(keepends=True)[:2]))
    told, run = only(source, root)
    assert run.status() == "died" and told.epochs == 1
    before = run.events_path.read_bytes()
    (source / "train_eval_results.txt").write_text(whole)
    again, same = only(source, root)
    assert again.outcome == "grown" and same == run and again.epochs == 3 and run.status() == "done"
    assert run.events_path.read_bytes().startswith(before)
    assert run.history().series("test_top1", "seconds") == ([16.0, 32.0, 48.0], [40.0, 60.0, 55.0])
    assert imported(source, root)[0].outcome == "known"
    assert index.summaries(root)[0][0].epoch == 3


def test_a_finished_run_that_grew_goes_on_where_it_was(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    _, run = only(source, root)
    (source / "train_eval_results.txt").write_text(oldfiles.results(40.0, 60.0, 55.0, 70.0))
    told, _ = only(source, root)
    assert told.outcome == "grown" and run.status() == "done"
    assert run.history().series("test_top1", "seconds") == ([16.0, 32.0, 48.0, 64.0], [40.0, 60.0, 55.0, 70.0])


def test_another_run_in_the_same_directory_is_another_run(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    _, first = only(source, root)
    (source / "train_eval_results.txt").write_text(oldfiles.results(41.0, 61.0))
    told, second = only(source, root)
    assert told.outcome == "new" and second != first and first.history().best() == (60.0, 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"K": 0}, "layer.K is 0"),
        ({"layer": "ConvNN_Spatial"}, "layer.type is 'ConvNN_Spatial'"),
        ({"sampling_type": "spatial", "num_samples": 2}, "9 neighbours need at least 9 candidates"),
        ({"lr": ...}, "args.txt says nothing of lr"),
        ({"momentum": ..., "lr_step": ..., "attention_dropout": ...}, None),  # without effect here
        ({"K": "9" * 400}, "layer.K is"),
        ({"lr": "nan"}, "optimizer.lr is nan"),
        ({"batch_size": True}, "training.batch_size is true"),
    ],
)
def test_what_our_rules_refuse_is_kept_with_the_reason(tmp_path, root, changed, reason):
    told, run = only(oldfiles.directory(tmp_path / "old", **changed), root)
    (summary,), warnings = index.summaries(root)
    assert warnings == [] and run.history().best() == (60.0, 2)
    assert (told.reason is None and reason is None) or reason in told.reason
    assert summary.not_launchable_reason == told.reason and json.dumps(summary.json(), allow_nan=False)
    assert summary.config.key and summary.config.inactive is not None


def test_a_directory_without_arguments_is_read_and_cannot_be_launched(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    (source / "args.txt").unlink()
    told, run = only(source, root)
    assert "says nothing of" in told.reason and "args.txt" in {each.file for each in told.passed}
    assert run.history().best() == (60.0, 2) and run.status() == "done"


def test_the_arguments_are_believed_and_a_contradicting_name_is_said(tmp_path, root):
    told, run = only(oldfiles.directory(tmp_path / "Branching_K4_br0250_s7", K=9), root)
    assert run.config().layer.K == 9
    assert [each.why.split()[0] for each in told.passed] == ["K", "branch_ratio", "seed"]


def test_links_hidden_folders_and_our_own_runs_are_left_alone(tmp_path, root):
    oldfiles.directory(tmp_path / "old" / "real")
    oldfiles.directory(tmp_path / "old" / ".trash" / "gone")
    (tmp_path / "secret").write_text(oldfiles.results(1.0))
    (tmp_path / "old" / "linked").mkdir()
    (tmp_path / "old" / "linked" / "train_eval_results.txt").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "old" / "linked" / "args.txt")
    assert [told.source.name for told in imported(tmp_path / "old", root)] == ["real"]
    with pytest.raises(UserError, match="holds no train_eval_results"):
        imported(root, tmp_path / "others")


def test_unreadable_files_are_said_and_the_rest_is_imported(tmp_path, root, monkeypatch):
    source = oldfiles.directory(tmp_path / "old")
    whole = importer._read

    def read(path):
        if path.name == "args.txt":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(importer, "_read", read)  # the superuser may read everything
    told, run = only(source, root)
    assert any("Permission denied" in each.why for each in told.passed) and run.history().best() == (60.0, 2)


def test_truncated_at_every_byte_each_is_imported_without_an_exception(tmp_path, root):
    data = (oldfiles.COMPLEXITY + oldfiles.epoch(1, 40.0) + oldfiles.epoch(2, 60.0)).encode()
    text = oldfiles.args(num_epochs=2)
    for end in range(len(data)):
        oldfiles.directory(tmp_path / "results" / str(end), data[:end].decode(), num_epochs=2)
    for end in range(len(text)):
        path = oldfiles.directory(tmp_path / "args" / str(end), oldfiles.results(40.0, 60.0))
        (path / "args.txt").write_text(text[:end])
    told = imported(tmp_path / "results", root) + imported(tmp_path / "args", root)
    found, warnings = index.summaries(root)
    assert warnings == [] and {each.name for each in told} == {run.name for run in found}
    assert {run.epoch for run in found} == {0, 1, 2}
    assert {run.status for run in found if run.epoch < 2} == {"died"}
    launchable = [run for run in found if run.not_launchable_reason is None and "args" in run.source]
    assert all(run.config.value("optimizer.lr") == 1e-4 for run in launchable)


def test_an_old_date_or_impossible_times_are_no_obstacle(tmp_path, root):
    text = oldfiles.epoch(1, 40.0, seconds=1e300) + oldfiles.epoch(2, 50.0, seconds=float("inf"))
    source = oldfiles.directory(tmp_path / "old", text)
    os.utime(source / "train_eval_results.txt", (5.0, 5.0))
    _, run = only(source, root)
    assert run.history().first_started.year == 1970 and [event.epoch for event in run.history().epochs] == [1, 2]


def test_tags_find_the_imported_runs(tmp_path, root):
    oldfiles.directory(tmp_path / "old")
    imported(tmp_path / "old", root, tags=["published"])
    assert index.summaries(root)[0][0].config.value("run.tags") == ("published",)


def test_an_imported_run_has_no_weights_to_go_on_from(tmp_path, root):
    _, run = only(oldfiles.directory(tmp_path / "old", oldfiles.epoch(1, 40.0)), root)
    with pytest.raises(UserError, match="no unfinished run"):
        resume.resumable_run(None, root)
    with pytest.raises(UserError, match="is imported"):
        resume.resumable_run(run.name, root)
