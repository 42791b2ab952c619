"""The walk of the README, made anew: the app in a pseudo-terminal from an empty folder to a stopped run.

python -m scripts.walk    writes docs/walk-80x24.txt, docs/walk-120x40.txt, docs/home.svg, setup.svg and live.svg
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convnn.config.options import OPTIONS
from convnn.presets import store
from scripts.screen import Seen
from scripts.svg import svg

DOCS = Path(__file__).resolve().parents[1] / "docs"
FOLDER = Path("/tmp/walk")  # it is seen on the screens: short, and nobody's
SIZES = ((80, 24), (120, 40))
PICTURED = (110, 36)
NAME = "digits-k16"
FIELDS = [option.key for option in OPTIONS]
TO_K = ("tab",) * FIELDS.index("layer.K")
TO_LIMIT = ("tab",) * (FIELDS.index("data.limit") - FIELDS.index("layer.K"))
BEFORE = (  # what Home has to show besides the walk: two small runs
    ("--layer", "ConvNN", "--K", "4", "--num_epochs", "3", "--limit", "400"),
    ("--layer", "Conv2d", "--num_epochs", "4", "--limit", "400"),
)


@dataclass(frozen=True)
class Step:
    """What is done, what one sees, and the words that show it has come."""

    caption: str
    keys: tuple[str, ...]
    words: str


def steps() -> list[Step]:
    """The way from an empty folder to a stopped run."""
    down = ("down",) * sorted(store.listed()).index("quickstart")
    return [
        Step("`convnn tui` opens on Home: no runs yet, and the presets that came with it", (), "quickstart"),
        Step(
            "`tab` to the presets, down to quickstart, `enter`: the form holds it, and says what it costs",
            ("tab", *down, "enter"),
            "preset quickstart .* ready(.|\n)* parameters ",
        ),
        Step(
            "broken: 40 neighbours for K; the form says what is wrong, where, why, and what to do",
            (*TO_K, "4", "0"),
            "1 problem(.|\n)*--K 40",
        ),
        Step("`f4` applies the fix: K is 16, the cost is known again", ("f4",), r"ready(.|\n)*--K 16\b"),
        Step(
            "a first look will do: `limit` takes 400 images; what was changed is marked",
            (*TO_LIMIT, "4", "0", "0"),
            "2 changed .* ready(.|\n)*--limit 400",
        ),
        Step(
            "`ctrl+s` saves it as a preset, under a name of its own",
            ("ctrl+s", *NAME),
            f"enter saves .*/{NAME}.toml",
        ),
        Step("`enter`: the form is now that preset, and so is the command", ("enter",), f"convnn run {NAME}"),
        Step("`f5` trains it in the app: the first steps", ("f5",), r"step .*\b[1-9]\d+%(.|\n)*started on"),
        Step("after an epoch", (), r"epoch 2/12(.|\n)*step .*\b[2-9]\d%"),
        Step("after two epochs", (), r"epoch 3/12(.|\n)*step .*\b[2-9]\d%"),
        Step("`.` asks what the run is to do", (".",), "stop now"),
        Step(
            "`stop now`: a checkpoint is written, and the run can be resumed",
            ("down", "down", "down", "enter"),
            "■ stopped|stopped in",
        ),
        Step("`esc` goes back to Home, where the run stands first", ("esc",), "runs 1(.|\n)*stopped"),
    ]


def walk(size: tuple[int, int]) -> str:
    """The walk on a terminal of that size: each step with a line about it."""
    told = []
    with opened(size) as app:
        for number, step in enumerate(steps(), 1):
            app.keys(*step.keys)
            told.append(shown(number, step.caption, app.shows(step.words)))
        app.keys("q")
        code = app.ends()
        assert code == 0 and app.restored(), f"it ended with {code} and left\n{app.screen}"
    listed = Seen("-m", "convnn", "runs", size=size, folder=FOLDER)
    listed.ends()
    told.append(shown(len(told) + 1, "`q` leaves, and the shell knows the run", f"$ convnn runs\n{listed.screen}"))
    listed.close()
    return "\n".join(told)


def shown(number: int, caption: str, screen: str) -> str:
    """A step as it is written down."""
    return f"=== {number}. {caption}\n\n{screen.rstrip()}\n"


def pictures() -> Iterator[tuple[str, str]]:
    """(name, SVG) of the form with a problem, of a live run and of Home while it trains."""
    for words in BEFORE:
        subprocess.run(
            [sys.executable, "-m", "convnn", "run", "quickstart", *words, "--plain"],
            cwd=FOLDER, check=True, capture_output=True,
        )  # fmt: skip
    _, load, broken, fix, limit, *_ = steps()
    with opened(PICTURED) as app:
        app.shows("runs 3")
        for step in (load, broken):
            app.keys(*step.keys)
            app.shows(step.words)
        yield "setup", svg(app.emulated, "convnn tui")
        for step in (fix, limit):
            app.keys(*step.keys)
            app.shows(step.words)
        app.keys("f5")
        app.shows(r"epoch 5/12(.|\n)*step .*\b[2-9]\d%")
        yield "live", svg(app.emulated, "convnn tui")
        app.keys("esc")
        app.shows("runs 4")
        yield "home", svg(app.emulated, "convnn tui")
        app.keys("ctrl+q")
        app.shows("stop now")
        app.keys("down", "enter")
        app.ends()


@contextmanager
def opened(size: tuple[int, int]) -> Iterator[Seen]:
    """The app on a terminal of that size, in the folder."""
    app = Seen("-m", "convnn", "tui", size=size, folder=FOLDER)
    try:
        yield app
    finally:
        app.close()


@contextmanager
def empty() -> Iterator[None]:
    """The folder, empty at first and gone afterwards; it must not be there."""
    FOLDER.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(FOLDER)


def main() -> None:
    """Write the walks and the pictures into docs/."""
    for name in ("NO_COLOR", "COLORFGBG", "CI", "CONVNN_RUNS"):
        os.environ.pop(name, None)
    os.environ["XDG_CONFIG_HOME"] = str(FOLDER / ".config")
    for size in SIZES:
        with empty():
            text, path = walk(size), DOCS / f"walk-{size[0]}x{size[1]}.txt"
            path.write_text(text)
            print(path, flush=True)
            if size == SIZES[-1]:
                for name, picture in pictures():
                    path = DOCS / f"{name}.svg"
                    path.write_text(picture)
                    print(path, flush=True)


if __name__ == "__main__":
    main()
