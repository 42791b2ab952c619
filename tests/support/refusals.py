"""Calls that write below a folder, refused as a full disk refuses them."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors

from convnn.worker import checkpoint

CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate", "pwrite")


class Refusals:
    """Counts the calls that write below a folder, and refuses the n-th, or the n-th and all after it."""

    def __init__(self, folder: Path, refuse: int | None = None, *, forever: bool = False) -> None:
        self.folder, self.refuse, self.forever, self.calls = str(folder), refuse, forever, 0

    def count(self, target: object) -> None:
        """Raise where this call is refused."""
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").resolve()
        if not isinstance(target, str | os.PathLike) or self.folder not in os.fspath(target):
            return
        self.calls += 1
        if self.refuse is not None and (self.calls == self.refuse or (self.forever and self.calls > self.refuse)):
            raise OSError(errno.ENOSPC, "No space left on device (injected)")


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, refusals: Refusals) -> Iterator[Refusals]:
    with monkeypatch.context() as patch:
        for name in CALLS:
            original = getattr(os, name)

            def call(target, *rest, original=original, reads=name == "open", **named):
                flags = rest[0] if rest else named.get("flags", 0)
                if not reads or flags & (os.O_WRONLY | os.O_RDWR):
                    refusals.count(target)
                return original(target, *rest, **named)

            patch.setattr(os, name, call)

        def opened(file, mode="r", *rest, original=io.open, **named):
            if set(mode) & set("wax+"):
                refusals.count(file)
            return original(file, mode, *rest, **named)

        patch.setattr(io, "open", opened)

        def saved(tensors, path, original=checkpoint.save_file):
            try:
                refusals.count(path)
            except OSError as error:  # as the library says it
                raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)") from error
            return original(tensors, path)

        patch.setattr(checkpoint, "save_file", saved)
        yield refusals
