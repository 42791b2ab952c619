"""The layers pane of the run screen: a curve of each layer, of the statistic that is chosen."""

from __future__ import annotations

from support.app import app, text, until
from support.pictured_runs import STEPS, make

from convnn.events import LayerStatistics
from convnn.runs.event_log import append_event
from tui.screens.run.layers import LayersPane
from tui.screens.run.screen import RunScreen

KEY = "L"
SLOTS = [f"stage{stage}.conv{conv}" for stage in (1, 2, 3) for conv in (1, 2, 3, 4)]


def with_statistics(root):
    run = make(root, epochs=2)
    for epoch in (3, 4, 6):
        layers = {
            slot: {"neighbors_outside": 60.0 + index + epoch, "neighbors_hub": 9.0 + epoch}
            for index, slot in enumerate(SLOTS)
        }
        append_event(run.events_path, LayerStatistics(epoch=epoch, step=epoch * STEPS, layers=layers))
    return run


async def open_pane(pilot, run) -> LayersPane:
    await pilot.app.push_screen(RunScreen(run))
    await until(pilot, lambda: pilot.app.screen.history is not None)
    pane = pilot.app.screen.query_one(LayersPane)
    assert not pane.display
    await pilot.press(KEY)
    await until(pilot, lambda: pane.has_focus)
    return pane


async def test_each_layer_has_a_curve_and_keys_choose_the_statistic_and_the_layers(tmp_path):
    run = with_statistics(tmp_path)
    async with app(tmp_path).run_test(size=(80, 24)) as pilot:
        pane = await open_pane(pilot, run)
        await until(pilot, lambda: "layers: % of the neighbors that lie outside" in text(pilot.app))
        chart = pane.query_one("ChartView")
        assert [curve.label for curve in chart.data.series] == SLOTS[:8]
        assert (chart.data.series[1].xs, chart.data.series[1].ys) == ([3, 4, 6], [64, 65, 67])
        assert "layers 1 to 8 of 12" in text(pilot.app)
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert [curve.label for curve in chart.data.series] == SLOTS[8:]
        await pilot.press("m", "down", "enter")
        await until(pilot, lambda: "how often the most frequent candidate" in text(pilot.app))
        assert [curve.label for curve in chart.data.series] == SLOTS[:8]
        assert chart.data.series[0].ys == [12, 13, 15]


async def test_a_run_without_statistics_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    run = make(tmp_path, outcome="done")
    async with app(tmp_path).run_test(size=(120, 40)) as pilot:
        await open_pane(pilot, run)
        await until(pilot, lambda: "no statistics of layers were recorded" in text(pilot.app))
        assert text(pilot.app).isascii()
