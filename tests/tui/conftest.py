"""The app of a test has settings and presets of its own, and its pilot waits for the app alone."""

from __future__ import annotations

import time

import pytest
from textual.pilot import Pilot
from textual.screen import Screen


@pytest.fixture(autouse=True)
def config_home(tmp_path_factory, monkeypatch):
    """An empty configuration folder."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def pilot_waits_for_its_thread(monkeypatch):
    """After a key the pilot waits until the thread of the app is idle, not the process.

    While a run trains in it, the process never is: each key would take the second after which the pilot gives up.
    """
    monkeypatch.setattr("textual._wait.process_time", time.thread_time)


@pytest.fixture
def frames_are_drawn_for_the_pilot(monkeypatch):
    """The screen is drawn whenever the pilot pauses, and when its text is read, not after each message in between.

    Nobody sees those frames, and of the tests of the form they take a third of the time.
    """
    draw, pause = Screen._compositor_refresh, Pilot.pause

    def postpone(screen: Screen) -> None:
        if screen is screen.app.screen:
            screen._dirty_widgets.clear()  # the compositor has their regions, and draws them with the next frame
            screen.app._update_mouse_over(screen)
        else:
            draw(screen)

    async def pause_and_draw(pilot: Pilot, delay: float | None = None) -> None:
        await pause(pilot, delay)
        draw(pilot.app.screen)

    monkeypatch.setattr(Screen, "_compositor_refresh", postpone)
    monkeypatch.setattr(Pilot, "pause", pause_and_draw)
