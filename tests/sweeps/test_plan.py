"""Plans: the cells of a sweep, those that cannot be trained, and those that are the same model."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.event_streams import run

from convnn.errors import UserError
from convnn.presets.resolve import resolve
from convnn.presets.store import read
from convnn.sweeps.file import parse_sweep, read_sweep, shipped_sweeps
from convnn.sweeps.plan import MAX_CELLS, model_key, plan_sweep, trained_cells


def planned(text, **typed):
    return plan_sweep(parse_sweep(text, "mine"), {key.replace("__", "."): value for key, value in typed.items()})


def values(plan, section, field):
    return [getattr(getattr(cell.config, section), field) for cell in plan.cells]


@pytest.mark.parametrize(
    ("name", "typed", "counts"),  # cells, infeasible, same model as another, to train
    [
        ("branch_ratio", {}, (54, 0, 4, 50)),
        ("branch_ratio", {"layer.magnitude_type": "euclidean"}, (54, 0, 4, 50)),
        ("k", {}, (102, 0, 0, 102)),
        ("n", {}, (256, 16, 0, 240)),
        ("lr", {}, (90, 0, 0, 90)),
        ("shuffle", {}, (24, 0, 0, 24)),
    ],
)
def test_the_published_sweeps_have_their_cells(name, typed, counts):
    plan = plan_sweep(read_sweep(shipped_sweeps()[name]), typed)
    assert (len(plan.cells), len(plan.infeasible), len(plan.same), len(plan.to_train)) == counts
    assert not plan.repeated_names and [cell.index for cell in plan.cells] == list(range(1, len(plan.cells) + 1))


def test_a_cell_is_the_configuration_that_flags_give():
    plan = plan_sweep(read_sweep(shipped_sweeps()["k"]))
    (cell,) = [cell for cell in plan.cells if cell.name == "K4-k2-br0.5-cifar100"]
    typed = {"data.dataset": "cifar100", "layer.K": "4", "layer.kernel_size": "2", "layer.padding": "0"}
    typed |= {"training.num_epochs": "100", "run.name": cell.name}
    assert cell.config == resolve(read("published-branching"), typed).config
    assert (
        cell.seed == 42
        and cell.block == "half"
        and cell.labels == {"dataset": "cifar100", "kernel_size": "2", "K": "4"}
    )


def test_infeasible_cells_have_their_reasons():
    plan = plan_sweep(read_sweep(shipped_sweeps()["n"]))
    assert {cell.labels["N"] for cell in plan.infeasible} == {"2"}
    assert all(cell.problems[0].key == "layer.K" and cell.same_as is None for cell in plan.infeasible)
    cells = planned("[axes]\nK = [9]\nN = [0, 1, 2, 4]\n[[derive]]\nset = { K = '= 8 / N - 1' }").cells
    assert [bool(cell.problems) for cell in cells] == [True, False, False, False]
    assert "division by zero" in cells[0].problems[0].message
    (cell,) = planned("[axes]\nN = [2]\n[[derive]]\nset = { K = '= N / 4' }").cells
    assert "layer.K is 0.5: must be a whole number" in cell.problems[0].message


def test_axes_multiply_in_their_order_and_blocks_add_up():
    plan = planned("""
        [axes]
        dataset = ["cifar10", "cifar100"]
        [[block]]
        id = "a"
        set = { layer.type = "ConvNN" }
        axes = { K = [1, 9] }
        [[block]]
        set = { layer.type = "Conv2d" }
    """)
    assert [(cell.block, *cell.labels.values()) for cell in plan.cells] == [
        ("a", "cifar10", "1"),
        ("a", "cifar10", "9"),
        ("a", "cifar100", "1"),
        ("a", "cifar100", "9"),
        ("block-2", "cifar10"),
        ("block-2", "cifar100"),
    ]
    assert values(plan, "layer", "type") == ["ConvNN"] * 4 + ["Conv2d"] * 2


def test_derivations_follow_in_order_and_see_what_came_before():
    plan = planned("""
        [axes]
        K = [1, 5, 9]
        [[derive]]
        when = "K<5"
        set = { padding = 0 }
        [[derive]]
        when = "padding=0"
        set = { lr = "= 10 ** -K / 2" }
        [[derive]]
        when = "NOT padding=0"
        set = { lr = "= min(0.5, K * 0.05)" }
    """)
    assert values(plan, "layer", "padding") == [0, 1, 1]
    assert values(plan, "optimizer", "lr") == pytest.approx([0.05, 0.25, 0.45])


def test_a_variable_of_one_block_has_no_value_in_another():
    plan = planned("""
        [[block]]
        axes = { N = [3] }
        [[block]]
        [[derive]]
        when = "N>1"
        set = { K = "= N" }
    """)
    assert values(plan, "layer", "K") == [3, 9]
    plan = planned("[[block]]\naxes = { N = [3] }\n[[block]]\n[[derive]]\nset = { K = '= N' }")
    assert [len(cell.problems) for cell in plan.cells] == [0, 1] and "N has no number" in plan.cells[1].problems[
        0
    ].message


def test_skipped_cells_are_counted():
    plan = planned("seeds = 2\n[axes]\nK = [1, 4, 9]\n[[skip]]\nwhen = 'K=4'")
    assert len(plan.cells) == 4 and plan.skipped == 2


def test_seeds_repeat_every_cell_and_default_to_that_of_the_base():
    plan = planned("seeds = [7, 9]\n[axes]\nK = [1, 4]")
    assert [(cell.labels["K"], cell.seed) for cell in plan.cells] == [("1", 7), ("1", 9), ("4", 7), ("4", 9)]
    assert values(plan, "training", "seed") == [7, 9, 7, 9] and len({cell.name for cell in plan.cells}) == 2
    assert values(planned('base = "published-branching"\n[axes]\nK = [1]'), "training", "seed") == [42]


def test_cells_that_differ_in_nothing_that_has_an_effect_are_one_model():
    text = "[axes]\nlayer = ['ConvNN', 'Conv2d']\nK = [4, 9]\nthreads = [1, 2]"
    plan = planned(text)
    assert [cell.same_as for cell in plan.cells] == [None, 1, None, 3, None, 5, 5, 5]
    assert len(plan.to_train) == 3 and model_key(plan.cells[4].config) == model_key(plan.cells[7].config)
    assert len(planned(f'same = "train"\n{text}').to_train) == 8
    assert all("layer.K" not in dict(cell.key) for cell in plan.cells[4:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = 'K{K}-{features}-{N}'", "K4-a-b-2"),
        ("name = '{lr}-{dataset}-{augment}'", "0.001-cifar10-false"),
        ("", "mine-K4-featuresa-b-N2"),
    ],
)
def test_names_are_safe(text, expected):
    axes = "[axes]\nK = [4]\nfeatures = [{ label = 'a / b', layer.padding = 0 }]\nN = [2]\n"
    plan = planned(f"{text}\n{axes}[[derive]]\nset = {{ accumulate = '= N' }}")
    assert plan.cells[0].name == expected == plan.cells[0].config.run.name


def test_names_that_do_not_tell_cells_apart_are_reported():
    assert planned("name = 'a{K}'\n[axes]\nK = [1, 4]\nlr = [0.1, 0.2]").repeated_names == ["a1", "a4"]


def test_flags_set_vary_and_replace():
    text = "seeds = 2\n[set]\nlr = 0.5\n[axes]\nK = [1, 4]\n"
    text += "[[block]]\nset = { padding = 0 }\naxes = { dataset = ['cifar10'] }"
    plan = planned(text, layer__K="2..4", optimizer__lr="0.1", layer__padding="2", training__seed="5")
    assert values(plan, "layer", "K") == [2, 3, 4] and set(values(plan, "optimizer", "lr")) == {0.1}
    assert set(values(plan, "layer", "padding")) == {2} and set(values(plan, "training", "seed")) == {5}
    plan = planned(text, optimizer__lr="0.1,0.2", data__dataset="digits,cifar100")
    assert len(plan.cells) == 2 * 2 * 2 * 2 and set(values(plan, "data", "dataset")) == {"digits", "cifar100"}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"layer.padding": "1"}, "derives layer.padding"),
        ({"layer.kernel_size": "3"}, "the axis features sets layer.kernel_size"),
        ({"layer.K": "0"}, "layer.K is 0"),
        ({"layer.K": "x"}, "layer.K is 'x'"),
        ({"layer.K": "1,1"}, "twice"),
        ({"layer.K": "1..999999"}, "at most 100,000"),
        ({"layer.K": "9..1"}, "never reaches"),
        ({"run.name": "x"}, "belongs to one run"),
    ],
)
def test_flags_that_cannot_be_given(typed, words):
    sweep = parse_sweep(
        "[axes]\nK = [1, 4]\nfeatures = [{ label = 'a', layer.kernel_size = 1 }]\n[[derive]]\nset = { padding = 0 }",
        "mine",
    )
    with pytest.raises(UserError, match=words):
        plan_sweep(sweep, typed)


def test_more_cells_than_can_be_planned_are_refused_before_they_are_made():
    axes = "\n".join(f"{name} = {{ from = 1, to = 1000 }}" for name in ("K", "batch_size", "num_epochs", "padding"))
    with pytest.raises(UserError, match=f"at most {MAX_CELLS:,}"):
        planned(f"seeds = 1000\n[axes]\n{axes.replace('padding', 'lr_step')}")


def test_the_cost_of_a_cell_is_that_of_its_whole_training():
    plan = planned("[axes]\nnum_epochs = [1, 10]\ndataset = ['cifar10', 'folder']")
    first, folder, longer, _ = (cell.training_flops for cell in plan.cells)
    assert folder is None and longer == 10 * first and first > 50_000 * 3 * 0.5e9


def test_a_cell_that_a_run_has_trained_is_named_with_it():
    plan = planned("seeds = [3]\n[axes]\nlayer = ['Conv2d']\nkernel_size = [3, 5]\nlr = [0.1]")
    same = {"layer": "Conv2d", "lr": 0.1, "seed": 3, "kernel_size": 5, "K": 4}  # K has no effect
    runs = [run("done", test_top1=(1, 1), threads=7, **same)]
    runs += [run("other", **{**same, "seed": 4}), run("cut", status="died", **{**same, "kernel_size": 3})]
    assert {index: trained.name for index, trained in trained_cells(plan, runs).items()} == {2: "done"}


def test_planning_loads_neither_torch_nor_numpy():
    code = (
        "import sys\nfrom convnn.sweeps.file import read_sweep, shipped_sweeps\n"
        "from convnn.sweeps.plan import plan_sweep\n"
        "for path in shipped_sweeps().values(): plan_sweep(read_sweep(path))\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and set(done.stdout.split()).isdisjoint({"torch", "numpy", "scipy", "textual", "typer"})
