"""A fork goes on where its run was: with weights, optimizer state, schedule, epochs and time; or it does not exist."""

from __future__ import annotations

import json
import shlex
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from support import killing, training
from support.processes import convnn

from convnn.errors import Exit, UserError
from convnn.events import Finished, Started
from convnn.predictions import NAME
from convnn.runs.find import list_runs
from convnn.runs.staging import STAGING
from convnn.worker import checkpoint
from convnn.worker.crash_points import FORK_POINTS, VARIABLE
from convnn.worker.fork import fork_run

SHORT = training.SMALL | {"limit": 20, "batch_size": 10}
CHECKPOINT_POINTS = ("checkpoint.begun", "checkpoint.model", "checkpoint.optimizer", "checkpoint.renamed")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd", "scheduler": "step", "lr_step": 1, "warmup_epochs": 1},
        {"scheduler": "plateau", "val_share": 0.2},
    ],
    ids=["none", "step", "plateau"],
)
def test_more_epochs_end_as_a_run_that_had_them_from_the_start(tmp_path, options):
    short = SHORT | {"limit": 30} | options  # enough to validate on some
    run, _ = training.train(tmp_path, training.config(short, num_epochs=2))
    longer = training.config(short, num_epochs=4)
    forked, notes = fork_run(run, longer, tmp_path)
    assert notes == []
    assert (forked.path / NAME).read_bytes() == (run.path / NAME).read_bytes()
    assert training.resume(forked).finished.outcome == "done"
    whole, _ = training.train(tmp_path / "whole", longer)
    assert (forked.path / NAME).read_bytes() == (whole.path / NAME).read_bytes()
    assert forked.history().digest() == whole.history().digest()
    assert training.same_weights(forked, whole)


def test_a_run_of_an_unfinished_epoch_loses_no_step(tmp_path):
    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(3))
    longer = training.config(num_epochs=3)
    forked, _ = fork_run(run, longer, tmp_path)
    assert training.resume(forked).code == Exit.DONE
    whole, _ = training.train(tmp_path / "whole", longer)
    assert training.same_weights(forked, whole)


def test_a_cosine_schedule_spans_all_epochs(tmp_path):
    run, _ = training.train(tmp_path, training.config(SHORT, scheduler="cosine", num_epochs=2))
    longer = training.config(SHORT, scheduler="cosine", num_epochs=4)
    forked, notes = fork_run(run, longer, tmp_path)
    assert notes == ["the cosine schedule spans 4 epochs now: the learning rate was 0, it is 0.0005"]
    training.resume(forked)
    whole, _ = training.train(tmp_path / "whole", longer)
    rates = [epoch.metrics["lr"] for epoch in forked.history().epochs]
    assert rates[2:] == pytest.approx([epoch.metrics["lr"] for epoch in whole.history().epochs][2:])


def test_early_stopping_ends_a_run_as_done_whatever_came_between_and_a_fork_counts_anew(tmp_path):
    options = training.config(lr=1e-12, val_share=0.2, early_stop=2, num_epochs=30)
    run, result = training.train(tmp_path, options)
    epochs = run.history().epochs
    assert (result.finished.outcome, result.finished.cause, result.code) == ("done", "early stop", Exit.DONE)
    assert len(epochs) == 2 + run.history().best()[1] < 30
    lines = run.events_path.read_text().splitlines(keepends=True)
    run.events_path.write_text("".join(lines[:-1]))  # killed before its last word
    assert training.resume(run).finished.cause == "early stop" and len(run.history().epochs) == len(epochs)

    stopped, _ = training.train(tmp_path / "stopped", options, commands=training.StopAt(4))
    assert stopped.status() == "stopped"
    assert training.resume(stopped).finished.cause == "early stop"
    assert stopped.history().digest() == run.history().digest()

    forked, _ = fork_run(run, training.config(lr=1e-12, val_share=0.2, early_stop=2, num_epochs=40), tmp_path)
    assert training.resume(forked, commands=training.StopAt(7)).finished.outcome == "stopped"
    assert training.resume(forked).finished.cause == "early stop"
    assert len(forked.history().epochs) == len(epochs) + 2


def test_a_plateau_schedule_keeps_the_rate_that_it_cut(tmp_path):
    run, _ = training.train(tmp_path, training.config(SHORT, scheduler="plateau", num_epochs=20, lr=0.01))
    rate = run.history().epochs[-1].metrics["lr"]
    assert rate < 0.01
    for change, expected in (({}, rate), ({"weight_decay": 0.1}, rate), ({"lr": 0.5}, 0.5)):
        longer = training.config(SHORT | {"scheduler": "plateau", "num_epochs": 21, "lr": 0.01} | change)
        forked, _ = fork_run(run, longer, tmp_path)
        before = checkpoint.load_named(forked.path, "last").state.plain["scheduler"]
        training.resume(forked)
        after = checkpoint.load_named(forked.path, "last").state.plain["scheduler"]
        assert forked.history().epochs[-1].metrics["lr"] == pytest.approx(expected)
        assert after["last_epoch"] == (1 if "lr" in change else before["last_epoch"] + 1)


def test_a_finished_run_keeps_its_optimizer_unless_told_otherwise(tmp_path):
    complete, _ = training.train(tmp_path, training.config(SHORT))
    assert checkpoint.load_named(complete.path, "last").state.optimizer
    weights_only, _ = training.train(tmp_path, training.config(SHORT, keep_optimizer=False))
    assert checkpoint.load_named(weights_only.path, "last").state.optimizer is None
    forked, notes = fork_run(weights_only, training.config(SHORT, num_epochs=3), tmp_path)
    assert "kept no optimizer state" in notes[0]
    assert training.resume(forked).code == Exit.DONE


def test_the_time_axis_goes_on(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=3))
    forked, _ = fork_run(run, training.config(num_epochs=5), tmp_path)
    training.resume(forked)
    seconds, _ = forked.history().series("test_top1", "seconds")
    assert len(seconds) == 5
    assert all(later > earlier for earlier, later in zip([0.0, *seconds], seconds, strict=False))
    epochs = run.history().epochs
    assert seconds[2] == pytest.approx(sum(epoch.metrics["train_s"] + epoch.metrics["eval_s"] for epoch in epochs))


def test_a_fork_in_a_directory_of_its_own_is_linked_and_needs_an_empty_one(tmp_path):
    run, _ = training.train(tmp_path / "runs", training.config(SHORT))
    (tmp_path / "empty").mkdir()
    longer = training.config(SHORT, num_epochs=3, output_dir=str(tmp_path / "empty"))
    forked, _ = fork_run(run, longer, tmp_path / "runs")
    assert forked.path == tmp_path / "empty" and forked in list_runs(tmp_path / "runs")[0]
    with pytest.raises(UserError, match="holds a run already"):
        fork_run(run, longer, tmp_path / "runs")
    assert not list(tmp_path.rglob(f"{STAGING}*"))
    assert training.resume(forked).code == Exit.DONE


def test_a_fork_of_a_run_with_a_directory_of_its_own_gets_another(tmp_path):
    ended = convnn("run", *killing.arguments(SHORT), "--output_dir", "here", "--plain", cwd=tmp_path)
    assert ended.code == Exit.DONE, ended
    forked = convnn("resume", "here/", "--fork", "--num_epochs", "3", "--plain", cwd=tmp_path)
    assert forked.code == Exit.DONE, forked


def test_more_epochs_on_a_finished_run_name_the_fork(tmp_path):
    run, _ = training.train(tmp_path / "runs", training.config(SHORT, scheduler="cosine"))
    refused = convnn("resume", run.name, "--num_epochs", "4", cwd=tmp_path)
    assert refused.code == Exit.USAGE
    assert "the cosine schedule spans 4 epochs now: the learning rate was 0, it is 0.0005" in refused.err
    line = next(line for line in refused.err.splitlines() if "--fork" in line)
    words = shlex.split(line[line.index("convnn resume") :])[1:]
    assert words[2:] == ["--fork", "--num_epochs", "4"]
    assert convnn(*words, cwd=tmp_path).code == Exit.DONE
    assert list_runs(tmp_path / "runs")[0][0].history().epochs[-1].epoch == 4
    nothing = convnn("resume", run.name, cwd=tmp_path)
    assert nothing.code == 0 and "--fork --num_epochs 4" in nothing.err
    fewer = convnn("resume", run.name, "--num_epochs", "1", cwd=tmp_path)
    assert fewer.code == Exit.USAGE and "--fork --num_epochs 4" in fewer.err


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    run, _ = training.train(tmp_path_factory.mktemp("source") / "runs", training.config(SHORT))
    return run


@pytest.mark.parametrize("point", [*FORK_POINTS, *CHECKPOINT_POINTS, "checkpoint.renamed:2"])
def test_a_fork_that_is_killed_is_whole_or_not_there(tmp_path, source, point):
    """The best checkpoint of the source may be another than the last: the second is written in some forks only."""
    words = ["resume", f"{source.path}/", "--fork", "--num_epochs", "3", "--runs", "runs", "--plain"]
    killed = convnn(*words, cwd=tmp_path, **{VARIABLE: point})
    if killed.code == Exit.DONE:
        assert point.endswith(":2")
        return
    assert killed.code == -signal.SIGKILL, killed
    runs, warnings = list_runs(tmp_path / "runs")
    assert warnings == []
    if point == "fork.published":
        assert convnn("resume", "--runs", "runs", "--plain", cwd=tmp_path).code == Exit.DONE
    else:
        assert runs == []
        assert convnn(*words, cwd=tmp_path).code == Exit.DONE
    [forked] = list_runs(tmp_path / "runs")[0]
    assert [epoch.epoch for epoch in forked.history().epochs] == [1, 2, 3]
    whole, _ = training.train(tmp_path / "whole", training.config(SHORT, num_epochs=3))
    assert training.same_weights(forked, whole)
    assert not list((tmp_path / "runs").glob(f"{STAGING}*"))
    kinds = [type(event) for event in training.recorded_events(forked)]
    assert kinds.count(Started) == 1 and kinds[-1] is Finished


def test_a_fork_whose_weights_do_not_fit_leaves_no_run(tmp_path):
    run, _ = training.train(tmp_path, training.config(SHORT))
    for change in ({"width": 0.125}, {"layer": "ConvNN"}, {"dataset": "cifar100"}):
        with pytest.raises(UserError, match="does not fit this configuration") as caught:
            fork_run(run, training.config(SHORT, **change, num_epochs=3), tmp_path)
        assert caught.value.code == Exit.USAGE
    assert [listed.path for listed in list_runs(tmp_path)[0]] == [run.path]


@pytest.fixture
def single_tree(tmp_path):
    """Noise in two class folders without split folders: what has learned it has seen it."""
    generator = np.random.default_rng(0)
    for index in range(40):
        path = tmp_path / "images" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def digests(run):
    return run.history().started.data_digest


torture = pytest.mark.torture


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=torture),
        pytest.param({"val_share": 0.25}, marks=torture),
        {"val_share": 0.25, "limit": 20},
    ],
)
def test_a_fork_with_another_seed_is_measured_on_the_images_of_its_run(tmp_path, single_tree, options):
    data = SHORT | {"limit": None, "dataset": "folder", "data_path": str(single_tree), "seed": 0} | options
    run, _ = training.train(tmp_path, training.config(data))
    forked, _ = fork_run(run, training.config(data, seed=1, num_epochs=4), tmp_path)
    training.resume(forked, commands=training.StopAt(3))
    training.resume(forked)
    assert digests(forked) == digests(run)
    scratch, _ = training.train(tmp_path, training.config(data, seed=1))
    assert digests(scratch)["test"] != digests(run)["test"]
    again, _ = fork_run(forked, training.config(data, seed=2, num_epochs=6), tmp_path)
    training.resume(again)
    assert digests(again) == digests(run)
    evaluated = convnn("evaluate", f"{again.path}/", "--json", cwd=tmp_path)
    assert "not those" not in evaluated.err
    best = again.history().best("test_top1" if not options else "val_top1")
    recorded = next(epoch for epoch in again.history().epochs if epoch.epoch == best[1])
    assert json.loads(evaluated.out)["figures"]["test_top1"] == pytest.approx(recorded.metrics["test_top1"])


@pytest.mark.parametrize(
    ("before", "change", "key"),
    [
        ({}, {"val_share": 0.2}, "data.val_share"),
        ({"val_share": 0.2}, {"val_share": 0.4}, "data.val_share"),
        ({"val_share": 0.2}, {"limit": 40}, "data.limit"),
    ],
)
def test_a_fork_is_refused_that_would_validate_on_images_its_run_trained_on(tmp_path, before, change, key):
    options = SHORT | {"limit": 60} | before
    run, _ = training.train(tmp_path, training.config(options))
    with pytest.raises(UserError) as raised:
        fork_run(run, training.config(options | change, num_epochs=4), tmp_path)
    [problem] = raised.value.problems
    assert problem.key == key and problem.change == {key: {"data.limit": 60}.get(key, before.get("val_share", 0.0))}
    assert list_runs(tmp_path)[0] == [run]


def test_a_fork_may_validate_on_fewer_of_the_images_or_on_none(tmp_path):
    run, _ = training.train(tmp_path, training.config(SHORT | {"limit": 40, "val_share": 0.4}))
    for share in (0.2, 0.0):
        forked, _ = fork_run(run, training.config(SHORT | {"limit": 40, "val_share": share}, num_epochs=3), tmp_path)
        assert training.resume(forked).code == Exit.DONE


def test_a_fork_warns_where_the_images_it_is_measured_on_are_drawn_from_others(tmp_path, single_tree):
    data = SHORT | {"limit": None, "dataset": "folder", "data_path": str(single_tree)}
    run, _ = training.train(tmp_path, training.config(data))
    for name in ("cat", "dog"):
        for index in range(20):
            shutil.copy(next((single_tree / name).glob("*.png")), single_tree / name / f"added{index}.png")
    forked, _ = fork_run(run, training.config(data, num_epochs=3), tmp_path)
    training.resume(forked)
    assert any("test images are drawn anew" in warning.message for warning in forked.history().warnings)
