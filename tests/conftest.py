"""Fixtures that several parts of the tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command here: (exit code, stdout, stderr)."""
    from convnn.cli.app import main

    def command(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return command
