"""Runs side by side: the options that differ and have an effect, metrics at equal points, tables and notes."""

from __future__ import annotations

import math

import pytest
from support import event_streams, old_results

from convnn.analysis.comparison import (
    ComparedRun,
    MetricRow,
    OptionDifference,
    compare,
    letters,
    metric_rows,
    option_differences,
)
from convnn.analysis.comparison_report import caveats, notes, tables, value_texts, verdicts
from convnn.config.recorded import NO_EFFECT
from convnn.events import CodeState, Epoch, Finished, Started
from convnn.legacy.importer import import_tree
from convnn.runs import run as runs_run
from convnn.runs import summary, summary_cache
from convnn.runs.event_log import append_event
from convnn.tables import lines
from convnn.text import prefixed


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def old(tmp_path, root, name, *top1, seconds=16.0, **options):
    """An imported run; top1 by epoch."""
    text = old_results.COMPLEXITY + "".join(old_results.epoch(n, v, seconds=seconds) for n, v in enumerate(top1, 1))
    old_results.directory(tmp_path / "old" / name, text, num_epochs=len(top1), **options)
    list(import_tree(tmp_path / "old" / name, root))
    return next(run for run in summary_cache.summaries(root)[0] if name in run.name)


def row_values(runs, name, point):
    """The values of the one row with that name and end of the point."""
    (row,) = [row for row in metric_rows(runs, "test_top1") if row.name == name and row.point.endswith(point)]
    return row.values


def test_only_what_differs_and_has_an_effect_is_a_difference(tmp_path, root):
    a = old(tmp_path, root, "a", 40.0, branch_ratio=0.0, K=4, seed=1)
    b = old(tmp_path, root, "b", 40.0, branch_ratio=0.5, attention_dropout=0.3, seed=2)
    values = dict(option_differences([a, b]))
    assert values["branching.ratio"] == [0.0, 0.5] and values["layer.K"] == [NO_EFFECT, 9]
    assert OptionDifference("layer.K", values["layer.K"]).json()["values"] == [None, 9]
    assert values["training.seed"] == [1, 2]
    assert not {"layer.attention_dropout", "optimizer.lr", "layer.kernel_size"} & values.keys()
    assert option_differences([a, a]) == []


def test_which_direction_of_a_metric_counts_as_best_is_said_where_it_is_not_plain(root):
    metrics = {"test_top1": 50.0, "test_loss": 2.0, "branch_gradient": 40.0}
    runs = []
    for number in (1, 2):
        path = root / f"2026010{number}-000000-x-000{number}"
        path.mkdir(parents=True)
        (path / "config.toml").write_text("[layer]\nK = 5\n")
        append_event(path / "events.jsonl", Epoch(epoch=1, step=1, metrics=metrics))
        runs.append(summary.summarize(runs_run.Run(path, path.name)))
    by_metric = {metric: [note for note in notes(compare(runs, metric=metric)) if metric in note] for metric in metrics}
    assert by_metric == {
        "test_top1": [],
        "test_loss": ["lower is better for test_loss"],
        "branch_gradient": ["best is the highest branch_gradient, of which neither direction is known to be better"],
    }


def test_runs_of_different_commits_are_named(root):
    summaries = []
    for number, commit in enumerate(["a" * 40, "b" * 40, None, "a" * 40]):
        path = root / f"2026010{number + 1}-000000-x-000{number}"
        path.mkdir(parents=True)
        (path / "config.toml").write_text("[layer]\nK = 5\n")
        for event in (Started(git_commit=commit), Epoch(epoch=1, step=1, metrics={"test_top1": 50.0})):
            append_event(path / "events.jsonl", event)
        summaries.append(summary.summarize(runs_run.Run(path, path.name)))
    (note,) = [note for note in notes(compare(summaries)) if "commit" in note]
    assert "A+D at aaaaaaaaaaaa, B at bbbbbbbbbbbb" in note
    assert not any("commit" in note for note in notes(compare([summaries[0], *summaries[2:]])))


def test_runs_of_one_commit_with_other_changes_are_named(root):
    summaries = []
    changes = [
        {"dirty": False},
        {"dirty": True, "diff_sha256": "c" * 64},
        None,
        {"dirty": True, "diff_sha256": "c" * 64},
    ]
    for number, state in enumerate(changes):
        path = root / f"2026010{number + 1}-000000-x-000{number}"
        path.mkdir(parents=True)
        (path / "config.toml").write_text("[layer]\nK = 5\n")
        code = None if state is None else CodeState(commit="a" * 40, **state)
        for event in (Started(git_commit="a" * 40, code=code), Epoch(epoch=1, step=1, metrics={"test_top1": 50.0})):
            append_event(path / "events.jsonl", event)
        summaries.append(summary.summarize(runs_run.Run(path, path.name)))
    (note,) = [note for note in notes(compare(summaries)) if "the code" in note]
    assert "(A without changes, B+D with the changes cccccccccccc)" in note
    assert [compare(pair).code_differs for pair in (summaries[:2], summaries[1:3], summaries[1::2])] == [
        True,
        None,
        False,
    ]
    assert not [note for note in notes(compare(summaries[1:])) if "the code" in note]


def test_an_option_that_a_run_did_not_record_is_no_difference(root):
    a, b, c = event_streams.run("a", K=9), event_streams.run("b", K=12), event_streams.run("c", layer=None)
    assert option_differences([a, c]) == []
    (difference,) = option_differences([a, b, c])
    assert difference.json() == {"option": "layer.K", "values": [9, 12, "?"]}
    assert any(caveat.startswith("B did not record") for caveat in caveats(compare([a, c])))


def test_counts_are_short_and_values_that_are_not_finite_have_no_difference():
    assert [prefixed(count) for count in (0, 0.4, 2349, 7.5e6, 1.4e16)] == ["0", "0.4", "2,349", "7.5 M", "14 P"]
    assert value_texts(MetricRow("test_loss", "last epoch", [1.0, math.inf])) == ["1.0000", "inf"]


def test_metrics_are_taken_where_equal_epochs_seconds_images_and_flops_were_spent(tmp_path, root):
    fast = old(tmp_path, root, "fast", 40.0, 50.0, 45.0, 60.0, seconds=10.0, branch_ratio=0.0)
    slow = old(tmp_path, root, "slow", 45.0, 55.0, 65.0, seconds=20.0, branch_ratio=1.0)
    both = [ComparedRun.read(fast), ComparedRun.read(slow)]
    assert row_values(both, "test_top1", "last epoch") == [60.0, 65.0]
    assert row_values(both, "test_top1", "best on test") == [60.0, 65.0]
    assert row_values(both, "epoch", "best on test") == [4, 3]
    assert row_values(both, "test_top1", "3 epochs") == [45.0, 65.0]
    assert row_values(both, "test_top1", "40 seconds") == [60.0, 55.0]
    assert row_values(both, "test_top1", "images") == [45.0, 65.0]
    flops = row_values(both, "FLOPs an image", "forward")
    assert flops[0] < flops[1] and both[0].costs("FLOPs")[0] == 3 * 50_000 * flops[0]
    assert both[1].costs("FLOPs")[0] == 50_000 * both[1].plan.training_flops < 3 * 50_000 * flops[1]
    assert row_values(both, "parameters", "all")[0] == 130_015_690
    assert row_values(both, "s an epoch", "of training") == [10.0, 20.0]


def test_flops_are_unknown_where_the_configuration_cannot_be_launched(tmp_path, root):
    a, b = old(tmp_path, root, "a", 40.0, K=0), old(tmp_path, root, "b", 40.0)
    both = [ComparedRun.read(a), ComparedRun.read(b)]
    assert row_values(both, "FLOPs an image", "forward")[0] is None
    assert not [row for row in metric_rows(both, "test_top1") if row.point.endswith("FLOPs")]


def test_runs_on_a_validation_share_are_decided_by_it_and_not_called_best_on_test(root):
    runs = []
    for top1 in (50.0, 60.0):
        run = runs_run.create_run('[run]\nname = "none"\n', model="vgg11", layer="ConvNN", root=root)
        metrics = {"val_top1": top1, "test_top1": top1 - 5}
        for event in (Started(), Epoch(epoch=1, step=1, metrics=metrics), Finished(outcome="done")):
            append_event(run.events_path, event)
        runs.append(summary.summarize(run))
    comparison = compare(runs)
    assert comparison.metric == "val_top1" and "best" in {row.point for row in comparison.metric_rows}
    assert not any("best on test" in caveat for caveat in caveats(comparison))


def test_tables_have_signed_differences_to_the_first_run(tmp_path, root):
    a = old(tmp_path, root, "a", 40.0, 82.0, branch_ratio=0.25)
    b = old(tmp_path, root, "b", 40.0, 82.5, branch_ratio=0.5)
    comparison = compare([b, a])
    text = "\n".join(line for table in tables(comparison) for line in [table.title, *lines(table, 80)[0]])
    text = " ".join(text.split())
    assert "best on test 82.50 82.00 (-0.50)" in text and "branching.ratio 0.5 0.25" in text and "as published" in text
    sentences = "\n".join([*caveats(comparison), *notes(comparison), *verdicts(comparison)])
    assert "B - A: -0.50 points" in sentences and "2511.14137" in sentences and "best on test" in sentences


def test_repeats_are_grouped_and_compared_as_groups(tmp_path, root):
    runs = [
        old(tmp_path, root, f"k{k}s{seed}", top1, K=k, seed=seed)
        for k, values in ((9, (80.0, 80.4, 80.2)), (4, (84.0, 84.4)))
        for seed, top1 in enumerate(values)
    ]
    document = compare(runs).json()
    first, second = document["groups"]
    assert first["n"] == 3 and first["mean"] == pytest.approx(80.2) and first["against_first"] is None
    assert second["against_first"]["distinguishable"] and second["against_first"]["low"] > 2
    assert {difference["option"] for difference in document["differences"]} == {"layer.K", "training.seed"}
    assert len(document["runs"]) == 5 and all(len(row["values"]) == 5 for row in document["figures"])


def test_letters_continue_after_z():
    assert letters(3) == ["A", "B", "C"] and letters(28)[25:] == ["Z", "AA", "AB"]
