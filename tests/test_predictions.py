"""The file of predictions: what it keeps, how large it gets, and which files are refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from support.predictions import random_predictions

from convnn import predictions as prediction_files
from convnn.errors import Exit, UserError
from convnn.predictions import METADATA, MOST_BYTES, NAME
from convnn.training.prediction_meter import PredictionMeter

ARRAYS = ("labels", "top_classes", "top_probabilities", "label_probabilities", "probabilities")


def about(**changes):
    counts = {"version": 1, "step": 7, "epoch": 1, "bn_recalibrate": 0, "num_classes": 3, "images": 4}
    return {METADATA: json.dumps(counts | {"split": "test", "weights": "model", "digest": None} | changes)}


def arrays(**changes):
    top = np.tile(np.array([1, 0, 2], np.uint32), (4, 1))
    probabilities = np.tile(np.array([0.5, 0.3, 0.2], np.float16), (4, 1))
    valid = {"labels": np.zeros(4, np.uint32), "top_classes": top, "top_probabilities": probabilities}
    return valid | {"label_probabilities": np.full(4, 0.3, np.float16)} | changes


def repeated(predictions, times):
    changes = {name: getattr(predictions, name) for name in ARRAYS if getattr(predictions, name) is not None}
    return replace(predictions, **{name: np.concatenate([value] * times) for name, value in changes.items()})


@pytest.mark.parametrize(("images", "classes"), [(10_000, 10), (10_000, 100), (50_000, 1000)])
def test_a_file_keeps_what_there_is_room_for(tmp_path, images, classes):
    written = repeated(random_predictions(5000, classes, bn_recalibrate=2**63 - 1), images // 5000)
    assert (prediction_files.has_room(images, classes), prediction_files.top_count(images, classes)) == (
        classes < 1000,
        5,
    )
    prediction_files.write(tmp_path, written)
    assert (tmp_path / NAME).stat().st_size <= MOST_BYTES
    back = prediction_files.read(tmp_path)
    assert (written.probabilities is None) == (classes == 1000)
    for name, value in vars(written).items():
        assert np.array_equal(getattr(back, name), value) if name in ARRAYS and value is not None else True
    assert (back.num_classes, back.step, back.epoch, back.bn_recalibrate) == (classes, 7, 1, 2**63 - 1)


def test_fewer_classes_are_kept_of_many_images_and_nothing_of_too_many():
    assert prediction_files.top_count(100_000, 10) == 5 and prediction_files.top_count(300_000, 10) == 1
    assert prediction_files.fits(400_000) and not prediction_files.fits(500_000)
    with pytest.raises(ValueError, match="500,000"):
        prediction_files.dumps(repeated(random_predictions(5000, 2), 100))


def test_predictions_are_those_of_the_logits():
    predictions = random_predictions(300, 4)
    sums = predictions.probabilities.astype(float).sum(1)
    assert np.abs(sums - 1).max() < 4 * 2**-11  # half a unit in the last place of each of four numbers below 1
    rows = np.arange(300)
    assert np.array_equal(predictions.probabilities[rows, predictions.labels], predictions.label_probabilities)
    assert np.array_equal(predictions.probabilities[rows, predictions.answers], predictions.probabilities.max(1))
    assert (np.diff(predictions.top_probabilities.astype(float)) <= 0).all()


def test_outputs_that_are_not_finite_are_no_predictions():
    meter = PredictionMeter(2)
    meter.add(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]), torch.tensor([0, 1]))
    assert meter.predictions(2, split="test", step=1, epoch=1) is None


HOSTILE = {
    "nothing": b"",
    "text": b"convnn",
    "long header": (1 << 40).to_bytes(8, "little") + b"{}",
    "nested header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "no metadata": save(arrays()),
    "nested metadata": save(arrays(), {METADATA: "[" * 100_000}),
    "a list": save(arrays(), {METADATA: "[]"}),
    "another version": save(arrays(), about(version=2)),
    "another count": save(arrays(), about(images=5)),
    "too many classes": save(arrays(), about(num_classes=1 << 40)),
    "a large count": save(arrays(), about(step=1 << 63)),
    "a word as a count": save(arrays(), about(step="\x1b[2J")),
    "another split": save(arrays(), about(split="\x1b[2J")),
    "a long digest": save(arrays(), about(digest="a" * 65)),
    "no labels": save({name: value for name, value in arrays().items() if name != "labels"}, about()),
    "no image": save({name: value[:0] for name, value in arrays().items()}, about(images=0)),
    "other shapes": save(arrays(top_classes=np.zeros((3, 3), np.uint32)), about()),
    "more classes than there are": save(arrays(), about(num_classes=2)),
    "a class beyond": save(arrays(labels=np.full(4, 3, np.uint32)), about()),
    "signed labels": save(arrays(labels=np.zeros(4, np.int64)), about()),
    "NaN": save(arrays(label_probabilities=np.full(4, np.nan, np.float16)), about()),
    "more than 1": save(arrays(label_probabilities=np.full(4, 1.5, np.float16)), about()),
    "probabilities of other classes": save(arrays(probabilities=np.zeros((4, 2), np.float16)), about()),
    "too large": save(arrays(more=np.zeros(MOST_BYTES, np.uint8)), about()),
}


def test_the_file_of_these_tests_is_read(tmp_path):
    (tmp_path / NAME).write_bytes(save(arrays(), about()))
    assert prediction_files.read(tmp_path).is_correct.sum() == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path, name):
    (tmp_path / NAME).write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=r"cannot be read") as error:
        prediction_files.read(tmp_path)
    assert error.value.code == Exit.DATA


def test_only_a_regular_file_is_read(tmp_path):
    assert prediction_files.read(tmp_path) is None
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(UserError, match="not a regular file"):
        prediction_files.read(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symbolic link"):
        prediction_files.read(tmp_path)
