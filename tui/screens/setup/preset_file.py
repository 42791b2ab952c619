"""The file of the preset that the form was filled from, watched for edits by other programs."""

from __future__ import annotations

from pathlib import Path

from convnn.errors import UserError
from convnn.presets.store import content


class PresetFile:
    """Remembers the content of the file as it was loaded; without a path there is nothing to watch."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.loaded = self._read()
        self.is_edited = False  # since it was loaded

    def poll(self) -> None:
        self.is_edited = self._read() != self.loaded

    def _read(self) -> bytes | None:
        try:
            if not self.path:
                return None
            return content(self.path)
        except UserError:
            return None
