"""A table of figures becomes a run."""

from __future__ import annotations

import csv

import pytest
from support.runs import epoch, new

from convnn.config.schema import RunConfig
from convnn.errors import UserError
from convnn.events import Finished, Started
from convnn.legacy.csv_file import import_csv
from convnn.runs import export, find, index
from convnn.runs import summary as runs_summary

COLUMNS = {"epoch": "Epoch", "test_top1": "acc", "test_loss": "loss"}
TEXT = "Epoch,acc,loss,other\n1,40.5,1.5,x\n2,50.5,,x\n\n3,oops,1.1,x\nnone,1,1,x\n4,60.25,nan,x\n3,1,1,x\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def written(tmp_path, text=TEXT):
    path = tmp_path / "figures.csv"
    path.write_text(text)
    return path


def test_its_columns_become_metrics_and_what_is_none_is_said(tmp_path, root):
    told = import_csv(written(tmp_path), root, COLUMNS, tags=["theirs"])
    run = find.find(told.name, root)
    assert run.history().series("test_top1") == ([1.0, 2.0, 4.0], [40.5, 50.5, 60.25])
    assert run.history().series("test_loss")[0] == [1.0, 3.0, 4.0] and run.status() == "done"
    assert [each.line for each in told.passed] == [5, 6, 8]
    (summary,) = index.summaries(root)[0]
    assert "no configuration" in summary.not_launchable_reason and summary.config.value("run.tags") == ("theirs",)
    assert "layer" not in summary.config and summary.source.endswith("figures.csv")


def test_the_second_time_adds_nothing_and_a_configuration_can_be_named(tmp_path, root):
    first = import_csv(written(tmp_path), root, COLUMNS, config=RunConfig())
    assert import_csv(written(tmp_path), root, COLUMNS, config=RunConfig()).outcome == "known"
    run = find.find(first.name, root)
    assert run.config() == RunConfig() and runs_summary.summarise(run).not_launchable_reason is None


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        (TEXT, {**COLUMNS, "test_top1": "ac"}, "has no column ac for test_top1. Did you mean acc?"),
        (TEXT, {"epoch": "Epoch"}, "no figure is asked for"),
        ("Epoch,acc,loss\n", COLUMNS, "no line with an epoch"),
        ("", COLUMNS, "is empty"),
        ("a,b\n1,2\n", COLUMNS, "has no column Epoch"),
        ("\x00\x00", COLUMNS, ""),
    ],
)
def test_what_is_no_table_of_figures_is_refused(tmp_path, root, text, columns, words):
    with pytest.raises(UserError) as refused:
        import_csv(written(tmp_path, text), root, columns)
    assert words in str(refused.value) and not root.exists()


def test_a_file_that_grew_is_brought_up_to_date_and_short_of_its_epochs_it_is_a_run_cut_short(tmp_path, root):
    config = RunConfig.model_validate({"training": {"num_epochs": 3}})
    first = import_csv(written(tmp_path, "Epoch;acc;loss\n0;40;1\n1;50;1\n"), root, COLUMNS, config=config)
    assert find.find(first.name, root).status() == "died"
    text = "Epoch;acc;loss\n0;40;1\n1;50;1\n2;60;1\n"
    again = import_csv(written(tmp_path, text), root, COLUMNS, config=config)
    assert (again.outcome, again.name) == ("grown", first.name) and len(find.list_runs(root)[0]) == 1
    assert find.find(first.name, root).status() == "done" and find.find(first.name, root).history().best() == (60.0, 2)
    assert import_csv(written(tmp_path, text), root, COLUMNS, config=config).outcome == "known"


def test_accuracies_that_look_like_fractions_are_pointed_out(tmp_path, root):
    told = import_csv(written(tmp_path, "Epoch,acc,loss\n1,0.5,1\n2,0.75,1\n"), root, COLUMNS)
    assert "percent" in told.passed[0].why


def test_what_is_exported_is_imported_as_it_was(tmp_path, root):
    run = new(root, Started(), epoch(1, 50.0), epoch(2, 62.5), Finished(outcome="done"))
    (tmp_path / "out.csv").write_text(export.csv_text(run.history(steps=False)))
    with (tmp_path / "out.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    told = import_csv(
        tmp_path / "out.csv", root, {"epoch": "epoch", "test_top1": "test_top1", "test_loss": "test_loss"}
    )
    again = find.find(told.name, root).history()
    assert [event.metrics for event in again.epochs] == [event.metrics for event in run.history().epochs]


def test_a_tensorboard_log_holds_every_figure(tmp_path, root):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = new(root, Started(), epoch(1, 50.0), epoch(2, 62.5), Finished(outcome="done"))
    log = accumulator.EventAccumulator(str(export.write_tensorboard(run, tmp_path / "logs")))
    log.Reload()
    assert [(each.step, each.value) for each in log.Scalars("epoch/test_top1")] == [(1, 50.0), (2, 62.5)]
    with pytest.raises(UserError, match="exists"):
        export.write_tensorboard(run, tmp_path / "logs")
