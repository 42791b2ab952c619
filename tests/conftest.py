"""The kinds of tests, and fixtures that several packages share."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from support import processes

TESTS = Path(__file__).parent
KINDS = {"recovery": "recovery", "cluster": "recovery", "tui": "app", "cli": "app"}  # by folder; others are unit tests
LONG = ("torture", "slurm", "imports")  # markers of what `make test` leaves out


def pytest_configure() -> None:
    processes.leave_files_in_memory()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every test with its kind; leave out what takes long, unless `-m` names it."""
    for item in items:
        item.add_marker(KINDS.get(item.path.relative_to(TESTS).parts[0], "unit"))
    left_out = {marker for marker in LONG if marker not in config.option.markexpr}
    long = {item for item in items if not left_out.isdisjoint(marker.name for marker in item.iter_markers())}
    config.hook.pytest_deselected(items=list(long))
    items[:] = [item for item in items if item not in long]


def pytest_collection() -> None:
    """Look for no garbage while the tests are imported: nearly all of it stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave the imported tests and libraries out of every later collection, of which each run in this process asks one.

    Each would look through all of them, for a third of a second.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; return its exit code, stdout and stderr."""
    from convnn.cli.app import main

    def command(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return command


@pytest.fixture(autouse=True)
def no_terminal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the width of tables to each test: neither the caller's terminal nor an earlier test decides it."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
