"""Pivot tables: runs laid out by their options."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field, parse_fields
from convnn.analysis.pivot import pivot
from convnn.errors import UserError
from convnn.metrics import Best
from convnn.runs.summary import RecordedData
from convnn.tables import csv_text

BEST = get_field("best:test_top1")
DATA = {"layer": "Branching", "dataset": "cifar10", "lr": 1e-4}


def grid():
    accuracies = {(0.0, "Col"): 80.804, (0.0, "Loc_Col"): 81.45, (0.5, "Col"): 82.785, (1.0, "Loc_Col"): 58.1}
    return [
        run(f"{ratio}{kind}", branch_ratio=ratio, similarity_type=kind, test_top1=(top1 - 1, top1), **DATA)
        for (ratio, kind), top1 in accuracies.items()
    ]


def pivoted(runs, rows="branch_ratio", cols="similarity_type", cell=BEST):
    return pivot(runs, parse_fields(rows), parse_fields(cols), cell)


def test_one_run_is_its_value_alone_and_an_empty_cell_is_marked():
    assert csv_text(pivoted(grid()).table()).splitlines() == [
        "branch_ratio,Col,Loc_Col",
        "0,80.80,81.45",
        "0.5,82.78,·",
        "1,·,58.10",
    ]


def test_repeats_are_mean_deviation_and_number():
    again = run("again", branch_ratio=0.5, similarity_type="Col", seed=1, test_top1=(1.0, 82.385), **DATA)
    result = pivoted([*grid(), again])
    assert result.table().rows[1][1] == "82.59 ± 0.28 (2)"
    cell = result.json()["cells"][1][0]
    assert cell["n"] == 2 and cell["mean"] == pytest.approx(82.585) and cell["sd"] == pytest.approx(0.2828427)
    assert result.json()["cells"][1][1] is None
    assert result.json()["rows"][1] == {"branch_ratio": 0.5} and result.json()["cols"][1] == {
        "similarity_type": "Loc_Col"
    }


def test_rows_and_columns_stand_in_the_order_of_the_schema():
    result = pivoted(grid(), cols="similarity_type,branch_ratio", rows="dataset")
    assert [values[0] for values in result.cols] == ["Col", "Col", "Loc_Col", "Loc_Col"]
    assert [values[1] for values in result.cols] == [0.0, 0.5, 0.0, 1.0]


def test_a_cell_of_runs_that_differ_in_more_than_the_seed_is_refused_with_the_options_to_add():
    odd = run("odd", branch_ratio=0.5, similarity_type="Col", seed=1, K=4, test_top1=(1.0, 2.0), **DATA)
    with pytest.raises(UserError) as refusal:
        pivoted([*grid(), odd])
    assert "layer.K (4, 9)" in str(refusal.value) and "add layer.K to --rows or --cols" in str(refusal.value)
    assert "branch_ratio" not in refusal.value.problems[0].message
    pivoted([*grid(), odd], rows="branch_ratio,K")


def test_options_that_another_one_makes_inactive_are_not_asked_for():
    with pytest.raises(UserError) as refusal:
        pivoted([run(k, branch_ratio=0.5, similarity_type=k, **DATA) for k in ("Col", "Loc_Col")], cols="dataset")
    assert "add layer.similarity_type to" in str(refusal.value) and "lambda_param" not in str(refusal.value)


def test_an_option_without_effect_may_differ_inside_a_cell_and_cells_of_one_model_are_counted():
    odd = run("odd", branch_ratio=0.0, similarity_type="Col", K=4, test_top1=(1.0, 80.0), **DATA)
    result = pivoted([*grid(), odd])
    assert result.cells[0][0].n == 2
    assert any("1 cell with the model of another" in note for note in result.notes)


def test_best_on_test_and_published_metrics_are_labeled():
    runs = [run("a", test_top1=(1.0, 2.0), source="/old")]
    notes = "\n".join(pivoted(runs).notes)
    assert "best on test" in notes and "as published" in notes
    assert "best on test" not in "\n".join(pivoted(runs, cell=get_field("test_top1")).notes)


def test_best_by_a_validation_split_is_not_called_best_on_test():
    chosen = replace(run("a", test_top1=(1.0, 2.0)), best=Best("val_top1", 3.0, 1))
    assert not any("best on test" in note for note in pivoted([chosen], cell=get_field("best")).notes)
    assert any(
        "best on test" in note for note in pivoted([run("a", test_top1=(1.0, 2.0))], cell=get_field("best")).notes
    )


def test_copies_and_runs_that_did_not_record_where_they_belong_are_counted():
    runs = [
        run("a", test_top1=(1.0, 2.0), digest="x"),
        run("b", test_top1=(1.0, 2.0), digest="x"),
        run("c", layer=None),
    ]
    result = pivoted(runs)
    notes = "\n".join(result.notes)
    assert "1 of 3 runs" in notes and "1 copy of another run" in notes and result.cells[0][0].n == 1


def test_runs_of_a_cell_on_different_data_are_refused():
    runs = [run("a", test_top1=(1.0, 2.0)), run("b", test_top1=(1.0, 2.0), seed=1)]
    for repeat, count in zip(runs, (10, 4), strict=True):
        repeat.data = RecordedData(num_classes=count)
    with pytest.raises(UserError, match="the data, 10 and 4 classes"):
        pivoted(runs)


@pytest.mark.parametrize(("rows", "cols", "cell"), [("", "", "best"), ("K", "", "name"), ("K", "", "dataset")])
def test_a_table_needs_an_axis_and_a_number(rows, cols, cell):
    with pytest.raises(UserError):
        pivot(grid(), parse_fields(rows), parse_fields(cols), get_field(cell))
