"""The app of a test has settings and presets of its own, and its pilot waits for the app alone."""

from __future__ import annotations

import time

import pytest


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
