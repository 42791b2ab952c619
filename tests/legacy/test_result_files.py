"""The original tool's text files are read as far as they can be, and what is skipped is reported with its line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import old_results as oldfiles

from convnn.legacy.result_files import parse_arguments, parse_results


def report(parsed) -> str:
    return "\n".join(f"{line.file}:{line.line}: {line.why}" for line in parsed.skipped)


def test_arguments_become_values_of_the_options_types():
    arguments = parse_arguments(oldfiles.args(lr=1e-05, clip_grad_norm=1, resize=64, augment=True).encode())
    assert arguments.skipped == [] and arguments.unknown == {}
    assert arguments.values["optimizer.lr"] == 1e-05 and arguments.values["data.augment"] is True
    assert type(arguments.values["training.clip_grad_norm"]) is float and arguments.values["data.resize"] == 64
    assert arguments.values["data.path"] == "./Data" and arguments.values["scheduler.name"] == "none"
    assert arguments.sizes["img_size"] == (3, 32, 32) and arguments.sizes["num_classes"] == 10


def test_unknown_keys_are_kept_and_reported_and_other_lines_skipped():
    arguments = parse_arguments(
        b"K: 9\nwarmup: __import__('os').system('true')\nnothing here\n\nmodel: 'vgg13'\nseed: 4"
    )
    assert arguments.unknown == {"warmup": "__import__('os').system('true')"}
    assert arguments.values == {"layer.K": 9, "model.name": "vgg13", "training.seed": 4}
    assert [line.line for line in arguments.skipped] == [2, 3, 6] and "cut short" in arguments.skipped[-1].why


@pytest.mark.parametrize("value", ["9" * 400, "(" * 5000, "[" * 200 + "]" * 200, "1e999", "{1: 2}", "b'x'", "nan", ""])
def test_odd_values_are_kept_as_something_that_can_be_written(value):
    (value_read,) = parse_arguments(f"K: {value}\n".encode()).values.values()
    assert isinstance(value_read, str | float)


def test_a_whole_file_is_read_value_for_value():
    results = parse_results(oldfiles.results(40.0, 60.0, 55.0).encode())
    assert results.skipped == [] and results.ended and [number for number, _ in results.epochs] == [1, 2, 3]
    assert results.epochs[1][1] == {
        "train_s": 16.0,
        "train_loss": 1.64432178,
        "train_top1": 30.0,
        "train_top5": 88.6017,
        "test_loss": 1.54460554,
        "test_top1": 60.0,
        "test_top5": 89.9512,
    }
    assert results.published["best"] == {"value": 60.0, "epoch": 2}
    assert results.published["average_epoch_s"] == 16.0
    assert results.published["gflops"] == 0.33130096


def test_the_short_format_has_a_training_loss_and_test_accuracies():
    line = b"[Epoch 1] Time: 7.6169s, Loss: 2.10847012 | Accuracy: Top1: 32.2552%, Top5: 83.0713%\n"
    results = parse_results(line)
    figures = {"train_s": 7.6169, "train_loss": 2.10847012, "test_top1": 32.2552, "test_top5": 83.0713}
    assert results.epochs == [(1, figures)] and not results.ended and results.skipped == []


def test_a_loss_that_is_nan_is_a_value():
    results = parse_results(oldfiles.epoch(1, 10.0, loss="nan").encode())
    assert math.isnan(results.epochs[0][1]["train_loss"]) and results.skipped == []


def test_several_blank_lines_before_the_last_two_change_nothing():
    text = oldfiles.results(40.0, 60.0)
    assert parse_results(text.replace("\nAverage", "\n\n\n \nAverage").encode()) == parse_results(text.encode())


@pytest.mark.parametrize("garbage", ["^M^M", " slurmstepd: error", " 0%|    | 0/150"])
def test_garbage_after_the_values_is_reported_and_the_values_are_read(garbage):
    lines = oldfiles.results(40.0, 60.0, 55.0).splitlines()
    for number in range(1, len(lines) + 1):
        if not lines[number - 1]:
            continue
        text = "\n".join([*lines[: number - 1], lines[number - 1] + garbage, *lines[number:], ""])
        results = parse_results(text.encode())
        assert results.epochs == parse_results(oldfiles.results(40.0, 60.0, 55.0).encode()).epochs and results.ended
        assert [line.line for line in results.skipped] == [number] and garbage.strip()[:5] in report(results)


def test_garbage_between_values_costs_the_values_it_hides():
    line = oldfiles.epoch(2, 60.0).replace("[Test] Loss: 1.54460554", "[Test] Loss: 1.5446###")
    results = parse_results((oldfiles.epoch(1, 40.0) + line + oldfiles.epoch(3, 55.0)).encode())
    assert [number for number, _ in results.epochs] == [1, 2, 3] and [line.line for line in results.skipped] == [2]
    assert results.epochs[1][1]["test_top1"] == 60.0 and results.epochs[1][1]["train_loss"] == 1.64432178


def test_of_an_epoch_written_twice_the_last_line_counts():
    results = parse_results((oldfiles.epoch(1, 40.0) + oldfiles.epoch(2, 50.0) + oldfiles.epoch(2, 51.0)).encode())
    assert [metrics["test_top1"] for _, metrics in results.epochs] == [40.0, 51.0] and "written again" in report(
        results
    )


def test_a_best_line_that_contradicts_the_curve_is_reported():
    text = oldfiles.results(40.0, 60.0).replace("60.0000% at Epoch 2", "60.0000% at Epoch 1")
    assert "contradicts" in report(parse_results(text.encode()))


def test_wherever_the_file_ends_the_whole_lines_before_are_read():
    data = oldfiles.results(40.0, 60.0, 55.0).encode()
    whole = parse_results(data).epochs
    for end in range(len(data)):
        results = parse_results(data[:end])
        assert results.epochs == whole[: len(results.epochs)], end
        lines = data[:end].decode().split("\n")
        assert len(results.epochs) >= sum(line.startswith("[Epoch") for line in lines[:-1])
        for name, value in results.published.items():
            assert value == parse_results(data).published[name]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_exception(data):
    parse_results(data), parse_arguments(data)
    parse_results(oldfiles.results(40.0).encode()[:150] + data), parse_arguments(b"K: " + data)
