"""The text files look as the original tool wrote them."""

from __future__ import annotations

import math

from torch import nn

from convnn.events import Epoch, Started
from convnn.runs import text_files
from convnn.runs.history import History

METRICS = {
    "train_loss": 1.8802247,
    "train_top1": 30.4931,
    "train_top5": 82.9389,
    "test_loss": 1.71856589,
    "test_top1": 36.9727,
    "test_top5": 87.3828,
    "train_s": 17.6639,
    "eval_s": 3.0,
}


def epoch(number: int, **metrics: float) -> Epoch:
    return Epoch(epoch=number, step=number * 10, metrics=METRICS | metrics)


def test_results_are_line_by_line_those_of_the_original():
    history = History([Started(flops=622_900_000, trainable_parameters=130_015_690)])
    assert text_files.results_text(history) == (
        "Model Complexity (Profiler): GFLOPs: 0.62290000, Trainable Parameters: 130.01569000 M\n"
    )
    history.fold([epoch(1), epoch(2, test_top1=56.6602, train_s=17.2255), epoch(3)])
    assert text_files.results_text(history).splitlines() == [
        "Model Complexity (Profiler): GFLOPs: 0.62290000, Trainable Parameters: 130.01569000 M",
        "[Epoch 001] Time: 17.6639s | [Train] Loss: 1.88022470 Accuracy: Top1: 30.4931%, Top5: 82.9389% | "
        "[Test] Loss: 1.71856589 Accuracy: Top1: 36.9727%, Top5: 87.3828%",
        "[Epoch 002] Time: 17.2255s | [Train] Loss: 1.88022470 Accuracy: Top1: 30.4931%, Top5: 82.9389% | "
        "[Test] Loss: 1.71856589 Accuracy: Top1: 56.6602%, Top5: 87.3828%",
        "[Epoch 003] Time: 17.6639s | [Train] Loss: 1.88022470 Accuracy: Top1: 30.4931%, Top5: 82.9389% | "
        "[Test] Loss: 1.71856589 Accuracy: Top1: 36.9727%, Top5: 87.3828%",
        "",
        "Average Epoch Time: 17.5178s",
        "Max Accuracy: 56.6602% at Epoch 2",
    ]


def test_a_diverged_epoch_is_written_as_nan_and_is_never_the_best():
    history = History([epoch(1), epoch(2, train_loss=math.nan, test_loss=math.inf, test_top1=math.nan)])
    lines = text_files.results_text(history).splitlines()
    assert "[Train] Loss: nan" in lines[1] and "[Test] Loss: inf" in lines[1]
    assert lines[-1] == "Max Accuracy: 36.9727% at Epoch 1"


def test_arguments_are_one_name_and_value_per_line_whatever_the_value_holds():
    options = {"model": "vgg11", "resize": None, "augment": False, "data_path": "a\nb: c", "tag": ("x", "y")}
    text = text_files.args_text(options, num_classes=10, img_size=(3, 32, 32), total_params=7, trainable_params=5)
    assert text.splitlines() == [
        "model: vgg11",
        "resize: None",
        "augment: False",
        "data_path: a\\nb: c",
        "tag: x y",
        "num_classes: 10",
        "img_size: (3, 32, 32)",
        "total_params: 7",
        "trainable_params: 5",
    ]


def test_the_model_text_names_its_modules_and_counts_the_parameters_of_each_part():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    model[1].requires_grad_(False)
    text = text_files.model_text(model)
    assert text.startswith(f"{model}\n")
    assert dict(row.split() for row in text.split("Parameters\n")[1].splitlines()) == {
        "0": "16",
        "1": "8",
        "total": "24",
        "trainable": "16",
    }
