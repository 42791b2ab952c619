"""The app as tests see it: on runs that were made up, at a fixed time, on a machine of a fixed size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from textual.pilot import Pilot

from convnn.config import toml
from convnn.events import Epoch, Event, Finished, Started
from convnn.presets import resolve
from convnn.runs.event_log import event_line
from tui.app import ConvnnApp
from tui.screens.setup.form import Form
from tui.screens.setup.screen import SetupScreen

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
LAYERS = ("Branching", "ConvNN", "Conv2d", "Branching_Attn", "ConvNN_Attn", "Conv2d_New")


def make_run(root: Path, name: str, status: str = "done", *, hours: float = 1.0, epochs: int = 3, **typed: str) -> Path:
    """Write a run directory with that name and outcome, started so many hours ago."""
    words = {
        "data.dataset": "digits",
        "training.num_epochs": "4",
        **{k.replace("__", "."): v for k, v in typed.items()},
    }
    config = resolve.resolve(None, words).config
    run = root / name
    run.mkdir(parents=True)
    (run / "config.toml").write_text(toml.dumps(config, whole=True))
    start = NOW - timedelta(hours=hours)
    events: list[Event] = [Started(time=start, host="here", device="cpu", epochs=4, steps_per_epoch=10)]
    for number in range(1, epochs + 1):
        metrics = {"train_loss": 2 / number, "test_top1": 90 - 30 / number, "train_s": 9.0, "eval_s": 1.0}
        events.append(
            Epoch(time=start + timedelta(seconds=10 * number), epoch=number, step=10 * number, metrics=metrics)
        )
    if status in ("done", "stopped", "interrupted", "failed", "diverged"):
        events.append(Finished(time=start + timedelta(seconds=60), outcome=status))
    (run / "events.jsonl").write_text("".join(event_line(event) + "\n" for event in events))
    return run


def make_runs(root: Path) -> None:
    """Write a run of each outcome, the newest first."""
    for index, status in enumerate(["done", "stopped", "interrupted", "failed", "diverged", "died"]):
        layer = LAYERS[index]
        name = f"20261122-{14 - index:02d}0000-vgg11-{layer}-a{index}f{index}"
        make_run(root, name, status, hours=index + 1, epochs=4 if status == "done" else 2, layer__type=layer)


def app(root: Path, **options) -> ConvnnApp:
    return ConvnnApp(root, now=NOW.timestamp, free_memory=lambda device: ("cpu", 8 * 2**30), **options)


async def until(pilot: Pilot, condition: Callable[[], object]) -> None:
    """Wait until a condition holds, at most a few seconds."""
    for _ in range(400):
        if condition():
            await pilot.pause()
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not happen; the screen is:\n{text(pilot.app)}")


def text(app: ConvnnApp) -> str:
    """What the screen shows, as lines."""
    width, height = app.size
    return "\n".join(
        "".join(s.text for s in strip)[:width].rstrip() for strip in app.screen._compositor.render_strips()[:height]
    )


def messages(app: ConvnnApp) -> str:
    """The messages that are shown over the footer."""
    return "\n".join(message.message for message in app._notifications)


async def form(pilot: Pilot, *keys: str) -> SetupScreen:
    """Press keys until the form is open."""
    await pilot.press(*keys or ("n",))
    await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen) and pilot.app.screen.checked)
    assert isinstance(pilot.app.screen, SetupScreen)
    return pilot.app.screen


async def put(pilot: Pilot, screen: SetupScreen, key: str, word: str) -> None:
    """Put a word into a field as a person would, and wait for the check."""
    fields = screen.query_one(Form)
    fields.go_to(key)
    control = fields.fields[key].control
    if hasattr(control, "pick"):
        control.pick(word)
    else:
        control.value = word
    await until(pilot, lambda: screen.draft.text(fields.fields[key].option) == word)
    await screen.check()
    await pilot.pause()
