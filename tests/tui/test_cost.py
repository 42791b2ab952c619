"""What a configuration costs, in words: memory, maps, time of past runs and of timed steps; and stepping numbers."""

from __future__ import annotations

import pytest
from support.app import app, form, make_run, put, text, until

from convnn import hardware
from convnn.config.options import BY_KEY
from convnn.costs.plan import plan
from convnn.errors import UserError
from convnn.presets import resolve
from convnn.runs.summary_cache import summaries
from convnn.text import memory
from tui.screens.setup import epoch_time
from tui.screens.setup.cost_panel import feature_maps, memory_verdict
from tui.screens.setup.number_steps import step_number

pytestmark = pytest.mark.usefixtures("frames_are_drawn_for_the_pilot")

TINY = {
    "model.width": "0.05",
    "data.dataset": "digits",
    "data.limit": "60",
    "training.batch_size": "10",
    "runtime.device": "cpu",
}


@pytest.mark.parametrize(
    ("need", "free", "word"),
    [(1, 10, "fits"), (79, 100, "fits"), (80, 100, "tight"), (100, 100, "will not fit"), (1, 0, "will not fit")],
)
def test_memory_is_judged_in_words(need, free, word):
    assert memory_verdict(need, free)[0] == word


def test_maps_count_the_layers_of_each_size():
    config = resolve.resolve(None, {"data.dataset": "digits"}).config
    layer_counts = feature_maps(plan(config, (32, 32), 10).layers)
    assert layer_counts["32x32", "1156", "9"] == 1 and layer_counts.total() == 8


def test_the_free_memory_of_this_host_is_known_and_no_more_than_a_machine_has():
    device, free = hardware.free_memory("cpu")
    assert device == "cpu" and (free is None or 0 < free < 2**50)


def test_past_runs_tell_the_pace_of_the_same_model_on_the_same_host(tmp_path):
    make_run(tmp_path, "20261122-120000-a-0000")
    make_run(tmp_path, "20261122-110000-b-0000", layer__K="5")
    runs, _ = summaries(tmp_path)
    words = {"data.dataset": "digits", "training.num_epochs": "40", "optimizer.lr": "0.5", "training.seed": "3"}
    config = resolve.resolve(None, words).config
    assert epoch_time.from_past_runs(config, runs, "here") == epoch_time.EpochTime(10.0, "from a past run")
    assert epoch_time.from_past_runs(config, runs, "elsewhere") is None
    assert epoch_time.from_past_runs(resolve.resolve(None, words | {"layer.K": "7"}).config, runs, "here") is None


async def test_a_few_real_steps_are_timed_in_a_process_of_their_own():
    measured = await epoch_time.from_timed_steps(resolve.resolve(None, TINY).checked())
    assert measured.seconds > 0 and measured.source.endswith("timed on cpu")


async def test_why_nothing_could_be_timed_is_said_whole():
    config = resolve.resolve(None, {"data.dataset": "folder", "data.path": "no-such-place"}).config
    with pytest.raises(UserError, match=r"timing failed: .*no-such-place"):
        await epoch_time.from_timed_steps(config)


async def test_the_cost_follows_the_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        screen = await form(pilot)
        assert f"{memory(screen.checked.plan.memory_bytes)} of 8.0 GiB" in text(pilot.app)
        await put(pilot, screen, "training.batch_size", "4")
        await until(pilot, lambda: " fits " in text(pilot.app))
        await put(pilot, screen, "training.batch_size", "100000")
        await until(pilot, lambda: "will not fit" in text(pilot.app))
        await put(pilot, screen, "layer.K", "40")
        await until(pilot, lambda: "Unknown: layer.K does not fit" in text(pilot.app))
        await put(pilot, screen, "layer.K", "9")
        await put(pilot, screen, "optimizer.lr", "-1")
        assert screen.checked.problems
        await until(pilot, lambda: "will not fit" in text(pilot.app))  # a problem elsewhere hides no cost


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_form_says_what_will_be_downloaded_and_how_many_images_there_are(tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    async with app(tmp_path / "runs").run_test(size=size) as pilot:
        screen = await form(pilot)
        await until(pilot, lambda: "170 MB" in text(pilot.app))
        await put(pilot, screen, "data.dataset", "digits")
        await until(pilot, lambda: "1,442 train" in text(pilot.app))
        await put(pilot, screen, "data.dataset", "folder")
        await put(pilot, screen, "data.path", "./nowhere")
        await until(pilot, lambda: "nowhere" in screen.checked.unplannable and "Unknown: the size" in text(pilot.app))


@pytest.mark.parametrize(
    ("key", "word", "by", "after"),
    [
        ("layer.K", "9", 1, "10"), ("layer.K", "1", -1, "1"), ("layer.K", "x", 1, "9"),
        ("model.width", "1", -1, "0.75"), ("model.width", "0.1", 1, "0.25"), ("model.width", "0.25", -1, "0.25"),
        ("optimizer.lr", "0.001", 1, "0.002"), ("optimizer.lr", "0.001", -1, "0.0005"),
        ("optimizer.lr", "0.003", 1, "0.005"),
        ("optimizer.weight_decay", "0", 1, "1e-06"), ("optimizer.weight_decay", "0", -1, "0"),
        ("data.resize", "none", 1, "8"), ("data.resize", "8", -1, "none"), ("data.resize", "none", -1, "none"),
        ("training.batch_size", "256", 1, "272"), ("training.batch_size", "1", 1, "16"),
        ("training.batch_size", "16", -1, "1"),
        ("scheduler.gamma", "0.95", 1, "0.95"), ("training.seed", "9223372036854775807", 1, "9223372036854775807"),
    ],
)  # fmt: skip
def test_a_step_is_a_round_value_within_the_bounds(key, word, by, after):
    assert step_number(BY_KEY[key], word, by) == after
