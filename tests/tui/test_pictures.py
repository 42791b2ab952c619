"""One picture of each screen at two sizes; everything else is asserted on text and state."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.app import app, form, make_runs, put, text, until
from support.sweeps import make_sweep

from convnn.config.toml import dumps
from convnn.presets import resolve, store
from convnn.sweeps.queue import Entry, Queue
from tui.screens.setup.save_preset import SavePreset
from tui.screens.sweep.screen import SweepScreen
from tui.widgets.queue_list import QueueList

SIZES = [(80, 24), (120, 40)]
ABOUTS = {
    "long-look": "vgg11 Branching at ratio 0.5 on cifar10, a night on two cores",
    "quick-look": "vgg11 ConvNN on scikit-learn's digits, a minute",
}


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """An empty working directory with two presets and no others."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(store, "folders", lambda: [Path("presets"), Path("none"), Path("none")])
    (tmp_path / "presets").mkdir()
    for name, about in ABOUTS.items():
        (tmp_path / "presets" / f"{name}.toml").write_text(f'about = "{about}"\n\n[data]\ndataset = "digits"\n')


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_home(snap_compare, size):
    make_runs(Path("runs"))

    async def read(pilot):
        await until(pilot, lambda: len(pilot.app.runs) == 6 and pilot.app.screen.presets)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=read)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_the_queue(snap_compare, size):
    make_runs(Path("runs"))
    queue = Queue(Path("runs"))
    for value in ("1", "4", "9"):
        config = resolve.resolve(None, {"layer.K": value, "data.dataset": "digits"}).checked()
        queue.add([Entry(config=dumps(config, whole=True), name=f"neighbors-{value}")])
    queue.leave(queue.entries()[0][0], "failed: no space left on device")
    queue.pause("3 runs in a row failed with one cause: no space left on device")

    async def read(pilot):
        await until(pilot, lambda: len(pilot.app.runs) == 6 and pilot.app.screen.query_one(QueueList).items)
        await pilot.press("tab", "down")
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=read)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_a_sweep(snap_compare, size):
    make_sweep(Path("runs"))

    async def read(pilot):
        await until(pilot, lambda: pilot.app.screen.presets)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, SweepScreen) and pilot.app.screen.results)
        await until(pilot, lambda: "best 66.10" in text(pilot.app))
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=read)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_the_form_with_a_problem(snap_compare, size):
    async def broken(pilot):
        pilot.app.animation_level = "none"
        screen = await form(pilot)
        await put(pilot, screen, "layer.K", "40")
        screen.query_one("#form").go_to("layer.K")
        screen.focused.cursor_blink = False
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=broken)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_saving(snap_compare, size):
    async def saving(pilot):
        await until(pilot, lambda: pilot.app.screen.presets)
        await pilot.app.push_screen(SavePreset(resolve.resolve(None, {"layer.K": "5"}).config, None, None))
        pilot.app.screen.focused.cursor_blink = False
        await pilot.press(*"quick-look", "ctrl+s")
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=saving)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_help(snap_compare, size):
    async def helped(pilot):
        await until(pilot, lambda: pilot.app.screen.presets)
        await pilot.press("f1")
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=helped)
