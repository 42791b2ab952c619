"""Tables of runs: the columns that tell them apart, sorting and groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.event_streams import run

from convnn.analysis.fields import get_field
from convnn.analysis.filters import parse_filter
from convnn.analysis.run_table import columns, differing_options, group_runs, ranked, run_table, sort_runs
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.runs.summary import RecordedData
from convnn.tables import csv_text

A = run("a", K=9, lr=1e-3, test_top1=(80.0, 82.0), dataset="cifar100")
B = run("b", K=12, lr=1e-3, test_top1=(70.0, 71.0), seed=3)
C = run("c", K=4, lr=1e-3, status="died")
RUNS = [A, B, C]
BEST = get_field("best")


def keys(runs, selection=None, *, all_options=False):
    return [field.key for field in columns(runs, selection, all_options=all_options)]


def test_only_options_that_differ_are_columns():
    assert differing_options(RUNS) == ["layer.K", "data.dataset", "training.seed"]
    assert keys(RUNS) == ["name", "status", "epoch", "best", "K", "dataset", "seed"]
    assert keys([A]) == ["name", "status", "epoch", "best", "started"]
    assert set(keys(RUNS)) < set(keys(RUNS, all_options=True)) and "momentum" in keys(RUNS, all_options=True)
    assert keys(RUNS, "lr, best:test_loss") == ["lr", "best:test_loss"]


def test_a_run_without_configuration_makes_no_option_a_column():
    assert differing_options([run("csv", layer=None), run("a", K=9), run("b", K=9), run("c", K=12)]) == ["layer.K"]


def test_an_option_without_effect_makes_no_column():
    digits = [run(name, dataset="digits", data_path=name) for name in "ab"]
    assert differing_options(digits) == []
    optimizers = [run("a", optimizer="adamw", momentum=0.5), run("b", optimizer="sgd", momentum=0.9)]
    assert differing_options(optimizers) == ["optimizer.name"]
    assert differing_options([*optimizers, run("c", optimizer="sgd", momentum=0.8)])[1:] == ["optimizer.momentum"]


def test_an_option_has_no_value_in_a_run_in_which_it_has_no_effect():
    results = {"test_top1": (1.0, 1.0), "K": 9}
    runs = [run("a", layer="Conv2d", **results), run("b", layer="ConvNN", **results), run("c", keep_optimizer=False)]
    assert [row[1] for row in run_table(runs, columns(runs, "name,K")).rows] == ["", "9", "9"]
    assert [run.name for run in sort_runs(runs, "K")] == ["b", "c", "a"]
    assert [row.values for row in group_runs(runs[:2], "layer,K", BEST).rows] == [["Conv2d", UNKNOWN], ["ConvNN", 9]]
    assert [key.key for key in group_runs(runs, "repeats", BEST).keys] == ["layer"]  # and no column without values


def test_runs_sort_by_several_keys_and_what_is_unknown_stays_last():
    assert [run.name for run in sort_runs(RUNS, "best")] == ["b", "a", "c"]
    assert [run.name for run in sort_runs(RUNS, "-best")] == ["a", "b", "c"]
    assert [run.name for run in sort_runs(RUNS, "dataset,-K")] == ["b", "c", "a"]
    assert sort_runs(RUNS, None) == RUNS
    with pytest.raises(UserError, match="Did you mean best"):
        sort_runs(RUNS, "bestt")


def test_a_status_has_its_glyph_and_imported_metrics_are_labeled():
    table = run_table(RUNS, columns(RUNS, None))
    assert [row[1] for row in table.rows] == ["✓ done", "✓ done", "† died"] and table.notes == []
    assert [row[3] for row in table.rows] == ["82.00", "71.00", ""]
    old = run("old", source="/published", test_top1=(1.0, 2.0))
    assert run_table([old], columns([old], None)).notes == ["metrics of imported runs are as published"]
    mixed = [A, old]
    assert "as published" in run_table(mixed, columns(mixed, None)).rows[1]


def test_the_size_of_a_run_is_that_of_its_files_and_of_nothing_it_links_to(tmp_path):
    small, large = replace(A, path=str(tmp_path / "a")), replace(B, path=str(tmp_path / "b"))
    for summary, size in ((small, 3_000_000), (large, 1_300_000_000)):
        (tmp_path / summary.name / "checkpoints").mkdir(parents=True)
        with (tmp_path / summary.name / "checkpoints" / "weights").open("wb") as file:
            file.truncate(size)
    (tmp_path / "a" / "elsewhere").symlink_to(tmp_path / "b" / "checkpoints")
    (tmp_path / "a" / "weights").symlink_to(tmp_path / "b" / "checkpoints" / "weights")
    assert run_table([small, large], columns(RUNS, "name,size")).rows == [["a", "3 MiB"], ["b", "1.2 GiB"]]
    assert sort_runs([small, large], "-size") == [large, small]
    for text in ("size>1e9", "size>500MB", "size>477MiB", 'size>="1.1 GB"'):
        assert parse_filter(text).select([small, large]) == [large]
    with pytest.raises(UserError, match="a size such as"):
        parse_filter("size>much")


def test_names_are_raw_in_a_table_and_escaped_where_it_is_written():
    evil = run("\x1b[31mred", test_top1=(1.0, 2.0))
    table = run_table([evil], columns([evil], "name"))
    assert table.rows == [["\x1b[31mred"]] and csv_text(table) == "name\n\\x1b[31mred\n"


def test_repeats_are_one_row_with_mean_deviation_and_interval():
    again = run("b2", K=12, lr=1e-3, test_top1=(70.0, 73.0), seed=4)
    result = group_runs([A, B, again], "repeats", BEST)
    assert [key.key for key in result.keys] == ["K", "dataset"]
    assert result.table().rows == [
        ["9", "cifar100", "1", "82.00", "", "82.00", ""],
        ["12", "cifar10", "2", "72.00", "1.41", "73.00", "59.29 to 84.71"],
    ]
    assert result.json()[1]["runs"] == ["b", "b2"] and result.json()[0]["sd"] is None


def test_groups_by_options_have_no_interval_for_they_are_no_repeats():
    result = group_runs(RUNS, "lr", BEST)
    (row,) = result.table().rows
    assert row[:-1] == ["0.001", "2", "76.50", "7.78", "82.00"] and result.json()[0]["low"] is None


def test_a_row_says_what_it_averages_over():
    result = group_runs([A, B, run("b2", K=12, lr=1e-3, test_top1=(70.0, 73.0), seed=4)], "K,lr", BEST)
    assert len(result.table().columns) == 6 and result.notes == []  # repeats differ in the seed alone
    result = group_runs([A, B, run("d", test_top1=(1.0, 1.0), lr=0.1)], "lr", BEST)
    assert [row[-1] for row in result.table().rows] == ["K, dataset", ""]
    assert [row["averaged_over"] for row in result.json()] == [["layer.K", "data.dataset"], []]
    assert any("1 of 2 rows differ in more than the seed" in note for note in result.notes)
    many = [run("x", test_top1=(1.0, 1.0)), run("y", K=4, lr=1, padding=0, width=0.5, batch_size=7)]
    (row,) = group_runs(many, "model", BEST).table().rows
    assert row[-1].endswith("and 2 more")


def test_rows_of_the_same_options_on_other_data_are_noted():
    runs = [run(name, test_top1=(1.0, 1.0), seed=seed) for seed, name in enumerate("ab")]
    for repeat in runs:
        repeat.data = RecordedData(digests={"train": repeat.name})
    result = group_runs(runs, "repeats", BEST)
    assert len(result.rows) == 2 and any("different data" in note for note in result.notes)
    assert group_runs(runs, "K", BEST).rows[0].averaged_over == ["data"]


def test_unfinished_repeats_have_a_mean_without_an_interval():
    runs = [run("a", test_top1=(80.0, 80.0)), run("b", test_top1=(40.0, 40.0), seed=1, status="stopped")]
    (row,) = group_runs(runs, "repeats", BEST).table().rows
    assert row[:2] == ["2", "60.00"] and row[-1] == ""


def test_options_that_tell_more_runs_apart_come_first_and_unfinished_runs_show_their_plan():
    runs = [run(f"r{seed}", K=4 + seed // 3, seed=seed, status="died", num_epochs=9) for seed in range(6)]
    assert [field.key for field in ranked(columns(runs, None), runs)][-2:] == ["seed", "K"]
    table = run_table([*runs, replace(A, name="done")], columns(runs, "name,epoch"))
    assert [row[1] for row in table.rows] == ["0/9"] * 6 + ["2"]
    assert run_table(runs, columns(runs, "epoch"), glyphs=False).rows[0] == ["0"]
