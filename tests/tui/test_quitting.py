"""Quitting by a key: at once without a live run, after a question with one."""

from __future__ import annotations

import asyncio

import pytest

from convnn.events import Finished
from convnn.presets.resolve import resolve
from convnn.runs import event_log
from tui.app import ConvnnApp
from tui.dialogs.choice import Choice

LONG = {
    "layer.type": "Conv2d",
    "data.dataset": "digits",
    "model.width": "0.05",
    "data.limit": "40",
    "training.num_epochs": "100000",
    "training.batch_size": "20",
}


async def training(app) -> None:
    app.launcher.launch(resolve(None, LONG).checked())
    while app.launcher.live is None or not app.launcher.live.events_path.exists():
        await asyncio.sleep(0.02)


async def test_without_a_live_run_it_quits_at_once(tmp_path):
    app = ConvnnApp(tmp_path)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert not app.is_running


@pytest.mark.parametrize(("downs", "outcome"), [(0, "stopped"), (1, "stopped")], ids=["after the epoch", "now"])
async def test_with_a_live_run_it_asks_and_stops_it(tmp_path, downs, outcome):
    app = ConvnnApp(tmp_path)
    async with app.run_test() as pilot:
        await training(app)
        run = app.launcher.live
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert isinstance(app.screen, Choice)
        await pilot.press(*["down"] * downs, "enter")
        while app.is_running:
            await asyncio.sleep(0.02)
    assert app.launcher.wait(20)
    last = event_log.EventReader().read(run.events_path)[0][-1]
    assert isinstance(last, Finished)
    assert (last.outcome, "epoch" in last.cause) == (outcome, downs == 0)


async def test_staying_changes_nothing_and_ctrl_c_stops_the_run_but_not_the_app(tmp_path):
    app = ConvnnApp(tmp_path)
    async with app.run_test() as pilot:
        await training(app)
        run = app.launcher.live
        await pilot.press("ctrl+q")
        await pilot.press("s", "s", "enter")  # stop now, stay
        await pilot.pause()
        assert app.is_running
        assert app.launcher.live == run
        await pilot.press("ctrl+c")
        while app.launcher.live is not None:
            await asyncio.sleep(0.02)
        assert app.is_running
        assert event_log.EventReader().read(run.events_path)[0][-1].outcome == "interrupted"
