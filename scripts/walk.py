"""Record the walk through the app that the documentation shows: from an empty folder to a stopped run.

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
from scripts.screen import EmulatedProgram
from scripts.svg import svg

DOCS = Path(__file__).resolve().parents[1] / "docs"
FOLDER = Path("/tmp/walk")  # short, as it stands on the screens; must not exist
SIZES = ((80, 24), (120, 40))
PICTURE_SIZE = (110, 36)
NAME = "digits-k16"
FIELDS = [option.key for option in OPTIONS]
TO_K = ("tab",) * FIELDS.index("layer.K")
TO_LIMIT = ("tab",) * (FIELDS.index("data.limit") - FIELDS.index("layer.K"))
EARLIER_RUNS = (  # two small runs that Home lists besides that of the walk
    ("--layer", "ConvNN", "--K", "4", "--num_epochs", "3", "--limit", "400"),
    ("--layer", "Conv2d", "--num_epochs", "4", "--limit", "400"),
)


@dataclass(frozen=True)
class Step:
    """The keys pressed, the caption, and a pattern that the screen matches when the step is done."""

    caption: str
    keys: tuple[str, ...]
    pattern: str


def steps() -> list[Step]:
    """Return the steps from an empty folder to a stopped run."""
    down = ("down",) * sorted(store.listed()).index("quickstart")
    return [
        Step("`convnn tui` opens on Home: no runs yet, and the bundled presets", (), "quickstart"),
        Step(
            "`tab` to the presets, down to quickstart, `enter`: the form shows it and its cost",
            ("tab", *down, "enter"),
            "preset quickstart .* ready(.|\n)* parameters ",
        ),
        Step(
            "K is 40; the form shows the problem, its place and the fix",
            (*TO_K, "4", "0"),
            "1 problem(.|\n)*--K 40",
        ),
        Step("`f4` applies the fix: K is 16, the cost is known again", ("f4",), r"ready(.|\n)*--K 16\b"),
        Step(
            "`limit` takes 400 images; changed options are marked",
            (*TO_LIMIT, "4", "0", "0"),
            "2 changed .* ready(.|\n)*--limit 400",
        ),
        Step(
            "`ctrl+s` saves it as a preset under a new name",
            ("ctrl+s", *NAME),
            f"enter saves .*/{NAME}.toml",
        ),
        Step(
            "`enter`, twice: the form shows the new preset, and so does the command",
            ("enter", "enter"),
            f"convnn run {NAME}",
        ),
        Step("`f5` trains it in the app: the first steps", ("f5",), r"step .*\b[1-9]\d+%(.|\n)*started on"),
        Step("after an epoch", (), r"epoch 2/12(.|\n)*step .*\b[2-9]\d%"),
        Step("after two epochs", (), r"epoch 3/12(.|\n)*step .*\b[2-9]\d%"),
        Step("`.` opens the menu of the run", (".",), "stop now"),
        Step(
            "`stop now`: a checkpoint is written, and the run can be resumed",
            ("down", "down", "down", "enter"),
            "■ stopped|stopped in",
        ),
        Step("`esc` goes back to Home, where the run is first", ("esc",), "runs 1(.|\n)*stopped"),
    ]


def walk(size: tuple[int, int]) -> str:
    """Return the walk on a terminal of a size: the screen of each step under its caption."""
    screens = []
    with running_app(size) as app:
        for number, step in enumerate(steps(), 1):
            app.keys(*step.keys)
            screens.append(step_text(number, step.caption, app.wait_for(step.pattern)))
        app.keys("q")
        code = app.wait_for_exit()
        assert code == 0 and app.restored(), f"it ended with {code} and left\n{app.screen}"
    runs_list = EmulatedProgram("-m", "convnn", "runs", size=size, folder=FOLDER)
    runs_list.wait_for_exit()
    screens.append(
        step_text(len(screens) + 1, "`q` leaves; the command line lists the run", f"$ convnn runs\n{runs_list.screen}")
    )
    runs_list.close()
    return "\n".join(screens)


def step_text(number: int, caption: str, screen: str) -> str:
    """Return a step as the file holds it."""
    return f"=== {number}. {caption}\n\n{screen.rstrip()}\n"


def pictures() -> Iterator[tuple[str, str]]:
    """Yield (name, SVG) of the form with a problem, of a live run and of Home while it trains."""
    for options in EARLIER_RUNS:
        subprocess.run(
            [sys.executable, "-m", "convnn", "run", "quickstart", *options, "--plain"],
            cwd=FOLDER, check=True, capture_output=True,
        )  # fmt: skip
    _, load, broken, fix, limit, *_ = steps()
    with running_app(PICTURE_SIZE) as app:
        app.wait_for("runs 3")
        for step in (load, broken):
            app.keys(*step.keys)
            app.wait_for(step.pattern)
        yield "setup", svg(app.emulated, "convnn tui")
        for step in (fix, limit):
            app.keys(*step.keys)
            app.wait_for(step.pattern)
        app.keys("f5")
        app.wait_for(r"epoch 5/12(.|\n)*step .*\b[2-9]\d%")
        yield "live", svg(app.emulated, "convnn tui")
        app.keys("esc")
        app.wait_for("runs 4")
        yield "home", svg(app.emulated, "convnn tui")
        app.keys("ctrl+q")
        app.wait_for("stop now")
        app.keys("down", "enter")
        app.wait_for_exit()


@contextmanager
def running_app(size: tuple[int, int]) -> Iterator[EmulatedProgram]:
    """Run the app in the folder, on a terminal of a size."""
    app = EmulatedProgram("-m", "convnn", "tui", size=size, folder=FOLDER)
    try:
        yield app
    finally:
        app.close()


@contextmanager
def empty_folder() -> Iterator[None]:
    """Make the folder and remove it afterwards. Raises FileExistsError where it exists."""
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
        with empty_folder():
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
