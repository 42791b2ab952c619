"""Who may import whom, asked of a fresh interpreter: what is loaded decides, not what a file says at its top."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "textual", "scipy")
SCREEN = ("textual", "typer")

TORCH_PACKAGES = ("layers", "models", "data", "training", "worker")  # the others never load torch
SHARED = ("convnn.config.options", "convnn.runs.find", "typer")  # what many modules import
TRAINER = ("convnn.config", "convnn.training", "convnn.events")


def _modules(folder: str) -> list[str]:
    """The modules below a folder of the source tree, without the package files that only gather them."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem != "__init__"]


OWN_RULES = ("convnn.__main__", "convnn.metrics", "convnn.cli", "convnn.costs.plan", "convnn.errors")
PURE = [
    name for name in _modules("convnn") if name.split(".")[1] not in TORCH_PACKAGES and not name.startswith(OWN_RULES)
]  # a new one is held to it
MUST_NOT_LOAD = {
    **dict.fromkeys(PURE, (*HEAVY, "numpy", "typer")),
    **dict.fromkeys(
        [f"convnn.sweeps.search.{name}" for name in ("coordinator", "samplers", "study")], (*HEAVY, "typer")
    ),
    "convnn": (*HEAVY, "numpy", "pydantic", "typer", "rich"),
    **dict.fromkeys(_modules("convnn/cli"), (*HEAVY, "numpy")),
    "convnn.errors": (*HEAVY, "numpy", "pydantic", "rich", "typer"),
    "convnn.costs.plan": (*HEAVY, "numpy", "pydantic", "rich", "typer"),
    "convnn.models.architectures": (*HEAVY, "numpy", "pydantic", "rich", "typer"),
    "convnn.layers": ("convnn.config", "convnn.errors", "convnn.costs", "convnn.events", "pydantic", *SCREEN),
    "convnn.models.vgg": (*TRAINER, "pydantic", *SCREEN),
    "convnn.models.resnet": (*TRAINER, "pydantic", *SCREEN),
    "convnn.metrics": (*TRAINER, "pydantic", *SCREEN),
    "convnn.data": (*HEAVY, *TRAINER),
    "convnn.data.loaders": (*TRAINER, *SCREEN),
    "convnn.data.digits": (*TRAINER, *SCREEN),
    "convnn.data.folder": (*TRAINER, *SCREEN),
    "convnn.data.cifar": (*TRAINER, *SCREEN),
    "convnn.data.imagenet": (*TRAINER, *SCREEN),
    "convnn.training.build": ("convnn.layers", "torchvision", *SCREEN),
    "convnn.worker.checkpoint": SCREEN,
    "convnn.training.trainer": ("convnn.runs", "convnn.worker", *SCREEN),
    "convnn.worker.train_run": SCREEN,
    "tui": ("torch", "torchvision", "convnn.layers", "convnn.training.trainer"),
    "tui.app": (
        "torch",
        "torchvision",
        "numpy",
        "convnn.layers",
        "convnn.charts.chart",
        "convnn.training.trainer",
        "typer",
    ),
}


PROBE = """
import importlib, os, sys
for module in {preloaded}:
    importlib.import_module(module)
for module in {modules}:
    sys.stdout.flush()
    if os.fork() == 0:
        importlib.import_module(module)
        print(module, *sys.modules)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


def _probe(modules: list[str], *preloaded: str) -> dict[str, set[str]]:
    """The modules that are loaded once each of these is, in a fork of an interpreter with the preloaded ones."""
    code = PROBE.format(modules=modules, preloaded=preloaded)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines() if line.strip()}


@pytest.mark.imports
def test_importing_loads_no_more_than_allowed():
    """Each module into an interpreter of its own: a fork of one with the costly imports that it is allowed, or none."""
    loaded = _probe([*SHARED])
    below = {name: loaded[name] for name in SHARED}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, banned in MUST_NOT_LOAD.items():
        allowed = tuple(shared for shared in SHARED if below[shared].isdisjoint((name, *banned)))
        groups.setdefault(allowed if "torch" in banned else ("torch",), []).append(name)
    for preloaded, modules in groups.items():
        loaded |= _probe(modules, *preloaded)
    assert all(module in loaded[module] for module in MUST_NOT_LOAD)
    wrong = {module: loaded[module] & set(banned) for module, banned in MUST_NOT_LOAD.items()}
    assert not any(wrong.values()), {module: names for module, names in wrong.items() if names}


def test_commands_that_only_tell_start_without_torch():
    commands = (
        ["--help"],
        ["run", "--help"],
        ["--version"],
        ["presets"],
        ["summary"],
        ["run", "quickstart", "--dry-run"],
    )
    assert _loaded_by(*commands).isdisjoint({"torch", "numpy", "textual"})


def test_runs_that_compile_nothing_train_without_the_compiler(tmp_path):
    """Its import is most of the time from the start to the first step."""
    model = ["--model", "resnet18", "--width", "0.0625", "--resize", "8"]
    small = [*model, "--dataset", "digits", "--limit", "20", "--num_epochs", "1", "--device", "cpu", "--plain"]
    runs = [
        ["run", *small, "--optimizer", optimizer, "--layer", layer, "--K", "4", "--runs", str(tmp_path)]
        for optimizer, layer in (("sgd", "ConvNN"), ("adam", "Branching"), ("adamw", "ConvNN_Attn"))
    ]
    loaded = _loaded_by(*runs)
    assert "torch" in loaded
    assert loaded.isdisjoint({"torch._dynamo", "triton"})


def _loaded_by(*commands: list[str]) -> set[str]:
    """The modules that commands have loaded when the last of them ends."""
    code = (
        f"import sys\nfrom convnn.cli import main\nfor command in {commands}:\n"
        "    try: main(command)\n    except SystemExit as e: assert not e.code\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())
