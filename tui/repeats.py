"""Repeats of a run: the same configuration with more seeds, as a sweep of one cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from convnn.config import toml
from convnn.config.recorded import SEED
from convnn.config.schema import RunConfig
from convnn.presets import store
from convnn.runs.run import Run
from convnn.runs.summary import Summary
from convnn.sweeps.dump import is_sweepable
from convnn.sweeps.file import Sweep
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.plan import model_key, recorded_model_key
from tui.dialogs.choice import Answer
from tui.process.background import MORE_SEEDS
from tui.widgets.run_name import without_time

NAME_LENGTH = 60
ANSWERS: tuple[Answer, ...] = (
    ("queue", "in the queue", "in the background, as a sweep: w shows it"),
    ("app", "in this app", "one after the other"),
    ("cancel", "not now", "nothing happens"),
)


@dataclass(frozen=True)
class Repeats:
    """A run and the seeds that it is trained with."""

    config: RunConfig
    name: str
    known_seeds: list[int]  # of the run and its repeats that are done, and of those that were added before
    new_seeds: list[int]

    @classmethod
    def of(cls, run: Run, runs: Iterable[Summary], root: Path) -> Repeats:
        """Return the repeats of a run with three seeds that none of its repeats among `runs` has.

        Raises UserError where its configuration is damaged.
        """
        config = run.config()
        key = _without_seed(model_key(config))
        seeds: dict[int, bool] = {config.training.seed: run.recorded_status() == "done"}  # whether one is done
        for summary in runs:
            seed = summary.config.value(SEED)
            if isinstance(seed, int) and _without_seed(recorded_model_key(summary)) == key:
                seeds[seed] = seeds.get(seed, False) or summary.status == "done"
        name = without_time(run.name)[:NAME_LENGTH]
        folder = SweepFolder(root, f"{name}-seeds")
        if folder.is_there:
            seeds |= dict.fromkeys(folder.sweep().seeds or (), True)
        new = list(islice((seed for seed in count() if seed not in seeds), MORE_SEEDS))
        return cls(config, name, [seed for seed in seeds if seeds[seed]], new)

    @property
    def sweep(self) -> Sweep:
        """The sweep of the runs there are and of the new ones."""
        preset = store.parse(toml.dumps(self.config), self.name)
        values = {key: value for key, value in preset.values.items() if is_sweepable(key)}
        return Sweep(self.name, base=replace(preset, values=values), seeds=sorted([*self.known_seeds, *self.new_seeds]))

    @property
    def configs(self) -> list[RunConfig]:
        return [self.config.with_values({SEED: seed, "output.dir": None}) for seed in self.new_seeds]

    @property
    def question(self) -> tuple[str, str, tuple[Answer, ...]]:
        seeds = ", ".join(map(str, self.new_seeds))
        return "three more seeds", f"{self.name} with the seeds {seeds}.", ANSWERS


def _without_seed(key: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [item for item in key if item[0] != SEED]
