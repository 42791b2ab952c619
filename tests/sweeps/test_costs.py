"""The cost of a sweep: time by past runs of this machine, disk, and what its repeats detect."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from convnn.analysis.statistics import POWER, detectable_effect, welch_power
from convnn.config import toml
from convnn.events import Epoch, Finished, Started
from convnn.runs.event_log import append_event
from convnn.runs.run import create_run
from convnn.runs.summary_cache import summaries
from convnn.sweeps.costs import SweepCost, sweep_cost
from convnn.sweeps.file import parse_sweep
from convnn.sweeps.plan import plan_sweep

SET = 'set = { layer.type = "ConvNN", data.dataset = "digits", data.limit = 40, training.num_epochs = 3 }\n'
AXES = "axes = { K = [1, 4] }\nseeds = 3\n"


def past_run(root: Path, text: str, seconds: float, top1: float = 50.0, host: str | None = None) -> None:
    (cell,) = plan_sweep(parse_sweep(text)).cells
    run = create_run(toml.dumps(cell.config, whole=True), model="vgg11", layer="x", root=root)
    append_event(run.events_path, Started(host=host or socket.gethostname(), device="cpu (a name)"))
    for epoch in (1, 2, 3):
        metrics = {"test_top1": top1 + epoch, "train_s": seconds * 0.75, "eval_s": seconds * 0.25}
        append_event(run.events_path, Epoch(epoch=epoch, step=epoch, metrics=metrics))
    append_event(run.events_path, Finished(outcome="done"))


def cost_of(root: Path, text: str = SET + AXES) -> SweepCost:
    plan = plan_sweep(parse_sweep(text))
    return sweep_cost(plan, plan.to_train, summaries(root)[0])


def test_without_past_runs_there_is_no_time(tmp_path):
    cost = cost_of(tmp_path)
    assert cost.seconds is None and cost.flops and cost.noise is None and cost.disk_bytes
    assert cost.optimizer_bytes < cost.disk_bytes / 3  # two states of adamw, which most weights of the head share
    adam = cost_of(tmp_path, SET.replace("layer.type", 'optimizer.name = "adam", layer.type') + AXES)
    assert adam.optimizer_bytes == adam.disk_bytes == cost.disk_bytes  # and two checkpoints of weights
    assert len(cost.lines()) == 2


def test_time_is_that_of_past_runs_of_the_same_layer_and_data(tmp_path):
    past_run(tmp_path, SET + "axes = { K = [1] }", 10.0)
    past_run(tmp_path, SET + "axes = { K = [4] }", 12.0)
    past_run(tmp_path, SET.replace("ConvNN", "Conv2d"), 1000.0)
    past_run(tmp_path, SET, 99.0, host="another")
    past_run(tmp_path, SET.replace("limit = 40", "limit = 40, runtime.processes = 2"), 1.0)
    cost = cost_of(tmp_path)
    assert cost.seconds == pytest.approx(6 * 3 * 11, rel=0.1) and "2 past runs of the same layer" in cost.timed_by
    attention = cost_of(tmp_path, SET.replace("ConvNN", "ConvNN_Attn") + AXES)
    assert attention.seconds and "by their FLOPs" in attention.timed_by


def test_short_past_runs_say_nothing_of_long_ones(tmp_path):
    past_run(tmp_path, SET.replace("limit = 40", "limit = 10"), 5.0)
    published = 'set = { layer.type = "ConvNN", data.dataset = "cifar10" }\n' + AXES
    cost = cost_of(tmp_path, published)
    assert cost.seconds is None
    assert cost.noise is not None and "3 seeds detect" in (cost.detection_text() or "")


def test_repeats_tell_what_more_of_them_would_detect(tmp_path):
    for seed, top1 in enumerate([50.0, 51.0, 52.0]):
        past_run(tmp_path, SET + f"seeds = [{seed}]", 5.0, top1)
    cost = cost_of(tmp_path)
    assert cost.noise is not None and cost.noise.sd == pytest.approx(1.0)
    assert cost.json()["detects"] == pytest.approx(detectable_effect(1.0, 3))
    assert "1 seed has no spread" in (cost_of(tmp_path, SET).detection_text() or "")


def test_the_detectable_effect_is_where_the_power_is_reached():
    for n in (2, 3, 10):
        effect = detectable_effect(2.0, n)
        assert effect is not None and welch_power(n, effect / 2) == pytest.approx(POWER, abs=0.005)
    assert detectable_effect(1.0, 1) is None
