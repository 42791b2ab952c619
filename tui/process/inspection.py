"""Computes the neighbors of all layers on one image in a child process; moving a query is then a look-up."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from convnn.neighbors.inspection import Inspection, read
from convnn.runs.run import Run
from tui.process.child import run_command


@dataclass(frozen=True)
class InspectionRequest:
    """What `convnn inspect` is asked for, in the words of its flags."""

    image: str = "0"
    split: str = ""  # the default for an image of the data set, none for a file
    checkpoint: str = "best"
    against: str = ""  # RUN:CHECKPOINT, or :CHECKPOINT of the same run

    def flags(self) -> list[str]:
        """Return the flags of the command, a word each, as a value may begin with a dash."""
        values = {"image": self.image, "split": self.split, "checkpoint": self.checkpoint, "against": self.against}
        return [f"--{name}={value}" for name, value in values.items() if value]


async def inspect(run: Run, root: Path, request: InspectionRequest) -> tuple[Inspection, Inspection | None]:
    """Return the neighbors of a run's layers, and those of a second checkpoint if that is requested.

    Raises UserError that says why there are none.
    """
    with tempfile.TemporaryDirectory(prefix="convnn-") as folder:
        file = Path(folder) / "neighbors.safetensors"
        await run_command("inspect", f"{run.path}/", "--runs", str(root), "--out", str(file), *request.flags())
        return await asyncio.to_thread(read, file)
