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
from convnn.runs import event_log, find, resume, summary_cache
from convnn.runs import run as runs_run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def import_all(source, root, **options):
    return list(import_tree(source, root, **options))


def import_one(source, root):
    (outcome,) = import_all(source, root)
    return outcome, find.find_run(outcome.name, root)


def test_a_directory_becomes_a_run_with_its_configuration_curves_times_and_origin(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old" / "Branching_K9_br0500_s42")
    outcome, run = import_one(source, root)
    assert outcome.outcome == "new" and outcome.reason is None and outcome.skipped == () and outcome.epochs == 3
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
    (summary,) = summary_cache.summaries(root)[0]
    assert summary.source == str(source) and summary.not_launchable_reason is None


def test_the_lines_are_those_that_the_event_log_writes(tmp_path, root):
    _, run = import_one(oldfiles.directory(tmp_path / "old", oldfiles.epoch(1, 10.0, loss="nan")), root)
    lines = run.events_path.read_text().splitlines()
    for line, event in zip(lines, event_log.EventReader().read(run.events_path)[0], strict=True):
        imported, logged = json.loads(line), json.loads(event_log.event_line(event))
        assert imported == {name: logged[name] for name in imported}
        assert all(logged[name] in (None, "", [], {}) for name in logged.keys() - imported.keys())
    assert math.isnan(run.history().epochs[0].metrics["train_loss"])


def test_a_tree_is_imported_in_one_pass_and_the_second_adds_nothing(tmp_path, root):
    for seed in range(3):
        oldfiles.directory(tmp_path / "old" / "VGG" / f"s{seed}", seed=seed)
    first, second = import_all(tmp_path / "old", root), import_all(tmp_path / "old", root)
    assert [outcome.outcome for outcome in first] == ["new"] * 3 and [outcome.outcome for outcome in second] == [
        "known"
    ] * 3
    assert [outcome.name for outcome in first] == [outcome.name for outcome in second]
    assert len(find.list_runs(root)[0]) == 3 and not list(root.glob(".importing*"))
    (tmp_path / "old").rename(tmp_path / "moved")
    assert {outcome.outcome for outcome in import_all(tmp_path / "moved", root)} == {"known"}


def test_a_run_that_was_cut_short_has_died_and_is_updated_when_it_grew(tmp_path, root):
    whole = oldfiles.results(40.0, 60.0, 55.0)
    source = oldfiles.directory(tmp_path / "old", "".join(whole.splitlines(keepends=True)[:2]))
    outcome, run = import_one(source, root)
    assert run.status() == "died" and outcome.epochs == 1
    before = run.events_path.read_bytes()
    (source / "train_eval_results.txt").write_text(whole)
    again, same = import_one(source, root)
    assert again.outcome == "grown" and same == run and again.epochs == 3 and run.status() == "done"
    assert run.events_path.read_bytes().startswith(before)
    assert run.history().series("test_top1", "seconds") == ([16.0, 32.0, 48.0], [40.0, 60.0, 55.0])
    assert import_all(source, root)[0].outcome == "known"
    assert summary_cache.summaries(root)[0][0].epoch == 3


def test_a_finished_run_that_grew_continues_where_it_ended(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    _, run = import_one(source, root)
    (source / "train_eval_results.txt").write_text(oldfiles.results(40.0, 60.0, 55.0, 70.0))
    outcome, _ = import_one(source, root)
    assert outcome.outcome == "grown" and run.status() == "done"
    assert run.history().series("test_top1", "seconds") == ([16.0, 32.0, 48.0, 64.0], [40.0, 60.0, 55.0, 70.0])


def test_another_run_in_the_same_directory_is_another_run(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    _, first = import_one(source, root)
    (source / "train_eval_results.txt").write_text(oldfiles.results(41.0, 61.0))
    outcome, second = import_one(source, root)
    assert outcome.outcome == "new" and second != first and first.history().best() == (60.0, 2)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"K": 0}, "layer.K is 0"),
        ({"layer": "ConvNN_Spatial"}, "layer.type is 'ConvNN_Spatial'"),
        ({"sampling_type": "spatial", "num_samples": 2}, "9 candidates"),
        ({"lr": ...}, "args.txt lacks lr"),
        ({"momentum": ..., "lr_step": ..., "attention_dropout": ...}, None),  # without effect here
        ({"K": "9" * 400}, "layer.K is"),
        ({"lr": "nan"}, "optimizer.lr is nan"),
        ({"batch_size": True}, "training.batch_size is true"),
    ],
)
def test_what_our_rules_refuse_is_kept_with_the_reason(tmp_path, root, changed, reason):
    outcome, run = import_one(oldfiles.directory(tmp_path / "old", **changed), root)
    (summary,), warnings = summary_cache.summaries(root)
    assert warnings == [] and run.history().best() == (60.0, 2)
    assert (outcome.reason is None and reason is None) or reason in outcome.reason
    assert summary.not_launchable_reason == outcome.reason and json.dumps(summary.json(), allow_nan=False)
    assert summary.config.key and summary.config.inactive is not None


def test_a_directory_without_arguments_is_read_and_cannot_be_launched(tmp_path, root):
    source = oldfiles.directory(tmp_path / "old")
    (source / "args.txt").unlink()
    outcome, run = import_one(source, root)
    assert outcome.reason and "args.txt" in outcome.reason and "args.txt" in {line.file for line in outcome.skipped}
    assert run.history().best() == (60.0, 2) and run.status() == "done"


def test_the_arguments_are_believed_and_a_contradicting_name_is_reported(tmp_path, root):
    outcome, run = import_one(oldfiles.directory(tmp_path / "Branching_K4_br0250_s7", K=9), root)
    assert run.config().layer.K == 9
    assert [line.why.split()[0] for line in outcome.skipped] == ["K", "branch_ratio", "seed"]


def test_links_hidden_folders_and_our_own_runs_are_not_imported(tmp_path, root):
    oldfiles.directory(tmp_path / "old" / "real")
    oldfiles.directory(tmp_path / "old" / ".trash" / "gone")
    (tmp_path / "secret").write_text(oldfiles.results(1.0))
    (tmp_path / "old" / "linked").mkdir()
    (tmp_path / "old" / "linked" / "train_eval_results.txt").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "old" / "linked" / "args.txt")
    assert [outcome.source.name for outcome in import_all(tmp_path / "old", root)] == ["real"]
    with pytest.raises(UserError, match="holds no train_eval_results"):
        import_all(root, tmp_path / "others")


def test_unreadable_files_are_reported_and_the_rest_is_imported(tmp_path, root, monkeypatch):
    source = oldfiles.directory(tmp_path / "old")
    whole = importer._read

    def read(path):
        if path.name == "args.txt":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(importer, "_read", read)  # the superuser may read everything
    outcome, run = import_one(source, root)
    assert any("Permission denied" in line.why for line in outcome.skipped) and run.history().best() == (60.0, 2)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.torture)])
def test_truncated_at_any_byte_each_is_imported_without_an_exception(tmp_path, root, stride):
    data = (oldfiles.COMPLEXITY + oldfiles.epoch(1, 40.0) + oldfiles.epoch(2, 60.0)).encode()
    text = oldfiles.args(num_epochs=2)
    for end in range(0, len(data), stride):
        oldfiles.directory(tmp_path / "results" / str(end), data[:end].decode(), num_epochs=2)
    for end in range(0, len(text), stride):
        path = oldfiles.directory(tmp_path / "args" / str(end), oldfiles.results(40.0, 60.0))
        (path / "args.txt").write_text(text[:end])
    outcomes = import_all(tmp_path / "results", root) + import_all(tmp_path / "args", root)
    runs, warnings = summary_cache.summaries(root)
    assert warnings == [] and {outcome.name for outcome in outcomes} == {run.name for run in runs}
    assert {run.epoch for run in runs} == {0, 1, 2}
    assert {run.status for run in runs if run.epoch < 2} == {"died"}
    launchable = [run for run in runs if run.not_launchable_reason is None and "args" in run.source]
    assert all(run.config.value("optimizer.lr") == 1e-4 for run in launchable)


def test_old_dates_and_impossible_times_are_imported(tmp_path, root):
    text = oldfiles.epoch(1, 40.0, seconds=1e300) + oldfiles.epoch(2, 50.0, seconds=float("inf"))
    source = oldfiles.directory(tmp_path / "old", text)
    os.utime(source / "train_eval_results.txt", (5.0, 5.0))
    _, run = import_one(source, root)
    assert run.history().first_started.year == 1970 and [event.epoch for event in run.history().epochs] == [1, 2]


def test_tags_find_the_imported_runs(tmp_path, root):
    oldfiles.directory(tmp_path / "old")
    import_all(tmp_path / "old", root, tags=["published"])
    assert summary_cache.summaries(root)[0][0].config.value("run.tags") == ("published",)


def test_an_imported_run_cannot_be_resumed(tmp_path, root):
    _, run = import_one(oldfiles.directory(tmp_path / "old", oldfiles.epoch(1, 40.0)), root)
    with pytest.raises(UserError, match="no unfinished run"):
        resume.resumable_run(None, root)
    with pytest.raises(UserError, match="is imported"):
        resume.resumable_run(run.name, root)
