"""The sweep screen: cells with their states and values, the focused one, and what is done with the sweep by keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.app import app, text, until
from support.sweeps import finish_sweep, make_sweep

from convnn.config.toml import parse_run
from convnn.sweeps.queue import Queue
from tui.dialogs.choice import Choice
from tui.screens.run.screen import RunScreen
from tui.screens.sweep.grid import SweepGrid
from tui.screens.sweep.screen import SweepScreen


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A runs folder with a sweep whose queue is paused: K 1 is done, and the first cell of K 4 has failed."""
    monkeypatch.chdir(tmp_path)
    make_sweep(tmp_path / "runs")
    return tmp_path / "runs"


async def opened(pilot) -> SweepScreen:
    """The screen, from Home."""
    await until(pilot, lambda: pilot.app.screen.presets)
    await pilot.press("w")
    await until(pilot, lambda: isinstance(pilot.app.screen, SweepScreen) and pilot.app.screen.results)
    return pilot.app.screen


async def test_cells_have_a_value_or_a_state_and_the_one_under_the_cursor_is_described(root):
    async with app(root).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        grid = screen.query_one(SweepGrid)
        drawn = text(pilot.app)
        assert "66.50 ± 0.71 (2) ★" in drawn and "65.60 ± 0.71 (2)" in drawn
        assert "◌ queued" in drawn and "infeasible" in drawn and "lr 0.001" in drawn
        await until(pilot, lambda: "seed 1" in text(pilot.app) and "best 66.10" in text(pilot.app))
        await pilot.press("down", "right")
        await until(pilot, lambda: "no space left on device" in text(pilot.app))
        assert [state.state for state in grid.cell.states] == ["failed", "queued"]
        await pilot.press("left", "up", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        config = pilot.app.screen.follower.run.config()
        assert (config.layer.K, config.optimizer.lr, config.training.seed) == (1, 1e-4, 1)


async def test_stop_resume_and_more_seeds_by_keys(root):
    queue = Queue(root)
    async with app(root).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        assert len(queue.entries()[0]) == 3
        await until(pilot, lambda: ". stop" in text(pilot.app))
        await pilot.press("full_stop", "enter")
        await until(pilot, lambda: not queue.entries()[0])
        await until(pilot, lambda: ". resume" in text(pilot.app) and screen.results.state.counts.get("waiting"))
        await pilot.press("full_stop", "enter")
        await until(pilot, lambda: len(queue.entries()[0]) == 4)  # the failed one too
        await pilot.press("R")
        await until(pilot, lambda: len(queue.entries()[0]) == 4 + 4 * 3)
        seeds = {parse_run(entry.config).training.seed for entry in queue.entries()[0]}
        assert seeds == {0, 1, 2, 3, 4}
        await until(pilot, lambda: len(screen.results.state.cells) == 6 * 5)


async def test_a_sweep_that_is_done_offers_more_seeds_and_nothing_to_resume(root):
    queue = Queue(root)
    async with app(root).run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        await pilot.press("full_stop", "enter")
        await until(pilot, lambda: not queue.entries()[0])
        await until(pilot, lambda: ". resume" in text(pilot.app))
        await pilot.press("full_stop", "enter")
        await until(pilot, lambda: len(queue.entries()[0]) == 4)
        finish_sweep(root)
        await until(pilot, lambda: screen.results.state.is_done)
        await until(pilot, lambda: ". actions" in text(pilot.app) and "resume" not in text(pilot.app))
        await pilot.press("full_stop")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("enter")
        await until(pilot, lambda: len(queue.entries()[0]) == 4 * 3)


async def test_the_value_in_the_cells_is_chosen(root):
    async with app(root).run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("m", "t", "r", "enter")
        await until(pilot, lambda: screen.metric == "train_loss" or screen.metric.startswith("train"))
        await until(pilot, lambda: screen.results.field.key == screen.metric)


async def test_without_a_sweep_it_says_how_to_make_one(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: pilot.app.screen.presets)
        await pilot.press("w")
        await until(pilot, lambda: any("several values" in note.message for note in pilot.app._notifications))
