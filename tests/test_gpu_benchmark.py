"""The benchmark of the GPU path, as far as a CPU can run it: what it counts, what it survives, and what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import correctness, modes, worker
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import DeviceLostError, GpuBench
from benchmarks.gpu.count import OperatorCounter, count_step
from benchmarks.gpu.report import MARKDOWN_NAME, Report
from benchmarks.gpu.stages import STAGES, Stage
from convnn.layers import ConvNN2d

ROOT = Path(__file__).resolve().parent.parent
LIMITS = (("ConvNN", 235, 7.2), ("Branching", 290, 8.4), ("ConvNN_Attn", 345, 9.8), ("Branching_Attn", 392, 10.9))
"""Of a training step: operators, and GB that they move, less than half of what plain torch moved."""


@pytest.fixture
def run(monkeypatch):
    """Run the script here, which starts a child process for its stages; return its exit code."""

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["gpu", *map(str, words)])
        return main()

    return command


def test_views_and_reservations_launch_nothing():
    x = torch.zeros(4, 6)
    with OperatorCounter() as counter:
        y = torch.empty(6, 4)
        y.copy_(x.mT)
        y.view(2, 12).flatten().add_(1)
    assert counter.calls == {"copy_": 1, "add_.Tensor": 1}
    assert counter.bytes["copy_"] == 2 * x.nbytes  # reads its source alone
    assert counter.bytes["add_.Tensor"] == 2 * x.nbytes


def test_our_operators_are_opened_and_products_have_flops():
    layer, x = ConvNN2d(3, 5, K=4), torch.randn(2, 3, 6, 6)
    with OperatorCounter() as counter:
        layer(x)
    assert not [name for name in counter.calls if name.startswith(("nearest", "aggregate"))]
    scores, gathered = 2 * 2 * 36 * (36 + 3) * 3, 2 * 2 * 36 * 4 * 3 * 5
    assert counter.flops == pytest.approx(scores + gathered, rel=0.1)  # columns of scores are rounded up


def test_a_step_is_counted_as_on_a_gpu_without_one():
    counter = count_step("Conv2d", batch=8)
    assert counter.calls["_fused_adamw_"] == counter.calls["_foreach_norm.Scalar"] == 1
    assert counter.calls["_foreach_mul_.Tensor"] == 0  # AdamW clips the gradient


@pytest.mark.parametrize(("layer", "launches", "gigabytes"), LIMITS)
def test_a_step_launches_few_operators_that_move_little(layer, launches, gigabytes):
    counter = count_step(layer, batch=256)
    assert counter.launches <= launches
    assert sum(counter.bytes.values()) <= 1e9 * gigabytes
    assert counter.largest < 256 * 1024**2  # the scores of all pairs of the first layer


def test_stages_run_on_a_cpu_and_leave_their_results(tmp_path, run):
    names = "ceilings,fused,amp,syncs,memory"
    assert run("--device", "cpu", "--small", "--minutes", 2, "--stages", names, "--out", tmp_path) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: entry["outcome"] for name, entry in report["stages"].items()} == dict.fromkeys(
        names.split(","), "done"
    )
    assert all(row["float32"] == "none" for row in report["stages"]["syncs"]["rows"])
    assert report["machine"]["torch"] == torch.__version__
    assert "## ceilings: done" in (tmp_path / MARKDOWN_NAME).read_text()


def test_a_stage_that_fails_leaves_its_rows_and_the_others(tmp_path, monkeypatch):
    def fail(bench):
        yield {"row": "before"}
        raise ValueError("reason")

    monkeypatch.setitem(STAGES, "speed", Stage(fail, 5))
    monkeypatch.setitem(STAGES, "memory", Stage(lambda bench: iter([{"row": "after"}]), 5))
    report = Report(tmp_path)
    assert worker.run_stages(["speed", "memory"], report, "cpu", True, time.time() + 60) == 0
    stages = Report(tmp_path).values["stages"]
    assert stages["speed"]["outcome"] == "failed: ValueError: reason"
    assert stages["speed"]["rows"] == [{"row": "before"}]
    assert stages["memory"] == {"outcome": "done", "seconds": 0.0, "rows": [{"row": "after"}]}


def test_a_lost_card_ends_the_process_and_the_next_goes_on(tmp_path, monkeypatch):
    def lose(self):
        raise DeviceLostError("an illegal memory access")

    monkeypatch.setattr(GpuBench, "check_device", lose)
    monkeypatch.setitem(STAGES, "speed", Stage(lambda bench: iter([bench.check_device()]), 5))
    monkeypatch.setitem(STAGES, "memory", Stage(lambda bench: iter([{"row": "after"}]), 5))
    names, deadline = ["speed", "memory"], time.time() + 60
    assert worker.run_stages(names, Report(tmp_path), "cpu", True, deadline) == worker.DEVICE_LOST
    assert worker.run_stages(names, Report(tmp_path), "cpu", True, deadline) == 0
    outcomes = {name: entry["outcome"] for name, entry in Report(tmp_path).values["stages"].items()}
    assert outcomes == {"speed": "failed: DeviceLostError: an illegal memory access", "memory": "done"}


def test_stages_end_at_the_deadline(tmp_path):
    report = Report(tmp_path)
    assert worker.run_stages(["ceilings"], report, "cpu", True, time.time() + 1) == 0
    assert report.outcome("ceilings") == "no time"


def test_what_is_missing_is_named():
    bare = subprocess.run(
        [sys.executable, "-S", "-m", "benchmarks.gpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert bare.returncode == 2
    assert "missing: torch, pydantic, tomli-w, numpy (python -m pip install" in bare.stderr


def clean_environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_the_way_to_try_the_script_is_named(tmp_path, run, capsys):
    assert run("--out", tmp_path) == 2
    assert "--device cpu --small" in capsys.readouterr().err


def test_the_cases_of_correctness_cover_every_option_and_layer():
    cases = list(correctness.cases())
    assert len(cases) == 528
    assert {case.layer_class.__name__ for case in cases} == {
        *("ConvNN1d", "ConvNN2d", "ConvNNAttention1d", "ConvNNAttention2d")
    }


def test_a_wrong_layer_is_found(monkeypatch):
    rows = list(correctness.correct_rows(GpuBench(torch.device("cpu"), small=True)))
    assert [row["outside the tolerance"] for row in rows] == [0, 0]
    original = ConvNN2d.compute

    def compute(layer, x):
        return original(layer, x) * (1.001 if x.dtype == torch.float32 else 1)

    monkeypatch.setattr(ConvNN2d, "compute", compute)
    wrong = list(correctness.correct_rows(GpuBench(torch.device("cpu"), small=True)))
    assert [row["outside the tolerance"] > 0 for row in wrong[:2]] == [False, True]
    assert "ConvNN2d" in wrong[2]


def test_a_case_that_prints_no_result_leaves_its_last_line():
    assert modes._result("Traceback\nRuntimeError: overwritten")["outcome"] == "RuntimeError: overwritten"
    assert modes._result('a warning\n{"outcome": "ok", "ms": 1.5}')["ms"] == 1.5
