"""The plain layers equal ours in output and gradient for every measured case; arithmetic of the tables."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import cells, growth, layers, plain, step, table
from benchmarks.measure import BenchOptions
from convnn.training import build

WIDTH = 0.25  # with fewer channels two maps are often alike in direction after a ReLU, and ties are chosen at will
CASES = [
    *((case.kind, case.options) for case in layers.CASES.values()),
    *(("ConvNN", {"magnitude_type": "euclidean", "K": K}) for K in (1, 4, 16)),
    ("ConvNNAttention", {"magnitude_type": "euclidean"}),
]


def pairs(kind, options, before, after):
    """A layer of each, with the same weights, in float64: rounding must not decide between near neighbors."""
    torch.manual_seed(2)
    theirs, ours = (make(before, after, **options).double() for make in layers.KINDS[kind])
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
    theirs.load_state_dict(ours.state_dict())
    return theirs, ours


def results(layer, x):
    x = x.clone().requires_grad_()
    torch.manual_seed(3)  # of the random candidates
    out = layer(x)
    out.sin().sum().backward()
    return [out, x.grad, *(p.grad for _, p in sorted(layer.named_parameters()))]


@pytest.mark.parametrize("side", (2, 4, 11))
@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_plain_gives_the_same_outputs_and_gradients(kind, options, side):
    if kind == "ConvNNAttention":
        options = options | {"attention_dropout": 0.0}  # the two draw their dropout in different shapes
    theirs, ours = pairs(kind, options, 3, 5)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    for expected, actual in zip(results(theirs, x), results(ours, x), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layer", step.TARGETS)
def test_a_plain_model_is_ours_written_out(layer):
    torch.manual_seed(1)
    config = step.vgg11_config(layer, 2)
    config = config.model_copy(update={"model": config.model.model_copy(update={"width": WIDTH})})
    ours, theirs = build.model(config, 10).double(), plain.vgg11(step.PLAIN[layer], 10, width=WIDTH).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    grads = []
    for model in (theirs, ours):
        model.apply(lambda part: part.eval() if isinstance(part, nn.Dropout) else part)
        model(x).square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], msg=lambda message, name=name: f"{name}: {message}")


def test_the_rows_measure_the_slots_of_vgg11():
    assert layers.SLOTS == [
        (3, 64, 32),
        (64, 128, 16),
        (128, 256, 8),
        (256, 256, 8),
        (256, 512, 4),
        (512, 512, 4),
        (512, 512, 2),
        (512, 512, 2),
    ]


def test_work_leaves_nothing_behind_that_the_next_call_would_add_to():
    for ours in (False, True):
        done = layers.work(torch.device("cpu"), ours, "ConvNN", {}, (4, 6, 4), 2)
        done.run()
        assert done.output_bytes == 4 * (2 * 6 * 16 + 2 * 4 * 16 + 6 * 4 * 9 + 6)


def test_a_cell_is_slower_by_both_bounds_or_not_at_all():
    assert not cells.is_slower(100e-6, 149e-6)  # half as much again, but within 50 us
    assert not cells.is_slower(1.0, 1.04)  # 40 ms more, but within 5 %
    assert cells.is_slower(1.0, 1.06)


def test_an_exponent_is_the_slope_of_the_logarithms():
    xs = (64, 256, 1024, 4096)
    assert growth.exponent(xs, [3e-9 * x**2 for x in xs]) == pytest.approx(2)
    assert growth.exponent(xs, [9.0, *(2e-6 * x for x in xs[1:])]) == pytest.approx(1)  # the first is all overhead
    assert math.isnan(growth.exponent(xs, [0.0] * 4))


def test_other_columns_begin_a_new_table_and_lists_are_kept_but_not_printed():
    results = []
    rows = [{"a": "x", "b": 1.234}, {"a": "y", "b": 250.4, "parts": [1]}, "in words", {"c": "z"}]
    lines = list(table.format_rows(rows, results))
    assert lines == [
        "\n| a | b |",
        "|---|---|",
        "| x | 1.23 |",
        "| y | 250 |",
        "\nin words",
        "\n| c |",
        "|---|",
        "| z |",
    ]
    assert results[1]["parts"] == [1]


def test_results_are_compared_with_a_saved_file(tmp_path):
    table.save(tmp_path / "old.json", {"torch": "2"}, [{"row": "x", "ms": 4.0, "target": "2"}])
    heading, row = table.compare(tmp_path / "old.json", [{"row": "x", "ms": 3.0}, {"row": "new", "ms": 1.0}])
    assert "torch 2" in heading
    assert row == {"row": "x", "column": "ms", "then": 4.0, "now": 3.0, "now / then": 0.75}


def test_what_is_saved_names_machine_and_versions(tmp_path):
    table.save(tmp_path / "a.json", table.machine(BenchOptions()), [])
    assert {"device", "threads", "torch", "python"} <= set(json.loads((tmp_path / "a.json").read_text())["machine"])


FOLDER = Path(table.__file__).parent


@pytest.mark.parametrize(
    "name", sorted(".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in FOLDER.rglob("*.py"))
)
def test_every_part_can_be_imported(name):
    import_module(f"benchmarks.{name}")
