"""The classes pane of the run screen: what it shows of the predictions of a run, and of a run without any."""

from __future__ import annotations

import asyncio

from support import training
from support.app import app, text, until
from support.pictured_runs import make
from support.predictions import random_predictions

from convnn import predictions
from tui.screens.run.classes import ClassesPane
from tui.screens.run.screen import RunScreen

NUMBER = "9"


async def open_pane(pilot, run) -> ClassesPane:
    await pilot.app.push_screen(RunScreen(run))
    await until(pilot, lambda: pilot.app.screen.history is not None)
    pane = pilot.app.screen.query_one(ClassesPane)
    await pilot.press(NUMBER)
    await until(pilot, lambda: pane.has_focus and pane.notice != "reading the predictions ...")
    return pane


def test_the_picture_of_the_pane(snap_compare, tmp_path):
    run = make(tmp_path, outcome="done")
    predictions.write(run.path, random_predictions(600, 10, epoch=12))

    async def show(pilot):
        await open_pane(pilot, run)
        await pilot.pause(0.1)

    assert snap_compare(app(tmp_path), terminal_size=(80, 24), run_before=show)


async def test_a_key_sorts_the_classes_and_a_new_file_is_shown(tmp_path):
    run = make(tmp_path, outcome="done")
    async with app(tmp_path).run_test(size=(120, 60)) as pilot:
        pane = await open_pane(pilot, run)
        assert "convnn evaluate RUN --save" in text(pilot.app)
        predictions.write(run.path, random_predictions(3000, 100, epoch=4))
        pane.load()
        await until(pilot, lambda: "weights of epoch 4 on the test images (3,000 images)" in text(pilot.app))
        assert "most confused of 100 classes" in text(pilot.app)
        orders = []
        for _ in range(4):
            orders.append(str(pane.border_subtitle))
            await pilot.press("s")
            await pilot.pause()
        assert orders == ["least accurate first", "most errors first", "by number", "most images first"]
        await pilot.press("end")
        await until(pilot, lambda: "mean confidence" in text(pilot.app))
        (run.path / predictions.NAME).write_bytes(b"damaged")
        pane.load()
        await until(pilot, lambda: "cannot be read" in text(pilot.app))


async def test_a_key_evaluates_the_best_checkpoint(tmp_path):
    run, _ = training.train(tmp_path, training.config(num_epochs=1))
    written = (run.path / predictions.NAME).read_bytes()
    (run.path / predictions.NAME).unlink()
    async with app(tmp_path).run_test(size=(100, 40)) as pilot:
        pane = await open_pane(pilot, run)
        await pilot.press("E")
        async with asyncio.timeout(90):  # a process that imports torch
            while pane.report is None:
                await pilot.pause(0.05)
    assert (run.path / predictions.NAME).read_bytes() == written
