"""Commands to a run that trains, from any process: the file `control` in its directory holds the latest one."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from pathlib import Path

from convnn.errors import UserError, nearest
from convnn.files import open_regular, write_atomic
from convnn.runs.lock import is_locked

NAME = "control"
LONGEST_COMMAND = 40  # bytes of the file that are read


class ControlCommand(Enum):
    """What a running run can be asked to do; it obeys between two steps. The values are what the file holds."""

    PAUSE = "pause"
    RESUME = "resume"
    CHECKPOINT = "checkpoint"
    STOP_EPOCH = "stop-epoch"
    STOP = "stop"
    PRUNE = "stop pruned"  # to stop, with the cause that a search has

    @classmethod
    def parse(cls, word: str) -> ControlCommand:
        """Return the command that a word names. Raises UserError, which suggests the nearest one."""
        try:
            return cls(word)
        except ValueError:
            words = [command.value for command in cls if command is not cls.PRUNE]
            suggestion = nearest(word, words)
            fix = f"the commands are {', '.join(words)}"
            if suggestion:
                fix = f"did you mean {suggestion}?"
            raise UserError(f"unknown control command {word!r}", value=word, fix=fix) from None


def send(directory: Path, command: ControlCommand) -> None:
    """Leave a command for the run in `directory`, replacing an unread one. Raises UserError where nothing trains."""
    if not is_locked(directory):
        raise UserError(f"{directory.name} is not running")
    write_atomic(directory / NAME, command.value + "\n")


def receive(directory: Path) -> ControlCommand | None:
    """Return and remove the command left for the run, None without one. Raises UserError for an unknown word."""
    path, taken = directory / NAME, _taken(directory)
    try:
        path.replace(taken)  # first out of the way: a command written while this one is read stays for the next call
    except FileNotFoundError:
        return None
    with open_regular(taken) as file:
        word = file.read(LONGEST_COMMAND).decode("utf-8", "replace").strip()
    taken.unlink()
    if not word:
        return None
    return ControlCommand.parse(word)


def discard(directory: Path) -> None:
    """Remove a command that was left for a process that is gone. Raises OSError for what is no regular file."""
    for path in (directory / NAME, _taken(directory)):
        with suppress(FileNotFoundError):
            open_regular(path).close()
            path.unlink()


def _taken(directory: Path) -> Path:
    return directory / f".{NAME}.taken"
