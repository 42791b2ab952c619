"""The neighbors pane of the run screen: moved by keys and mouse, with a second checkpoint, in any terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from support import training
from support.app import app, text, until
from support.inspections import inspection
from support.pictured_runs import make

from convnn.events import Saved
from convnn.neighbors.inspection import Point
from convnn.runs.event_log import append_event
from tui.process.inspection import InspectionRequest
from tui.screens.run.neighbors import LOADING, NO_CHECKPOINT, NeighborsPane
from tui.screens.run.screen import RunScreen

NUMBER = "8"


async def open_pane(pilot, run) -> NeighborsPane:
    await pilot.app.push_screen(RunScreen(run))
    await until(pilot, lambda: pilot.app.screen.history is not None)
    pane = pilot.app.screen.query_one(NeighborsPane)
    assert not pane.display
    await pilot.press(NUMBER)
    await until(pilot, lambda: pane.has_focus and pane.notice)
    return pane


async def computed(pilot, pane) -> None:
    """Wait for the child process, at most a minute."""
    for _ in range(600):
        await pilot.pause(0.1)
        if pane.notice != LOADING:
            return


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_the_picture_of_the_pane(snap_compare, tmp_path, monkeypatch, size):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    run = make(tmp_path, outcome="done")

    async def show(pilot):
        pane = await open_pane(pilot, run)
        pane.present(inspection(), inspection("last", 30, shift=1))
        await pilot.press("up")
        await pilot.pause(0.1)

    assert snap_compare(app(tmp_path), terminal_size=size, run_before=show)


async def test_keys_and_the_mouse_move_the_query_and_write_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make(tmp_path, outcome="done")
    async with app(tmp_path).run_test(size=(80, 24)) as pilot:
        pane = await open_pane(pilot, run)
        assert NO_CHECKPOINT in text(pilot.app)
        pane.present(inspection())
        await pilot.press("up", "left", "left")
        assert pane.pixel == Point(15, 14)
        assert "query y 15, x 14" in text(pilot.app) and r"label \x1b[7m7" in text(pilot.app)
        await pilot.press("right_square_bracket", "down")
        assert (pane.slot, pane.pixel) == ("stage3.conv1", Point(16, 12))
        assert "query y 4, x 3, 4x4 pixels" in text(pilot.app)
        await pilot.press(*["right"] * 9)
        assert pane.pixel == Point(16, 28)
        assert text(pilot.app).count(" pad ") == 4  # every neighbor lies to the right
        region = pane.content_region
        assert await pilot.click(offset=(region.x + 2, region.y + pane.view.top + 3))
        assert pane.pixel == Point(6, 2)
        await pilot.press("plus")
        assert pane.view.scale == 2
        pane.scale = Fraction(1, 5)  # as a large image fits
        pane._redraw()
        await pilot.press("plus")
        assert pane.view.scale == Fraction(1, 2)
        await pilot.press("0", "left_square_bracket")
        assert (pane.view.scale, pane.slot) == (1, "stage1.conv1")
        file = tmp_path / "a.json"
        for message in (f"written: {file}", "is there already"):
            await pilot.press("f", *file.name, "enter")
            await until(
                pilot, lambda message=message: any(message in note.message for note in pilot.app._notifications)
            )
        document = json.loads(file.read_text())
        assert (document["pixel"], document["layer"]["slot"], document["against"]) == ([6, 2], "stage1.conv1", None)


async def test_a_second_checkpoint_stands_beside_the_first_where_there_is_room_and_the_pane_stays_in_view(tmp_path):
    run = make(tmp_path, outcome="done")
    async with app(tmp_path).run_test(size=(80, 24)) as pilot:
        pane = await open_pane(pilot, run)
        pane.present(inspection(), inspection("last", 30, shift=1))
        await pilot.pause()
        assert "2 shared, 2 lost, 2 gained" in text(pilot.app) and pane.view.panels == 1
        pane.present(inspection(), replace(inspection(), run="20260101-130000-vgg11-Branching-long-name"))
        await pilot.pause()
        assert "predicted 1 (62.5%) against 1 (62.5%)" in text(pilot.app)  # on a line of its own
        pane.present(inspection(), inspection("last", 30, shift=1))
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: pane.view.panels == 2)
        assert "best (epoch 12) against last (epoch 30)" in text(pilot.app)

        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "1 progress" in text(pilot.app))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "2 shared, 2 lost, 2 gained" in text(pilot.app))


async def test_ascii_terminals_get_letters(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    run = make(tmp_path, outcome="done")
    async with app(tmp_path).run_test(size=(80, 24)) as pilot:
        pane = await open_pane(pilot, run)
        pane.present(inspection())
        await pilot.pause()
        assert text(pilot.app).isascii() and "#" in text(pilot.app)


async def test_the_neighbors_of_a_run_come_from_a_child_process(tmp_path):
    run, _ = training.train(tmp_path, training.config(layer="ConvNN", K=3, limit=20, num_epochs=1))
    async with app(tmp_path).run_test(size=(80, 24)) as pilot:
        pane = await open_pane(pilot, run)
        await computed(pilot, pane)
        assert (pane.notice, pane.slot) == ("", "stage1.block1.conv1")
        assert "8x8 map, K 3 of 100 candidates" in text(pilot.app)
        append_event(run.events_path, Saved(step=2, path="checkpoints/00000002"))
        await until(pilot, lambda: "new checkpoint: b" in text(pilot.app))
        await pilot.press("i", *"none.png", "enter")
        assert pane.request.image == "none.png"
        await computed(pilot, pane)
        assert "there is no such file (give the path of" in text(pilot.app)
        assert pane.request == InspectionRequest() and "8x8 map, K 3 of 100 candidates" in text(pilot.app)
