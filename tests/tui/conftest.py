"""The app of a test has settings and presets of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def config_home(tmp_path_factory, monkeypatch):
    """An empty configuration folder."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder
