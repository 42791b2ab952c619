"""Runs side by side: only what differs and has an effect, and figures at points that are equal for all."""

from __future__ import annotations

import math

import pytest
from support import event_streams as told
from support import old_results as oldfiles

from convnn.analysis.comparison import ComparedRun, MetricRow, metric_rows, option_differences
from convnn.analysis.comparison_report import Comparison, letters
from convnn.events import Epoch, Finished, Started
from convnn.legacy.importer import import_tree
from convnn.runs import index, summary
from convnn.runs import run as runs_run
from convnn.runs.event_log import append_event
from convnn.tables import lines
from convnn.text import short


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def old(tmp_path, root, name, *top1, seconds=16.0, **options):
    """An imported run; top1 by epoch."""
    text = oldfiles.COMPLEXITY + "".join(oldfiles.epoch(n, v, seconds=seconds) for n, v in enumerate(top1, 1))
    oldfiles.directory(tmp_path / "old" / name, text, num_epochs=len(top1), **options)
    list(import_tree(tmp_path / "old" / name, root))
    return next(each for each in index.summaries(root)[0] if name in each.name)


def value(compared, figure, at):
    (found,) = [each for each in metric_rows(compared, "test_top1") if each.figure == figure and each.at.endswith(at)]
    return found.values


def test_only_what_differs_and_has_an_effect_is_a_difference(tmp_path, root):
    a = old(tmp_path, root, "a", 40.0, branch_ratio=0.0, K=4, seed=1)
    b = old(tmp_path, root, "b", 40.0, branch_ratio=0.5, attention_dropout=0.3, seed=2)
    found = {each.option: each.values for each in option_differences([a, b])}
    assert found["branching.ratio"] == [0.0, 0.5] and found["layer.K"] == [None, 9] and found["training.seed"] == [1, 2]
    assert "layer.attention_dropout" not in found and "optimizer.lr" not in found and "layer.kernel_size" not in found
    assert option_differences([a, a]) == []


def test_what_a_run_does_not_tell_is_no_difference_and_is_said(root):
    a, b, c = told.run("a", K=9), told.run("b", K=12), told.run("c", layer=None)
    assert option_differences([a, c]) == []
    (found,) = option_differences([a, b, c])
    assert found.json() == {"option": "layer.K", "values": [9, 12, "?"]}
    assert any("B does not tell" in word for word in Comparison.of([a, c], [], "best", None, 1.0).words())


def test_points_and_counts_are_readable_and_what_is_not_finite_has_no_difference(root):
    assert [short(each) for each in (0, 0.4, 2349, 7.5e6, 1.4e16)] == ["0", "0.4", "2,349", "7.5 M", "14 P"]
    figure = MetricRow("test_loss", "last epoch", [1.0, math.inf])
    pair = Comparison.of([told.run("a"), told.run("b")], [], "best", None, 1.0)
    assert pair._values(figure) == ["1.0000", "inf"]


def test_figures_are_taken_where_equal_epochs_seconds_images_and_flops_were_spent(tmp_path, root):
    fast = old(tmp_path, root, "fast", 40.0, 50.0, 45.0, 60.0, seconds=10.0, branch_ratio=0.0)
    slow = old(tmp_path, root, "slow", 45.0, 55.0, 65.0, seconds=20.0, branch_ratio=1.0)
    both = [ComparedRun.of(fast), ComparedRun.of(slow)]
    assert value(both, "test_top1", "last epoch") == [60.0, 65.0]
    assert value(both, "test_top1", "best on test") == [60.0, 65.0]
    assert value(both, "epoch", "best on test") == [4, 3]
    assert value(both, "test_top1", "3 epochs") == [45.0, 65.0]
    assert value(both, "test_top1", "40 seconds") == [60.0, 55.0]
    assert value(both, "test_top1", "images") == [45.0, 65.0]
    flops = value(both, "FLOPs an image", "forward")
    assert flops[0] < flops[1] and both[0].spent("FLOPs")[0] == 3 * 50_000 * flops[0]
    assert value(both, "parameters", "all")[0] == 130_015_690
    assert value(both, "s an epoch", "of training") == [10.0, 20.0]


def test_flops_are_unknown_where_the_configuration_cannot_be_launched(tmp_path, root):
    a, b = old(tmp_path, root, "a", 40.0, K=0), old(tmp_path, root, "b", 40.0)
    both = [ComparedRun.of(a), ComparedRun.of(b)]
    assert value(both, "FLOPs an image", "forward")[0] is None
    assert not [each for each in metric_rows(both, "test_top1") if each.at.endswith("FLOPs")]


def test_runs_on_a_validation_share_are_decided_by_it_and_not_called_best_on_test(root):
    found = []
    for top1 in (50.0, 60.0):
        run = runs_run.create_run('[run]\nname = "none"\n', model="vgg11", layer="ConvNN", root=root)
        metrics = {"val_top1": top1, "test_top1": top1 - 5}
        for event in (Started(), Epoch(epoch=1, step=1, metrics=metrics), Finished(outcome="done")):
            append_event(run.events_path, event)
        found.append(summary.summarize(run))
    comparison = Comparison.of(found, found, "best", None, 1.0)
    assert comparison.metric == "val_top1" and "best" in {each.at for each in comparison.figures}
    assert not any("best on test" in said for said in comparison.words())


def test_it_is_shown_with_signed_deltas_against_the_first(tmp_path, root):
    a = old(tmp_path, root, "a", 40.0, 82.0, branch_ratio=0.25)
    b = old(tmp_path, root, "b", 40.0, 82.5, branch_ratio=0.5)
    comparison = Comparison.of([b, a], [a, b], "best", None, 1.0)
    text = "\n".join(line for table in comparison.tables() for line in [table.title, *lines(table, 80)[0]])
    text = " ".join(text.split())
    assert "best on test 82.50 82.00 (-0.50)" in text and "branching.ratio 0.5 0.25" in text and "as published" in text
    words = "\n".join(comparison.words())
    assert "not distinguishable" in words and "0.44" in words and "2511.14137" in words and "best on test" in words
    chart = comparison.chart(60)
    assert chart.hidden == [] and all(line.cell_len == 60 for line in chart.lines)


def test_repeats_are_grouped_and_compared_as_groups(tmp_path, root):
    found = [
        old(tmp_path, root, f"k{k}s{seed}", top1, K=k, seed=seed)
        for k, values in ((9, (80.0, 80.4, 80.2)), (4, (84.0, 84.4)))
        for seed, top1 in enumerate(values)
    ]
    document = Comparison.of(found, found, "best", None, 1.0).json()
    first, second = document["groups"]
    assert first["n"] == 3 and first["mean"] == pytest.approx(80.2) and first["against_first"] is None
    assert second["against_first"]["distinguishable"] and second["against_first"]["low"] > 2
    assert {each["option"] for each in document["differences"]} == {"layer.K", "training.seed"}
    assert len(document["runs"]) == 5 and all(len(each["values"]) == 5 for each in document["figures"])


def test_letters_go_on_after_z():
    assert letters(3) == ["A", "B", "C"] and letters(28)[25:] == ["Z", "AA", "AB"]
