"""The metric table decides direction, digits and split of every recorded name, also of names it does not have."""

from __future__ import annotations

import math

import pytest
import torch

from convnn.metrics import (
    METRICS,
    SCORES,
    Metric,
    direction_text,
    format_value,
    known_metric_names,
    lower_is_better,
    metric_info,
    split_of,
)


def test_every_recorded_name_has_the_row_of_its_metric():
    names = known_metric_names()
    assert len(names) == len(set(names)) and {metric_info(name).name for name in names} == set(METRICS)
    assert {split_of(name) for name in names if metric_info(name).per_split} == {"train", "val", "test"}
    assert {split_of(name) for name in names if not metric_info(name).per_split} == {None}


@pytest.mark.parametrize(
    ("name", "base", "split", "lower"),
    [
        ("test_top1", "top1", "test", False),
        ("val_loss", "loss", "val", True),
        ("ema_test_top1", "top1", "test", False),
        ("train_s", "train_s", None, True),
        ("peak_bytes", "peak_bytes", None, True),
        ("images_per_s", "images_per_s", None, False),
        ("lr", "lr", None, False),
        ("test_f1", "test_f1", "test", False),
        ("", "", None, False),
    ],
)
def test_names_with_a_split_with_a_prefix_and_unknown_ones_are_placed(name, base, split, lower):
    assert (metric_info(name).name, split_of(name), lower_is_better(name)) == (base, split, lower)


def test_values_have_the_digits_of_their_metric():
    values = [(71.406, "test_top1"), (0.81234, "train_loss"), (7.61691, "train_s"), (123456.7, "images_per_s")]
    assert [format_value(*value) for value in values] == ["71.41", "0.8123", "7.617", "123457"]
    assert [format_value(value, "test_top1") for value in (math.nan, math.inf, -math.inf)] == ["NaN", "inf", "-inf"]


def test_a_row_more_is_a_name_for_each_split_with_its_own_direction_and_digits(monkeypatch):
    monkeypatch.setitem(METRICS, "error", Metric("error", "lower", "%", 1, per_split=True))
    metric_info.cache_clear()
    try:
        assert {"train_error", "val_error", "test_error"} <= set(known_metric_names())
        assert lower_is_better("test_error") and format_value(12.34, "test_error") == "12.3"
    finally:
        metric_info.cache_clear()


def test_top_k_scores_whether_the_target_is_among_the_k_highest_logits():
    logits = torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.3, 0.2]])
    targets = torch.tensor([1, 2])
    assert SCORES["top1"](logits, targets).tolist() == [True, False]
    assert SCORES["top5"](logits, targets).tolist() == [True, True]  # three classes: all of them


def test_the_direction_of_a_metric_is_said_only_where_it_is_known():
    directions = [direction_text(name) for name in ("ema_test_top1", "test_loss", "neighbors_hub")]
    assert directions == ["higher is better", "lower is better", "neither direction is better"]
