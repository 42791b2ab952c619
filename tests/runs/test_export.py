"""An export holds every value of a run, in the form that other programs read."""

from __future__ import annotations

import csv
import io
import math
import sys

import pytest
from support.runs import epoch, new

from convnn.errors import UserError
from convnn.events import Epoch, Finished, Started, Step
from convnn.runs.export import csv_text, epoch_rows, step_rows, write_tensorboard


def test_the_csv_text_has_a_row_per_epoch_and_a_column_per_metric(tmp_path):
    run = new(tmp_path, Started(), epoch(1, 50.0), Epoch(epoch=2, step=2, metrics={"lr": 0.1, "test_top1": 62.5}))
    rows = list(csv.DictReader(io.StringIO(csv_text({"a": epoch_rows(run.history(steps=False))}))))
    assert [(row["epoch"], row["step"], row["test_top1"], row["test_loss"], row["lr"]) for row in rows] == [
        ("1", "1", "50.0", "50.0", ""),
        ("2", "2", "62.5", "", "0.1"),
    ]


def test_the_csv_text_of_several_runs_names_the_run_of_each_row_and_escapes_names(tmp_path):
    runs = {"a\x1b": [{"epoch": 1, "x\x1b": 2.0}], "b": [{"epoch": 1, "y": math.nan}]}
    text = csv_text(runs)
    assert list(csv.reader(io.StringIO(text))) == [
        ["run", "epoch", "x\\x1b", "y"],
        ["a\\x1b", "1", "2.0", ""],
        ["b", "1", "", "nan"],
    ]


def test_steps_are_rows_with_the_values_that_were_recorded(tmp_path):
    run = new(tmp_path, Started(), Step(epoch=1, step=1, loss=1.5, lr=0.1), Step(epoch=1, step=2, loss=math.inf))
    rows = step_rows(run.history())
    assert [(row["step"], row["loss"], row.get("lr")) for row in rows] == [(1, 1.5, 0.1), (2, math.inf, None)]


def test_a_tensorboard_log_holds_every_finite_value_with_its_step_and_time(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    steps = [Step(epoch=1, step=1, loss=1.5, lr=0.1), Step(epoch=1, step=2, loss=math.nan)]
    run = new(tmp_path / "runs", Started(), *steps, epoch(1, 50.0), epoch(2, 62.5), Finished(outcome="done"))
    log = accumulators.EventAccumulator(str(write_tensorboard(run, tmp_path / "logs")))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"step/loss", "step/lr", "epoch/test_top1", "epoch/test_loss"}
    assert [(scalar.step, scalar.value) for scalar in log.Scalars("epoch/test_top1")] == [(1, 50.0), (2, 62.5)]
    (loss,) = log.Scalars("step/loss")
    assert (loss.step, loss.value, loss.wall_time) == (1, 1.5, pytest.approx(steps[0].time.timestamp(), abs=1e-3))
    with pytest.raises(UserError, match="exists"):
        write_tensorboard(run, tmp_path / "logs")


def test_without_tensorboard_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError) as refused:
        write_tensorboard(new(tmp_path / "runs", Started()), tmp_path / "logs")
    assert "convnn[tensorboard]" in refused.value.problems[0].fix
