"""Who may import whom, asked of a fresh interpreter: what is loaded decides, not what a file says at its top."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "textual", "sklearn", "scipy")
SCREEN = ("textual", "typer")

WITH_TORCH = {
    *(
        "allocator",
        "build",
        "checkpoint",
        "doctor",
        "evaluation",
        "loading",
        "loop",
        "machine",
        "metrics",
        "saving",
        "state",
    ),
    *("tally", "trainer", "verify", "warmup", "worker"),
}
OWN_RULES = {"__init__", "__main__", "cli", "errors", "plans"}
PURE = sorted(
    {path.stem for path in (ROOT / "convnn").glob("*.py")} - WITH_TORCH - OWN_RULES
)  # a new one is held to it
MUST_NOT_LOAD = {
    **{f"convnn.{name}": (*HEAVY, "numpy", "typer") for name in PURE},
    "convnn": (*HEAVY, "numpy", "pydantic", "typer", "rich"),
    "convnn.cli": (*HEAVY, "numpy"),
    "convnn.errors": (*HEAVY, "numpy", "pydantic", "rich", "typer"),
    "convnn.plans": (*HEAVY, "numpy", "pydantic", "rich", "typer"),
    "convnn.layers": (
        "convnn.config",
        "convnn.errors",
        "convnn.plans",
        "convnn.events",
        "convnn.models",
        "pydantic",
        *SCREEN,
    ),
    "convnn.models.vgg": ("convnn.config", "convnn.trainer", "convnn.events", "pydantic", *SCREEN),
    "convnn.models.resnet": ("convnn.config", "convnn.trainer", "convnn.events", "pydantic", *SCREEN),
    "convnn.metrics": ("convnn.config", "convnn.trainer", "convnn.events", "pydantic", *SCREEN),
    "convnn.data": (*HEAVY, "convnn.config", "convnn.trainer", "convnn.events"),
    "convnn.data.batches": ("convnn.config", "convnn.trainer", "convnn.events", *SCREEN),
    "convnn.data.digits": ("convnn.config", "convnn.trainer", "convnn.events", *SCREEN),
    "convnn.data.folder": ("convnn.config", "convnn.trainer", "convnn.events", *SCREEN),
    "convnn.data.cifar10": ("convnn.config", "convnn.trainer", "convnn.events", *SCREEN),
    "convnn.data.imagenet": ("convnn.config", "convnn.trainer", "convnn.events", *SCREEN),
    "convnn.build": ("convnn.layers", "convnn.models", "torchvision", "sklearn", *SCREEN),
    "convnn.checkpoint": SCREEN,
    "convnn.trainer": ("convnn.runs", "convnn.worker", "convnn.lock", "rich", *SCREEN),
    "convnn.worker": SCREEN,
    "tui": ("torch", "torchvision", "convnn.layers", "convnn.models", "convnn.trainer"),
    "tui.app": ("torch", "torchvision", "convnn.layers", "convnn.models", "convnn.trainer", "typer"),
}


PROBE = """
import importlib, os, sys
if {torch}: import torch
for module in {modules}:
    sys.stdout.flush()
    if os.fork() == 0:
        importlib.import_module(module)
        print(module, *sys.modules)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


def _probe(modules: list[str], *, torch: bool) -> dict[str, set[str]]:
    code = PROBE.format(modules=modules, torch=torch)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines() if line.strip()}


def test_importing_loads_no_more_than_allowed():
    """Each module into an interpreter of its own: a fork of one that is fresh, but for torch if it may have that."""
    light = [name for name, banned in MUST_NOT_LOAD.items() if "torch" in banned]
    loaded = _probe(light, torch=False) | _probe([name for name in MUST_NOT_LOAD if name not in light], torch=True)
    assert all(module in loaded[module] for module in MUST_NOT_LOAD)
    wrong = {module: loaded[module] & set(banned) for module, banned in MUST_NOT_LOAD.items()}
    assert not any(wrong.values()), {module: found for module, found in wrong.items() if found}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["--version"], ["presets"], ["summary"], ["run", "quickstart", "--dry-run"]],
    ids=" ".join,
)
def test_commands_that_only_tell_start_without_torch(arguments):
    assert _loaded_by(arguments).isdisjoint({"torch", "numpy", "textual"})


def test_runs_that_compile_nothing_train_without_the_compiler(tmp_path):
    """Its import is most of the time from the start to the first step."""
    model = ["--model", "resnet18", "--width", "0.0625", "--resize", "8"]
    small = [*model, "--dataset", "digits", "--limit", "20", "--num_epochs", "1", "--plain"]
    runs = [
        ["run", *small, "--optimizer", optimizer, "--layer", layer, "--K", "4", "--runs", str(tmp_path)]
        for optimizer, layer in (("sgd", "ConvNN"), ("adam", "Branching"), ("adamw", "ConvNN_Attn"))
    ]
    loaded = _loaded_by(*runs)
    assert "torch" in loaded
    assert "torch._dynamo" not in loaded


def _loaded_by(*commands: list[str]) -> set[str]:
    """The modules that commands have loaded when the last of them ends."""
    code = (
        f"import sys\nfrom convnn.cli import main\nfor command in {commands}:\n"
        "    try: main(command)\n    except SystemExit as e: assert not e.code\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())
