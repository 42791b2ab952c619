"""The command asks for threads that sleep while they wait, unless the person has chosen."""

from __future__ import annotations

import os

import pytest

from convnn.cli import main


@pytest.mark.parametrize(("chosen", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(monkeypatch, capsys, chosen, then):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == then
