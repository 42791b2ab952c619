"""`convnn evaluate` on a small trained run: its figures are the run's own, and it writes only what it is told to."""

from __future__ import annotations

import json
import shutil

import pytest
from support import training

from convnn import predictions as prediction_files
from convnn.errors import Exit
from convnn.predictions import NAME
from convnn.worker.load_run import TrainedRun
from convnn.worker.train_run import train_run

OPTIONS = training.SMALL | {"val_share": 0.3, "augment": True, "noise": 0.5, "ema": 0.5}
OPTIONS |= {"num_epochs": 3, "lr": 0.01, "limit": 100}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return training.train(tmp_path_factory.mktemp("runs"), training.config(OPTIONS))[0]


@pytest.fixture
def evaluate(in_process, run):
    def command(*words):
        return in_process("evaluate", f"{run.path}/", "--device", "cpu", *words)

    return command


def test_a_run_keeps_the_predictions_of_its_best_epoch(run, evaluate):
    written = (run.path / NAME).read_bytes()
    predictions, best = prediction_files.read(run.path), run.history(steps=False).best("val_top1")
    assert predictions.epoch == best[1] and predictions.split == "test"
    recorded = run.history(steps=False).epochs[best[1] - 1].metrics["test_top1"]
    assert 100 * predictions.is_correct.mean() == pytest.approx(recorded)
    code, out, _ = evaluate("--json")
    document = json.loads(out)
    assert code == 0 and (run.path / NAME).read_bytes() == written
    assert sum(row["correct"] for row in document["classes"]) == predictions.is_correct.sum()
    assert document["figures"]["test_top1"] == pytest.approx(recorded)
    assert evaluate("--save")[0] == 0
    assert (run.path / NAME).read_bytes() == written


@pytest.mark.parametrize("split", ["val", "train"])
def test_another_split_is_evaluated_image_by_image_without_augmentation(run, evaluate, split):
    document = json.loads(evaluate("--split", split, "--json", "--worst", "3", "--checkpoint", "last")[1])
    again = json.loads(evaluate("--split", split, "--json", "--worst", "3", "--checkpoint", "last")[1])
    assert document == again
    figures = document["figures"]
    correct, images = (sum(row[key] for row in document["classes"]) for key in ("correct", "images"))
    assert images == document["images"] == {"val": 30, "train": 70}[split]
    assert figures[f"{split}_top1"] == pytest.approx(100 * correct / images)
    from convnn.worker.inspect_run import image_of_split

    for row in document["worst"]:
        assert image_of_split(TrainedRun(run), "last", split, row["image"]).label == row["class"]


def test_the_report_names_classes_confusions_calibration_and_images(evaluate):
    code, out, _ = evaluate("--sort", "errors", "--worst", "2", "--ema")
    assert code == 0 and "ema" in evaluate("--ema", "--json")[1]
    for title in ("classes, most errors first", "confusion matrix", "calibration: expected", "worst images"):
        assert title in out
    assert out.count("test image ") == 2


@pytest.mark.parametrize(
    "words", [("--split", "tset"), ("--sort", "name"), ("--save", "--split", "val"), ("--worst", "-1")]
)
def test_a_wrong_flag_is_refused_before_torch_is_loaded(evaluate, words):
    code, _, err = evaluate(*words)
    assert code == 2 and "evaluating" not in err


def test_the_predictions_of_other_images_are_not_saved(run, evaluate, tmp_path, in_process):
    copy = shutil.copytree(run.path, tmp_path / run.path.name)
    digest, events = run.history(steps=False).started.data_digest["test"], copy / "events.jsonl"
    events.write_text(events.read_text().replace(digest, digest[::-1]))
    line = ("evaluate", f"{copy}/", "--device", "cpu")
    code, _, err = in_process(*line, "--save", "--json")
    assert code == Exit.DATA and (copy / NAME).read_bytes() == (run.path / NAME).read_bytes()
    code, _, err = in_process(*line)
    assert code == 0 and "not those of the run" in err


def test_options_that_change_no_evaluation_are_refused_or_said(run, evaluate, in_process):
    assert evaluate("--use_compiled")[0] == evaluate("--processes", "2")[0] == Exit.USAGE
    line = ("run", "--test_only", "--run", f"{run.path}/", "--device", "cpu")
    code, _, err = in_process(*line, "--use_compiled", "--processes", "2")
    assert code == 0
    assert {"runtime.compile", "runtime.processes"} <= set(err.split())


def test_statistics_of_training_that_a_checkpoint_lacks_are_not_promised(tmp_path, in_process):
    run, _ = training.train(tmp_path, training.config(OPTIONS, num_epochs=1, bn_recalibrate=2))
    line = ("evaluate", f"{run.path}/", "--device", "cpu", "--worst", "0")
    assert "BatchNorm's statistics of 2 training batches" in in_process(*line, "--bn_recalibrate", "0")[2]
    assert "BatchNorm" not in in_process(*line, "--bn_recalibrate", "2")[2]


def test_saved_predictions_say_which_weights_they_are_of(run, evaluate):
    before = (run.path / NAME).read_bytes()
    assert evaluate("--save", "--ema", "--checkpoint", "last", "--bn_recalibrate", "2")[0] == 0
    saved = prediction_files.read(run.path)
    assert saved.source == "averaged weights of epoch 3, BatchNorm from 2 batches on the test images"
    (run.path / NAME).write_bytes(before)


def test_averaged_weights_and_new_statistics_have_the_figures_that_a_run_records(tmp_path, run, evaluate):
    words = ("--checkpoint", "last", "--json")
    averaged = json.loads(evaluate("--ema", *words)[1])["figures"]
    recorded = run.history(steps=False).epochs[-1].metrics
    assert averaged == pytest.approx({name: recorded[name] for name in averaged}) and "ema_test_top1" in averaged
    with_option, _ = training.train(tmp_path, training.config(OPTIONS, bn_recalibrate=2))
    recorded = with_option.history(steps=False).epochs[-1].metrics
    for flags in ((), ("--ema",)):
        figures = json.loads(evaluate("--bn_recalibrate", "2", *flags, *words)[1])["figures"]
        assert figures == pytest.approx({name: recorded[name] for name in figures})


def test_a_run_that_is_stopped_and_resumed_keeps_the_same_predictions(tmp_path):
    options = training.config(num_epochs=3, limit=40, lr=0.02)
    whole, _ = training.train(tmp_path, options)
    expected = prediction_files.read(whole.path)
    assert expected.epoch == whole.history(steps=False).best("test_top1")[1]
    for look in (4, 9):  # within an epoch and within an evaluation
        stopped, _ = training.train(tmp_path, options, commands=training.StopAt(look))
        (stopped.path / f".{NAME}.0123.tmp").write_bytes(b"cut off")
        training.resume(stopped)
        assert (stopped.path / NAME).read_bytes() == (whole.path / NAME).read_bytes()
        assert not list(stopped.path.glob(".*.tmp"))


def test_a_file_that_cannot_be_written_stops_no_run(tmp_path):
    run_config = training.config(num_epochs=1, limit=40)
    run = training.create(tmp_path, run_config)
    (run.path / NAME).mkdir()  # which no file replaces
    result = train_run(run, run_config)
    assert result.code == 0
    assert [event.message for event in run.history().warnings if NAME in event.message]
