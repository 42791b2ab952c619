"""Each recipe of CONTRIBUTING.md is followed in a copy of the project, where all commands know the addition."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYER = '''
"""Convolution over a single position."""

from torch import nn


class Pointwise2d(nn.Conv2d):
    """A 1x1 convolution. (B, in, H, W) -> (B, out, H, W)"""

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, kernel_size=1)
'''
LAYER_ROW = """
    "Pointwise": LayerKind(
        class_path="convnn.layers.pointwise:Pointwise2d",
        arguments={},
        cost=lambda in_channels, out_channels, side: convolution(in_channels, out_channels, 1, side[0] * side[1]),
    ),
"""
DATASET = '''
"""Horizontal against vertical stripes."""

import torch

from convnn.data.in_memory import load_in_memory


def open_stripes(path, options):
    """Open forty images of each class."""
    row = torch.arange(8).expand(8, 8) % 2 * 255
    images = torch.stack([row, row.T] * 40).to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
    labels = {split: [0, 1] * 40 for split in options.splits_to_read(measures_normalization=True)}

    def read_images(split, positions):
        return images[positions], positions

    return load_in_memory(options, ("horizontal", "vertical"), labels, read_images, size=(8, 8))
'''
DATASET_ROW = """
    "stripes": Dataset(open="convnn.data.stripes:open_stripes", published=DatasetInfo((8, 8), 2, 80, 80)),
"""
METRIC_ROW = """
        Metric("top2", "higher", "%", 2, top(2), per_split=True),
"""
PANE = '''
"""A pane that counts epochs."""

from tui.screens.run.pane import TextPane


class CountPane(TextPane):
    """The number of epochs."""

    ID = "count"
    TITLE = "count"
    HELP = "How many epochs the run has."
    PLACEHOLDER = "nothing yet"

    def show(self, history, changes):
        self.write([("counted", f"{len(history.epochs)} epochs")])
'''
COMMAND = '''
"""`convnn hello`: print a greeting."""


def hello() -> None:
    """Print a greeting."""
    print("hello")
'''
OPEN_RUN_SCREEN = """
import asyncio, sys
from pathlib import Path

from convnn.runs.find import find_run
from tui.app import ConvnnApp
from tui.screens.run.screen import RunScreen


async def main():
    app = ConvnnApp(Path("runs").absolute())
    async with app.run_test(size=(200, 60)) as pilot:
        await app.push_screen(RunScreen(find_run("@last", Path("runs").absolute())))
        pane = app.screen.query_one("#count")
        for _ in range(200):
            await pilot.pause(0.05)
            text = " ".join(str(widget.render()) for widget in pane.query("*"))
            if "counted" in text:
                break
        print(text)


asyncio.run(main())
"""
RUN_EACH_LAYER = """
import sys

from convnn.cli import main

for layer in ("Pointwise", "Conv2d"):
    try:
        main(["run", "--layer", layer, *sys.argv[1:]])
    except SystemExit as end:
        assert not end.code
"""
SMALL = "--model resnet18 --width 0.0625 --batch_size 16 --num_epochs 1 --device cpu --threads 1 --plain".split()  # noqa: SIM905


def insert(path: Path, anchor: str, row: str) -> None:
    """Write a row behind the only line that ends with the anchor."""
    text = path.read_text()
    assert text.count(anchor) == 1, f"{path.name} has {text.count(anchor)} lines {anchor!r}"
    path.write_text(text.replace(anchor, anchor + row.rstrip("\n")))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with a layer, a data set, a metric, a pane and a command more, and two runs."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("convnn", "tui", "presets"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    package = copy / "convnn"
    (package / "layers" / "pointwise.py").write_text(LAYER.lstrip())
    insert(package / "layer_table.py", "LAYER_TABLE = {", LAYER_ROW)
    (package / "data" / "stripes.py").write_text(DATASET.lstrip())
    insert(package / "data" / "catalog.py", "DATASETS = {", DATASET_ROW)
    insert(package / "metrics.py", "top(1), per_split=True),", METRIC_ROW)
    screen = copy / "tui" / "screens" / "run"
    (screen / "count.py").write_text(PANE.lstrip())
    insert(screen / "screen.py", "(LogPane,", " CountPane")
    insert(
        screen / "screen.py",
        "from tui.screens.run.configuration import ConfigurationPane",
        "\nfrom tui.screens.run.count import CountPane",
    )
    (package / "cli" / "hello.py").write_text(COMMAND.lstrip())
    insert(package / "cli" / "app.py", "COMMANDS = {", '\n    "hello": Command("check", "hello"),')
    python(copy, "-c", RUN_EACH_LAYER, "--dataset", "stripes", *SMALL)
    return copy


def python(project: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(project), "CONVNN_RUNS": str(project / "runs")}
    completed = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=project, env=environment, timeout=120
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def convnn(project: Path, *arguments: str) -> str:
    return python(project, "-m", "convnn", *arguments)


def runs(project: Path) -> dict[str, dict]:
    """The runs of the project by their layer."""
    return {run["config"]["layer"]["type"]: run for run in json.loads(convnn(project, "runs", "--json"))["runs"]}


def test_a_layer_is_counted_as_its_model_is_built(project):
    options = ("--layer", "Pointwise", "--dataset", "stripes", *SMALL[:4])
    planned = json.loads(convnn(project, "summary", *options, "--json"))["summaries"][0]["parameters"]
    log = Path(runs(project)["Pointwise"]["path"], "events.jsonl").read_text().splitlines()
    assert planned == json.loads(log[0])["parameters"]
    assert "Pointwise" in convnn(project, "run", "--help")


def test_a_data_set_is_trained_on_listed_and_filtered(project):
    listed = json.loads(convnn(project, "runs", "dataset=stripes", "--json"))["runs"]
    assert {run["status"] for run in listed} == {"done"}
    assert len(listed) == 2


def test_a_metric_is_recorded_listed_and_compared(project):
    table = convnn(project, "runs", "test_top2>50", "--columns", "layer,test_top2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["test_top2"] for row in rows] == ["100.00", "100.00"]  # of two classes, both are among the best two
    comparison = json.loads(convnn(project, "compare", "@1", "@2", "--json"))
    assert "test_top2" in {row["figure"] for row in comparison["figures"]}


def test_a_pane_shows_the_run(project):
    assert "1 epochs" in python(project, "-c", OPEN_RUN_SCREEN)


def test_a_command_runs_and_is_listed(project):
    assert convnn(project, "hello") == "hello\n"
    assert "Print a greeting." in convnn(project, "--help")
