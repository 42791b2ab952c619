"""How the parts of the app below its screens tell a person something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from convnn.errors import UserError


class Say(Protocol):
    """Shows a message; see `ConvnnApp.say`."""

    def __call__(self, message: str, *, error: bool = False) -> None: ...


@contextmanager
def reporting_errors(say: Say) -> Iterator[None]:
    """Show the error that ends the block, where it is one that a person can fix or one of the system."""
    try:
        yield
    except (UserError, OSError) as error:
        say(str(error), error=True)
