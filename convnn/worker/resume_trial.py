"""Check exact resume: train a run undisturbed, and killed and resumed, and compare the two."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit, Problem, UserError
from convnn.runs.run import Run
from convnn.worker import checkpoint

LONGEST = 2000  # characters of a child's last words that are shown


@dataclass(frozen=True)
class ResumeCheck:
    """The steps that were saved at each kill, and what differs in the end."""

    kills: tuple[int, ...]
    epochs: int
    digest: str
    differences: tuple[str, ...]  # of figures and weights, in words; none: bit for bit the same


def shortened(config: RunConfig, kills: int) -> RunConfig:
    """As many epochs as so many kills need, one more than they are, and a checkpoint after each."""
    epochs = min(config.training.num_epochs, kills + 1)
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"num_epochs": epochs}),
            "checkpoint": config.checkpoint.model_copy(update={"every_epochs": 1}),
        }
    )


def both_ways(config: RunConfig, runs: Path, kills: int, say: Callable[[str], None]) -> ResumeCheck:
    """Train in child processes below `runs`: once undisturbed, once killed that often, each time after a checkpoint.

    What was trained is deleted where nothing differs. Raises UserError where a child fails.
    """
    with _folder(runs) as folder:
        preset = folder / "tried.toml"
        preset.write_text(dumps(config))
        whole, killed = Run(folder / "whole", "whole"), Run(folder / "killed", "killed")
        say("undisturbed ...")
        _train(folder, "run", str(preset), "--output_dir", str(whole.path))
        steps: list[int] = []
        words: tuple[str, ...] = ("run", str(preset), "--output_dir", str(killed.path))
        while len(steps) < kills and (step := _train(folder, *words, kill=True)) is not None:
            steps.append(step)
            say(f"killed with {step} steps saved, and resumed ...")
            words = ("resume", f"{killed.path}/")
        if killed.status() != "done":
            _train(folder, *words)
        check = ResumeCheck(
            tuple(steps), config.training.num_epochs, whole.history().digest(), tuple(_differences(whole, killed))
        )
        if check.differences:
            result = runs / f"verify-{folder.name.rpartition('-')[2]}"
            folder.rename(result)
            say(f"both runs are in {result}")
        return check


@contextmanager
def _folder(runs: Path) -> Iterator[Path]:
    """A folder of its own that no list of runs shows."""
    runs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".verify-", dir=runs))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gone already where it was kept


def _train(folder: Path, *words: str, kill: bool = False) -> int | None:
    """Run the command to its end; or kill it once it has saved, and return the step: None if it ended before."""
    command = [sys.executable, "-m", "convnn", *words, "--json", "--runs", str(folder)]
    with (
        (folder / "talk.txt").open("w+") as talk,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk, text=True) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                event = json.loads(line)
                if kill and event.get("event") == "Saved":
                    child.kill()
                    saved = int(event["step"])
                    if child.wait() == -signal.SIGKILL:
                        return saved
                    break
        finally:
            if child.poll() is None and sys.exc_info()[0] is not None:
                child.kill()
        if (code := child.wait()) != Exit.DONE:
            talk.seek(0)
            output = talk.read()[-LONGEST:].strip()
            fix = "see that `convnn run` works with this preset"
            raise UserError(Problem(f"the child ended with code {code}: {output}", fix=fix), Exit.FAILED)
    return None


def _differences(undisturbed: Run, resumed: Run) -> Iterator[str]:
    """The first figure that differs, and every weight that does."""
    a, b = undisturbed.history(), resumed.history()
    if a.digest() != b.digest():
        pairs = zip(a.epochs, b.epochs, strict=False)
        figures = (
            (x.epoch, name, x.metrics[name], y.metrics.get(name))
            for x, y in pairs
            for name in x.metrics
            if not name.endswith(("_s", "_bytes")) and x.metrics[name] != y.metrics.get(name)
        )
        epoch, name, before, after = next(figures, (len(b.epochs), "epochs", len(a.epochs), len(b.epochs)))
        yield f"{name} of epoch {epoch}: {before!r} undisturbed, {after!r} resumed"
    before_, after_ = checkpoint.chosen(undisturbed.path, "last").model, checkpoint.chosen(resumed.path, "last").model
    for name in sorted(before_.keys() | after_.keys()):
        if name not in before_ or name not in after_:
            yield f"{name} is only in one of them"
        elif not before_[name].equal(after_[name]):
            apart = (before_[name].double() - after_[name].double()).abs().max().item()
            yield f"{name}: up to {apart:.3g} apart"
