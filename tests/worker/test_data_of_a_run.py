"""The images of a run: recorded with their path and digest, searched for from another folder, and not exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import training
from support.processes import convnn
from support.training import StopAt, config, recorded_events, resume, train

from convnn.errors import Exit
from convnn.events import Resumed, Warned
from convnn.runs.resume import with_data_path
from convnn.worker import checkpoint
from convnn.worker.fork import fork_run

FOLDER = training.SMALL | {"dataset": "folder", "data_path": "images", "batch_size": 8, "num_epochs": 3}
FLAGS = [word for name, value in FOLDER.items() for word in (f"--{name}", value)]


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """images/ in the current folder, with two classes of which one is darker."""
    pixels = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name, level in (("dark", 60), ("light", 190)):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                shades = pixels.integers(level - 30, level + 30, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(shades).save(folder / f"{index:02}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def exchange(images: Path, split: str) -> None:
    """Give the images of each class the label of the other."""
    (images / split / "dark").rename(images / split / "spare")
    (images / split / "light").rename(images / split / "dark")
    (images / split / "spare").rename(images / split / "light")


def test_a_run_records_where_and_what_its_images_are(images):
    run, _ = train(images.parent / "runs", config(FOLDER))
    started = run.history().started
    assert started.data_path == str(images)
    assert set(started.data_digest) == {"train", "test"} and len(started.data_digest["train"]) == 64
    assert checkpoint.load_named(run.path, "last").state.plain["data"]["digest"] == started.data_digest
    digits = train(images.parent / "runs", config())[0].history().started
    assert digits.data_path is None and set(digits.data_digest) == {"train", "test"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_exchanged_labels_are_refused_at_resume(images, split):
    run, _ = train(images.parent / "runs", config(FOLDER), commands=StopAt(5))
    exchange(images, split)
    ended = resume(run)
    assert (ended.finished.outcome, ended.code) == ("failed", Exit.DATA)
    assert f"the {split} images or their labels are others" in ended.finished.cause
    assert not any(isinstance(event, Resumed) for event in recorded_events(run))
    exchange(images, split)
    assert resume(run).code == Exit.DONE


def test_a_checkpoint_without_a_digest_is_resumed(images):
    run, _ = train(images.parent / "runs", config(FOLDER), commands=StopAt(5))
    newest = checkpoint.recover_newest(run.path)[0]
    plain = newest.state.plain
    del plain["data"]["digest"], plain["config"]["training.drop_last"]  # as older versions wrote it
    checkpoint.write(run.path, newest.step, newest.state)
    assert resume(run).code == Exit.DONE


def test_a_fork_on_other_images_does_not_continue_within_the_epoch(images):
    run, _ = train(images.parent / "runs", config(FOLDER), commands=StopAt(5))
    exchange(images, "train")
    fork, _ = fork_run(run, config(FOLDER), images.parent / "runs")
    assert resume(fork).code == Exit.DONE
    (resumed,) = [event for event in recorded_events(fork) if isinstance(event, Resumed)]
    assert not resumed.exact


def test_a_run_finds_its_images_from_another_folder(images, tmp_path, monkeypatch):
    run, _ = train(tmp_path / "runs", config(FOLDER), commands=StopAt(5))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fork, _ = fork_run(run, run.config(), tmp_path / "runs")
    assert fork.config().data.path == str(images)
    assert resume(run).code == Exit.DONE
    assert run.config().data.path == "images"
    assert with_data_path(run, config(FOLDER, data_path="others")).data.path == "others"
    evaluated = convnn("run", "--test_only", "--run", f"{run.path}/", "--device", "cpu", cwd=tmp_path / "elsewhere")
    assert evaluated.code == 0 and "8 images" in evaluated.out and "download" not in evaluated.err


def test_where_the_recorded_folder_is_gone_the_typed_path_is_tried(images, tmp_path, monkeypatch):
    run, _ = train(tmp_path / "runs", config(FOLDER), commands=StopAt(5))
    (tmp_path / "moved").mkdir()
    images.rename(tmp_path / "moved" / "images")
    monkeypatch.chdir(tmp_path / "moved")
    assert resume(run).code == Exit.DONE


def test_an_evaluation_on_other_test_images_says_so(images, tmp_path, in_process):
    run, _ = train(tmp_path / "runs", config(FOLDER))
    command = ("run", "--test_only", "--run", f"{run.path}/", "--device", "cpu")
    assert "warning" not in in_process(*command)[2]
    exchange(images, "test")
    assert "warning: the test images or their labels are not those" in in_process(*command)[2]
    for split in ("train", "test"):
        (images / split / "dark").rename(images / split / "dusk")
    code, _, err = in_process(*command)
    assert code == Exit.DATA and "not those of the run: without 'dark' and with 'dusk'" in err and "--data_path" in err


def test_dropping_the_last_batch_is_exact_under_resume(tmp_path):
    options = config(training.RICH, drop_last=True, num_epochs=2)
    undisturbed, _ = train(tmp_path, options)
    started = undisturbed.history().started
    batches, left = divmod(started.images["train"], options.training.batch_size)
    assert left and started.steps_per_epoch == batches
    run, result = train(tmp_path, options, commands=StopAt(4))
    assert result.finished.outcome == "stopped"
    assert resume(run).code == Exit.DONE
    assert run.history().digest() == undisturbed.history().digest()
    assert training.same_weights(run, undisturbed)


def test_a_last_batch_of_one_image_is_warned_of_and_a_random_split_is_a_note(images, tmp_path):
    for split in ("train", "test"):
        for folder in (images / split).iterdir():
            folder.rename(images / f"{split}-{folder.name}")
        (images / split).rmdir()
    (images / "train-dark").rename(images / "dark")
    (images / "train-light").rename(images / "light")
    for name in ("dark", "light"):
        for path in (images / f"test-{name}").iterdir():
            path.rename(images / name / f"more-{path.name}")
        (images / f"test-{name}").rmdir()
    run, _ = train(tmp_path / "runs", config(FOLDER, batch_size=25, num_epochs=1))
    events = [event for event in recorded_events(run) if isinstance(event, Warned)]
    (note,) = [event.message for event in events if event.is_note]
    (warning,) = [event.message for event in events if not event.is_note]
    assert "20% of the images of each class" in note
    assert "the last batch of an epoch has 1 image, the others 25" in warning
    history = run.history()
    assert [len(history.remarks), len(history.warnings)] == [1, 1]


def test_what_does_not_fit_the_splits_is_refused_before_a_run_is_made(images, tmp_path):
    refused = convnn("run", *FLAGS, "--drop_last", "--batch_size", 25, cwd=tmp_path)
    assert refused.code == Exit.USAGE and "training.drop_last leaves no batch: 24 training images" in refused.err
    for name in ("dark", "light"):
        (images / "val" / name).mkdir(parents=True)
        (images / "train" / name / "00.png").rename(images / "val" / name / "00.png")
    refused = convnn("run", *FLAGS, "--val_share", "0.1", cwd=tmp_path)
    assert refused.code == Exit.USAGE and "the data set has a validation folder" in refused.err
    assert not (tmp_path / "runs").exists()
