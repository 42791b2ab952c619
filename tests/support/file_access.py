"""Which files and folders a piece of code opens, by Python's audit events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EVENTS = ("open", "os.listdir", "os.scandir")
_records: list[list[str]] = []  # one for each recording that is going on: an audit hook cannot be removed


def _hook(event: str, arguments: tuple) -> None:
    if _records and event in EVENTS:
        for paths in _records:
            paths.append(str(arguments[0]))


sys.addaudithook(_hook)


@contextmanager
def opened(below: object = "") -> Iterator[list[str]]:
    """The paths of files and folders that are opened meanwhile, of those below a folder."""
    paths: list[str] = []
    _records.append(paths)
    try:
        yield paths
    finally:
        _records.remove(paths)
        paths[:] = [path for path in paths if path.startswith(str(below))]
