"""Data sets whose batches a data worker cannot hand over: importable there by name."""

from __future__ import annotations

import os


class Unpicklable:
    """Batches that cannot be sent to another process."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> object:
        return lambda: index


class Ending(Unpicklable):
    """A worker that ends by itself."""

    def __getitem__(self, index: int) -> object:
        os._exit(7)
