"""The Triton kernels compute what plain torch does, in Triton's interpreter, and compile for the cards they are for."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.count import OperatorCounter
from convnn.layers import ConvNN2d, ConvNNAttention2d
from convnn.layers.ops.triton import launch, search

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
STACK_BYTES = 64  # of a thread: what the registers do not hold, outside the inner loops
META = torch.device("meta")

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def run_python(*words, **environment):
    """Run Python in a process of its own: a kernel is interpreted or compiled as the environment says at import."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    inherited = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, *map(str, words)]
    result = subprocess.run(
        command, env=inherited | {"PYTHONPATH": path} | environment, capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def without_kernel(name):
    """Compute with plain torch instead of a kernel."""
    launch.disable(name, META)
    try:
        yield
    finally:
        launch.enable(name, META)


SCRIPTS = {"triton_search.py": 61, "triton_aggregate.py": 41, "triton_attend.py": 263}  # and which of their cases
RUN_SCRIPTS = """
import runpy, sys, warnings
scripts = sys.argv[1:]
while scripts:
    script, sys.argv[1], *scripts = scripts
    with warnings.catch_warnings():
        runpy.run_path(script, run_name="__main__")
"""


@needs_triton
@pytest.mark.parametrize("is_sample", [True, pytest.param(False, marks=pytest.mark.torture)])
def test_kernels_compute_what_plain_torch_does(is_sample):
    words = [word for script, every in SCRIPTS.items() for word in (SUPPORT / script, every if is_sample else 1)]
    assert run_python("-W", "ignore:invalid value", "-c", RUN_SCRIPTS, *words, TRITON_INTERPRET="1") == ""


@needs_triton
@pytest.mark.parametrize("words", [[], pytest.param(["all"], marks=pytest.mark.torture)], ids=["one of each", "all"])
def test_kernels_compile_for_every_card_and_keep_to_the_registers(words):
    tool = Path(find_spec("triton").origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this triton has no cuobjdump")
    usages = [json.loads(line) for line in run_python(SUPPORT / "triton_compile.py", *words).splitlines()]
    assert {usage["capability"] for usage in usages} == {80, 90, 100}
    for usage in usages:
        assert usage["stack"] <= STACK_BYTES, usage
        assert usage["shared"] <= 99 << 10, usage  # of a program on sm_86 and sm_89, the least of those


@pytest.mark.parametrize("layer_class", [ConvNN2d, ConvNNAttention2d])
@pytest.mark.parametrize("options", [{}, {"magnitude_type": "euclidean"}, {"aggregation_type": "Loc_Col"}])
def test_a_launch_counts_as_one_operator_and_no_matrix_of_scores_is_written(layer_class, options):
    layer = layer_class(16, 8, K=4, **options).to(META)
    x = torch.empty(2, 16, 12, 12, device=META, requires_grad=True)
    with OperatorCounter() as counter:
        layer(x).sum().backward()
    assert counter.calls["search"] == 1
    assert counter.largest < 2 * 144 * 144
    with without_kernel("search"), OperatorCounter() as counter:
        layer(x).sum().backward()
    assert counter.calls["search"] == counter.calls["baddbmm"] == 0  # that copies the penalty over all scores
    assert counter.calls["bmm"] + counter.calls["bmm.out"] >= 1
    assert counter.largest >= 2 * 144 * 144


@pytest.mark.parametrize(("neighbor", "agrees"), [(1, True), (0, False)])
def test_a_neighbor_that_rounding_decides_is_as_good(neighbor, agrees):
    """Distances of queries that are much longer than the candidates are rounded more coarsely than those are."""
    queries, candidates = torch.full((1, 3, 1), 1e3), torch.tensor([0, 1, 1 - 6e-8])[None, :, None]
    expected = torch.tensor([[[0, 2], [1, 2], [2, 1]]])
    index = expected.clone()
    index[0, int(neighbor == 0), 1] = neighbor
    assert search.agree(index, expected, queries, candidates, "euclidean", torch.arange(3)) == agrees


def test_kernels_are_for_batches_whose_rows_they_can_count():
    usable, larger = (torch.empty(1 << 15, rows, 1, device=META) for rows in (1 << 15, (1 << 15) + 1))
    assert launch.is_usable("search", usable)
    assert not launch.is_usable("search", larger)


@pytest.mark.parametrize(
    ("actual", "expected", "agrees"),
    [
        ([1.0, 2.0], [1.0, 2.1], True),
        ([1.0, 2.0], [1.0, 2.3], False),
        ([torch.nan, 2.0], [1.0, 2.0], False),
        ([torch.inf, 2.0], [1.0, 2.0], False),
        ([5.0, 2.0], [torch.nan, 2.0], True),  # of a diverged run: nothing to compare with
        ([65504.0, 2.0], [torch.inf, 2.0], True),  # of a half type that has overflowed
        ([65504.0, 3.0], [torch.inf, 2.0], False),
    ],
)
def test_results_agree_where_those_of_plain_torch_are_numbers(actual, expected, agrees):
    assert launch.agree([torch.tensor(actual)], [torch.tensor(expected)], tolerance=0.1) == agrees


@pytest.mark.parametrize("hip", [None, "7.0"])
def test_gradients_by_weight_of_half_types_are_summed_in_float32_without_the_kernel(monkeypatch, hip):
    monkeypatch.setattr(torch.version, "hip", hip)
    layer = ConvNN2d(16, 8, K=4).to(META, torch.bfloat16)
    x = torch.empty(2, 16, 12, 12, device=META, dtype=torch.bfloat16, requires_grad=True)
    with without_kernel("aggregate"), OperatorCounter() as counter:
        layer(x).sum().backward()
    assert counter.calls["mm.dtype"] == (hip is None)  # torch refuses that on ROCm
    assert layer.weight.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("is_deterministic", [False, True])
@pytest.mark.parametrize(
    ("layer_class", "kernel", "ordered"),
    [(ConvNN2d, "aggregate", "aggregate_by_x_ordered"), (ConvNNAttention2d, "attend", "attend_by_source")],
)
def test_deterministic_algorithms_add_in_no_arbitrary_order(layer_class, kernel, ordered, is_deterministic):
    layer, x = layer_class(16, 8, K=4).to(META), torch.empty(2, 16, 12, 12, device=META, requires_grad=True)
    torch.use_deterministic_algorithms(is_deterministic)
    try:
        with OperatorCounter() as counter:
            layer(x).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert counter.calls[kernel] == 1
    assert counter.calls[ordered] == is_deterministic
    assert counter.calls["aggregate_by_x"] == (layer_class is ConvNN2d and not is_deterministic)
