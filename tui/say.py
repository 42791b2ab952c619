"""How the parts of the app below its screens tell a person something."""

from __future__ import annotations

from typing import Protocol


class Say(Protocol):
    """Shows a message; see `Services.say`."""

    def __call__(self, message: str, *, error: bool = False) -> None: ...
