"""Check exact resume: train a run undisturbed, and killed and resumed, and compare the two."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnn.config.schema import RunConfig
from convnn.config.toml import dumps
from convnn.errors import Exit, UserError
from convnn.metrics import metric_info
from convnn.runs.run import Run
from convnn.safe_path import python_module
from convnn.text import plural
from convnn.worker import checkpoint

LONGEST = 2000  # characters of a child's last words that are shown


@dataclass(frozen=True)
class ResumeTrial:
    """The result of `run_trial`: the steps that were saved at each kill, and what differs in the end."""

    kills: tuple[int, ...]
    epochs: int
    digest: str
    differences: tuple[str, ...]  # of metrics and weights, in words; none: bit for bit the same


def shortened(config: RunConfig, kills: int) -> RunConfig:
    """Return the configuration with one epoch more than there are kills, and a checkpoint after each epoch."""
    epochs = min(config.training.num_epochs, kills + 1)
    return config.with_values({"training.num_epochs": epochs, "checkpoint.every_epochs": 1})


def run_trial(config: RunConfig, runs: Path, kills: int, say: Callable[[str], None]) -> ResumeTrial:
    """Train in child processes below `runs`: once undisturbed, once killed that often, each time after a checkpoint.

    What was trained is deleted where nothing differs. Raises UserError where a child fails.
    """
    runs.mkdir(parents=True, exist_ok=True)
    # hidden from lists of runs; gone already where it was kept
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=runs, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        preset = folder / "preset.toml"
        preset.write_text(dumps(config), encoding="utf-8")
        undisturbed, killed = Run(folder / "undisturbed", "undisturbed"), Run(folder / "killed", "killed")
        say("undisturbed ...")
        _train(folder, "run", str(preset), "--output_dir", str(undisturbed.path))
        steps: list[int] = []
        words: tuple[str, ...] = ("run", str(preset), "--output_dir", str(killed.path))
        while len(steps) < kills and (step := _train(folder, *words, kill=True)) is not None:
            steps.append(step)
            say(f"killed with {plural(step, 'step')} saved, and resumed ...")
            words = ("resume", f"{killed.path}/")
        if killed.status() != "done":
            _train(folder, *words)
        trial = ResumeTrial(
            tuple(steps),
            config.training.num_epochs,
            undisturbed.history().digest(),
            tuple(_differences(undisturbed, killed)),
        )
        if trial.differences:
            result = runs / f"verify-{folder.name.rpartition('-')[2]}"
            folder.rename(result)
            say(f"both runs are in {result}")
        return trial


def _train(folder: Path, *words: str, kill: bool = False) -> int | None:
    """Run the command to its end; or kill it once it has saved, and return the step: None if it ended before."""
    command = python_module("convnn", *words, "--json", "--runs", str(folder))
    with (
        (folder / "stderr.txt").open("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8"
        ) as child,
    ):
        assert child.stdout is not None
        cause = ""
        try:
            for line in child.stdout:
                event = _event(line)
                cause = str(event.get("cause") or cause)
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
            stderr.seek(0)
            output = stderr.read()[-LONGEST:].strip() or cause
            fix = "see that `convnn run` works with this configuration"
            raise UserError(f"the child ended with code {code}: {output}", Exit.FAILED, fix=fix)
    return None


def _event(line: str) -> dict[str, Any]:
    """Return the event of a line; nothing for a line of a refusal, which is one document over several lines."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _differences(undisturbed: Run, resumed: Run) -> Iterator[str]:
    """Yield the first metric that differs, and every weight that does."""
    a, b = undisturbed.history(), resumed.history()
    if a.digest() != b.digest():
        pairs = zip(a.epochs, b.epochs, strict=False)
        different = (
            (x.epoch, name, x.metrics[name], y.metrics.get(name))
            for x, y in pairs
            for name in x.metrics
            if metric_info(name).traced and x.metrics[name] != y.metrics.get(name)
        )
        epoch, name, before, after = next(different, (len(b.epochs), "epochs", len(a.epochs), len(b.epochs)))
        yield f"{name} of epoch {epoch}: {before!r} undisturbed, {after!r} resumed"
    a_weights = checkpoint.load_named(undisturbed.path, "last").state.model
    b_weights = checkpoint.load_named(resumed.path, "last").state.model
    for name in sorted(a_weights.keys() | b_weights.keys()):
        if name not in a_weights or name not in b_weights:
            yield f"{name} is only in one of them"
        elif not a_weights[name].equal(b_weights[name]):
            apart = (a_weights[name].double() - b_weights[name].double()).abs().max().item()
            yield f"{name}: up to {apart:.3g} apart"
