"""`convnn plot`: the figures that Matplotlib draws of runs."""

from __future__ import annotations

import math
import re

import pytest
from rich.cells import cell_len
from support.app import make_run

from convnn.analysis.figure_data import figure_data
from convnn.charts.figure import FigureData, FigureLine, draw_figure
from convnn.errors import Exit, UserError
from convnn.events import Epoch, Finished
from convnn.runs.event_log import append_event
from convnn.runs.summary_cache import summaries


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two repeats each of K 4 and K 9, and one run of a layer without K; the metrics of a run depend on its seed."""
    root = tmp_path / "runs"
    for number, (K, seed) in enumerate([("4", 0), ("4", 1), ("9", 0), ("9", 1)]):
        run = make_run(
            root, f"run{number}", "live", layer__type="ConvNN", layer__K=K, training__seed=str(seed), epochs=0
        )
        for epoch in range(1, 3 + seed):
            metrics = {"test_top1": 60.0 + 10 * seed + epoch, "train_s": 9.0}
            append_event(run / "events.jsonl", Epoch(epoch=epoch, step=epoch, metrics=metrics))
        append_event(run / "events.jsonl", Finished(outcome="done"))
    make_run(root, "plain", layer__type="Conv2d")
    monkeypatch.setenv("CONVNN_RUNS", str(root))
    monkeypatch.chdir(tmp_path)
    return root


def runs_of(root):
    return summaries(root)[0]


def test_repeats_are_one_curve_as_far_as_the_shortest_goes(root):
    data = figure_data(runs_of(root), metric="test_top1", x="seconds")
    labels = [line.label for line in data.lines]
    assert labels == ["layer=Conv2d", "layer=ConvNN, K=4 (n=2)", "layer=ConvNN, K=9 (n=2)"]
    single, line, _ = data.lines
    assert all(map(math.isnan, single.sd)) and list(single.x) == [9.0, 18.0, 27.0]
    assert line.mean == [66.0, 67.0] and line.sd == pytest.approx([50**0.5] * 2)
    assert any("shortest" in note for note in data.notes)
    assert data.y_label == "test_top1 (%)" and data.x_label == "training time (s)"


def test_over_an_option_repeats_are_a_point_and_what_has_none_is_named(root):
    data = figure_data(runs_of(root), metric="test_top1", x="K")
    (line,) = data.lines
    assert list(line.x) == [4.0, 9.0] and line.mean[0] == 67.5 and line.sd[0] == pytest.approx(11 / 2**0.5)
    assert data.error_bars and any("1 configuration" in note for note in data.notes)
    words = figure_data(runs_of(root), metric="test_top1", x="layer")
    assert list(words.tick_labels) == ["Conv2d", "ConvNN"]
    assert [line.label for line in words.lines] == ["K=4", "K=9", "without K"]
    assert figure_data(runs_of(root), x="lr").log_x
    seeds = figure_data([run for run in runs_of(root) if run.name != "plain"], metric="test_top1", x="seed")
    assert [(line.label, list(line.x), line.mean) for line in seeds.lines] == [
        ("K=4", [0.0, 1.0], [62.0, 73.0]),
        ("K=9", [0.0, 1.0], [62.0, 73.0]),
    ]
    assert all(math.isnan(sd) for line in seeds.lines for sd in line.sd)
    make_run(root, "averaged", layer__type="Conv2d", training__ema_decay="0.9")
    assert list(figure_data(runs_of(root), metric="test_top1", x="ema").tick_labels) == ["0.9", "none"]


@pytest.mark.parametrize("x", ["epoch", "lr"])
def test_a_run_without_the_metric_has_no_line_and_is_named(root, x):
    run = make_run(root, "more", layer__type="Branching", epochs=0)
    append_event(run / "events.jsonl", Epoch(epoch=1, step=1, metrics={"ema_test_top1": 5.0, "train_s": 9.0}))
    data = figure_data(runs_of(root), metric="ema_test_top1", x=x)
    assert len(data.lines) == 1 and any("5 runs" in note and "without" in note for note in data.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"metric": "test_top2"}, "test_top1"), ({"x": "secnds"}, "seconds"), ({"x": "name"}, "option")],
)
def test_a_wrong_key_is_refused_with_the_nearest(root, options, message):
    with pytest.raises(UserError, match=message):
        figure_data(runs_of(root), **options)


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_figure_is_the_same_bytes_with_its_command(suffix):
    gap = FigureLine("_$x_$\x1b{\\input", [1.0, 2.0, 3.0], [1.0, math.nan, 3.0], [0.1, math.nan, math.nan])
    data = FigureData("$\\frac{", "\\alpha$$", [gap, gap])
    image, _ = draw_figure(data, suffix, about="convnn plot <x> & 'y'")
    assert image == draw_figure(data, suffix, about="convnn plot <x> & 'y'")[0]
    assert b"convnn plot" in image


def test_the_style_that_sets_every_value_gives_the_same_bytes_too():
    data = FigureData("x", "y", [FigureLine("a", [1.0, 2.0], [1.0, 2.0], [math.nan] * 2)])
    image, again = (draw_figure(data, ".svg", about="", style="default")[0] for _ in range(2))
    assert image == again


@pytest.mark.parametrize(
    "label", ["K=4, " + "lr=0.001, " * 30, "x" * 240, "漢" * 80, ""], ids=["words", "a name", "wide", "none"]
)
def test_long_labels_are_broken_below_the_axes(label, tmp_path):
    style = tmp_path / "text.mplstyle"
    style.write_text("svg.fonttype: none")
    line = FigureLine(label, [1.0, 2.0], [1.0, 2.0], [math.nan] * 2)
    image = draw_figure(FigureData("x", "y", [line, line]), ".svg", about="", style=str(style))[0].decode()
    height = float(re.search(r'<svg [^>]*height="([\d.]+)pt"', image)[1])
    texts = re.findall(r"<(?:text|tspan)[^>]*>([^<]*)<", image)
    assert max(map(cell_len, texts)) < 130 and (height > 346) == bool(label)


def test_a_style_file_is_no_package_and_writes_no_controls_to_the_terminal(root, in_process, tmp_path, monkeypatch):
    (tmp_path / "paper.py").write_text("raise SystemExit('imported')")
    (tmp_path / "paper.mplstyle").write_text("lines.linewidth: 7\nbad\x1b]0;key: 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = in_process("plot", "run0", "--out", "figure.svg", "--style", "paper.mplstyle")
    assert code == 0 and "stroke-width: 7" in (tmp_path / "figure.svg").read_text()
    assert r"bad\x1b]0;key" in err and "\x1b]" not in err


def test_the_command_in_the_file_names_the_runs_that_references_meant(root, in_process, tmp_path):
    make_run(root, "K=4,lr=0.1", hours=0.5)  # no filter
    assert in_process("plot", "@1", "--out", "figure.svg")[0] == 0
    newest = runs_of(root)[0].name
    assert f"convnn plot {newest} --x" in (tmp_path / "figure.svg").read_text()


def test_the_command_writes_a_new_file_and_leaves_one_that_is_there(root, in_process, tmp_path):
    code, _, err = in_process("plot", "layer=ConvNN", "--out", "figure.svg", "--style", "ggplot")
    assert code == 0 and "figure.svg" in err
    first = (tmp_path / "figure.svg").read_text()
    assert re.search(r"convnn plot layer=ConvNN --x epoch --style ggplot", first)
    code, _, err = in_process("plot", "run0", "--out", "figure.svg")
    assert code == Exit.USAGE and "--overwrite" in err and (tmp_path / "figure.svg").read_text() == first
    assert in_process("plot", "run0", "--out", "figure.svg", "--overwrite")[0] == 0
    assert (tmp_path / "figure.svg").read_text() != first
    assert "ggplot" in in_process("plot", "run0", "--out", "new.svg", "--style", "gplot")[2]
    assert in_process("plot", "K=" + ",".join(["77"] * 100), "--out", "new.svg")[0] == Exit.NO_RUN
    assert in_process("plot", "run0", "--out", "new.gif")[0] == Exit.USAGE
