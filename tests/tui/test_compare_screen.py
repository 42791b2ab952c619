"""Runs held against each other: what differs, what the difference is worth, figures and curves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from support.app import NOW, app, make_run, messages, text, until

from convnn.events import Epoch
from convnn.runs.event_log import append_event
from convnn.runs.lock import lock_run
from convnn.tables import Column, Table
from tui.dialogs.help import HelpScreen
from tui.dialogs.picker import Picker
from tui.screens.compare.panes import ComparedCurves, ComparedTables, hidden_columns, scrolled, table_text
from tui.screens.compare.screen import CompareScreen
from tui.screens.home import HomeScreen
from tui.screens.run.screen import RunScreen
from tui.widgets.chart_view import ChartView
from tui.widgets.linked_charts import LinkedCharts

pytestmark = pytest.mark.usefixtures("frames_are_drawn_for_the_pilot")


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """Three runs: two that differ in K, and one of another layer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "runs"
    make_run(root, "none-at-all", hours=3, epochs=2, layer__type="Conv2d")
    make_run(root, "more-neighbours", hours=2, epochs=3, layer__type="ConvNN", layer__K="5")
    make_run(root, "few-neighbours", hours=1, epochs=4, layer__type="ConvNN", layer__K="3")


async def opened(pilot, *keys: str) -> CompareScreen:
    """Press keys on Home, and wait for the comparison."""
    await until(pilot, lambda: len(pilot.app.runs) == 3)
    await pilot.press(*keys)
    await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and pilot.app.screen.comparison)
    await pilot.pause()
    return pilot.app.screen


def tables_text(pilot) -> str:
    """The text of the tables, in view or not."""
    return pilot.app.screen.query_one("ComparedTables Static").visual.plain


async def test_differences_verdict_and_figures_stand_in_this_order(tmp_path):
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "space", "space", "d")
        tables = " ".join(tables_text(pilot).split())
        parts = (
            "A few-neighbours done 4/4 B more-neighbours done 3/4",
            "options that differ and have an effect option A B layer.K 3 5",
            "data not verified",
            "best on test: the epoch was chosen on the test set",
            "B - A: not tested: single runs",
            "test_top1 last epoch 82.50 80.00 (-2.50)",
            "test_top1 best on test",
            "test_top1 3 epochs 80.00 80.00 (0.00)",
            "test_top1 27 seconds",
            "images 80.00",
            "FLOPs",
        )
        places = [tables.find(part) for part in parts]
        assert -1 not in places and places == sorted(places)
        assert screen.comparison.metric == "test_top1"


def test_tables_scroll_sideways_to_their_last_column_and_no_further():
    columns = [Column("metric"), *(Column(name * 12, right=True) for name in "ABCD")]
    table = Table(columns, [["loss", "1", "2", "3", "4"]], key_columns=1)
    assert [column.title[0] for column in scrolled(table, 40, 0).columns] == ["m", "A", "B", "C", "D"]
    assert hidden_columns(table, 40, 0) == ["C" * 12, "D" * 12]
    for first in (2, 9):
        assert [column.title[0] for column in scrolled(table, 40, first).columns] == ["m", "C", "D"]
        assert hidden_columns(table, 40, first) == []
        assert "D" * 12 in table_text(table, 40, first).plain and "4" in table_text(table, 40, first).plain


async def test_one_marked_run_is_held_against_the_one_at_the_cursor(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        screen = await opened(pilot, "space", "down", "d")
        assert [run.name for run in screen.runs] == ["few-neighbours", "none-at-all"]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))


async def test_without_marks_it_says_what_to_press(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 3)
        await pilot.press("d")
        await until(pilot, lambda: any("mark two or more" in note.message for note in pilot.app._notifications))


async def test_the_pinned_run_is_what_the_others_are_held_against_and_p_takes_the_next(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 3)
        pilot.app.selection.toggle_pin(str(tmp_path / "runs" / "none-at-all"))
        screen = await opened(pilot, "space", "space", "d")
        assert screen.comparison.runs[0].summary.name == "none-at-all"
        assert "no effect" in tables_text(pilot)
        before = screen.comparison
        await pilot.press("p")
        await until(pilot, lambda: screen.comparison is not before)
        assert [run.summary.name[:4] for run in screen.comparison.runs] == ["few-", "more", "none"]


async def test_curves_are_labeled_and_the_value_cursor_is_linked(tmp_path):
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "space", "space", "d")
        charts = screen.query(ChartView)
        assert [[series.label for series in chart.data.series] for chart in charts] == [["A K=3", "B K=5"]] * 2
        await pilot.press(*["left"] * 30)
        await pilot.pause()
        cursors = {chart.settings.cursor for chart in charts}
        assert len(cursors) == 1 and None not in cursors
        assert all(None not in chart.chart.cursor_values for chart in charts)
        await pilot.press("escape")
        assert screen.query_one(LinkedCharts).settings.cursor is None and pilot.app.screen is screen


async def test_axes_scale_and_smoothing_are_those_of_every_chart(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        screen = await opened(pilot, "space", "space", "d")
        await pilot.press("x", "x", "y", "e")
        await until(pilot, lambda: "by seconds · log y · smoothed 0.6" in text(pilot.app))
        assert screen.query_one(LinkedCharts).full_range == (10.0, 40.0)


async def test_another_metric_is_chosen(tmp_path):
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "space", "space", "d")
        await pilot.press("m", "down", "enter")
        await until(pilot, lambda: screen.comparison.metric == "train_loss")
        assert "lower is better for train_loss" in tables_text(pilot)
        assert screen.query_one(ComparedCurves).metrics == ["train_loss", "test_top1"]


async def test_a_run_that_grows_is_compared_anew(tmp_path):
    path = make_run(tmp_path / "runs", "growing", "running", hours=0.5, epochs=1)
    with lock_run(path):
        async with app(tmp_path / "runs").run_test() as pilot:
            await until(pilot, lambda: len(pilot.app.runs) == 4)
            await pilot.press("space", "space", "d")
            await until(pilot, lambda: getattr(pilot.app.screen, "comparison", None))
            screen = pilot.app.screen
            metrics = {"train_loss": 1.0, "test_top1": 70.0, "train_s": 9.0}
            time = NOW - timedelta(minutes=20)
            append_event(path / "events.jsonl", Epoch(time=time, epoch=2, step=20, metrics=metrics))
            screen._stale.set()  # the next look, without the wait for it
            await until(pilot, lambda: screen.runs[0].epoch == 2 and " 2/4" in tables_text(pilot))


async def test_a_run_that_is_gone_is_said(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 3)
        pilot.app.runs[0].status = "running"  # so that it is read again
        (tmp_path / "runs" / "few-neighbours" / "config.toml").unlink()
        await pilot.press("space", "space", "d")
        await until(pilot, lambda: "Press esc to go back" in text(pilot.app))


async def test_names_with_escape_codes_and_markup_are_shown_harmlessly(tmp_path):
    make_run(tmp_path / "runs", "[red]x[-red] \x1b[31mred", hours=0.5)
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 4)
        await pilot.press("space", "space", "d")
        await until(pilot, lambda: "[red]x[-red] \\x1b[31mred" in text(pilot.app))


async def test_each_pane_has_its_help(tmp_path):
    async with app(tmp_path / "runs").run_test(size=(120, 50)) as pilot:
        screen = await opened(pilot, "space", "space", "d")
        for pane, words in ((ComparedTables, "compared with A"), (ComparedCurves, "labeled at its end")):
            screen.query_one(pane).focus()
            await pilot.press("question_mark")
            await until(pilot, lambda words=words: words in text(pilot.app))
            assert isinstance(pilot.app.screen, HelpScreen) and "choose the metric" in text(pilot.app)
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is screen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_the_picture_of_a_comparison(snap_compare, size):
    async def look(pilot):
        await opened(pilot, "space", "space", "space", "d")
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=look)


async def test_without_marks_the_run_screen_offers_the_other_runs(tmp_path):
    make_run(tmp_path / "runs", "no-data", "failed", hours=4, epochs=0)
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 4)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        assert [name for name, _ in pilot.app.screen.items] == ["more-neighbours", "none-at-all"]
        assert "done · 75.00 · digits · Conv2d" in text(pilot.app)
        await pilot.press("down", "enter")  # without a check the one at the cursor
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        assert [run.name for run in pilot.app.screen.runs] == ["few-neighbours", "none-at-all"]


async def test_tables_that_do_not_fit_scroll_sideways_and_say_at_their_end_that_they_do_not(tmp_path):
    for index in range(5):
        make_run(tmp_path / "runs", f"run-{index}", hours=4 + index, layer__type="ConvNN", layer__K=str(index + 6))
    async with app(tmp_path / "runs").run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(pilot.app.runs) == 8)
        await pilot.press(*["space"] * 8, "d")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and pilot.app.screen.comparison)
        tables = pilot.app.screen.query_one(ComparedTables)
        await until(pilot, lambda: tables.border_subtitle == "← → more columns")
        before = tables_text(pilot)
        await pilot.press("right")
        await until(pilot, lambda: tables_text(pilot) != before)
        await pilot.press("left")
        await until(pilot, lambda: tables_text(pilot) == before)
        assert not messages(pilot.app)
        await pilot.press("left")
        assert "there are no more columns" in messages(pilot.app)
        await pilot.press(*["right"] * 20)
        assert "→" not in tables_text(pilot)  # the last column is in sight
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: not tables.border_subtitle)
