"""The table of all runs: filtered, sorted, grouped, marked, deleted, and the start of new ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.app import app, form, make_run, make_runs, messages, text, until

from convnn.analysis.views import View, read_views, save_view
from tui.dialogs.choice import Choice
from tui.dialogs.help import HelpScreen
from tui.dialogs.picker import Picker
from tui.dialogs.prompt import Prompt
from tui.screens.home import HomeScreen
from tui.screens.run.screen import RunScreen
from tui.screens.runs import RunsScreen
from tui.widgets.run_grid import RunGrid

pytestmark = pytest.mark.usefixtures("frames_are_drawn_for_the_pilot")


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)


def repeats(root: Path) -> None:
    """Two runs of K 3 and two of K 5 that differ in the seed alone, each with other curves, the first the newest."""
    for index, (K, seed) in reversed(list(enumerate([("3", "0"), ("3", "1"), ("5", "0"), ("5", "1")]))):
        words = {"layer__type": "ConvNN", "layer__K": K, "training__seed": seed}
        make_run(root, f"run-{K}-{seed}", hours=index + 1, epochs=index + 1, **words)


async def opened(pilot, count: int) -> RunGrid:
    """Open the table from Home."""
    await until(pilot, lambda: len(pilot.app.runs) == count)
    await pilot.press("t")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen) and pilot.app.run_feed.complete)
    return pilot.app.screen.query_one(RunGrid)


def names(grid: RunGrid) -> list[str]:
    return [line.run.name if line.run else line.node.label for line in grid.items]


async def test_all_runs_stand_there_with_the_options_that_differ_and_come_and_go_with_escape(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 6)
        assert [column.key for column in grid.columns][:4] == ["status", "epoch", "best", "layer"]
        line = next(line for line in text(pilot.app).splitlines() if "✓ done" in line)
        assert all(word in line for word in ("vgg11-Branching-a0f0", "82.5", "Branching"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))


async def test_enter_opens_a_run(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await opened(pilot, 6)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert pilot.app.screen.follower.run.name.endswith("a1f1")


async def test_the_filter_completes_and_says_what_is_wrong_and_escape_clears_it(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 6)
        await pilot.press("slash", *"stat", "tab")
        assert pilot.app.screen.query_one("#filter-text").value == "status="
        await until(pilot, lambda: "filter, column 8" in text(pilot.app) and "status=done" in text(pilot.app))
        await pilot.press("enter")  # an invalid filter keeps the focus: the keys that correct it reach no run
        assert pilot.app.screen.query_one("#filter-text").has_focus
        assert len(grid.items) == 6
        await pilot.press(*"fail", "tab", "enter")
        await until(pilot, lambda: [name[-4:] for name in names(grid)] == ["a3f3"])
        assert grid.border_title == "runs 1 of 6" and grid.has_focus
        await pilot.press("escape")
        await until(pilot, lambda: len(grid.items) == 6)


async def test_nothing_that_fits_says_what_to_press(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await opened(pilot, 6)
        await pilot.press("slash", *"best>99")
        await until(pilot, lambda: "No run matches.  Press esc" in text(pilot.app))


async def test_no_runs_says_what_to_press(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await opened(pilot, 0)
        await until(pilot, lambda: "No runs yet.  Press esc and n" in text(pilot.app))


async def test_s_sorts_by_the_next_column_and_shift_s_turns_it_round(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("s", "s", "s")
        await until(pilot, lambda: names(grid) == ["run-3-0", "run-3-1", "run-5-0", "run-5-1"])
        assert grid.sort == ("epoch", False)
        await pilot.press("S")
        await until(pilot, lambda: names(grid) == ["run-5-1", "run-5-0", "run-3-1", "run-3-0"])


async def test_a_pinned_run_stays_on_top_of_any_order(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("down", "p")
        await until(pilot, lambda: names(grid)[0] == "run-3-1")
        await pilot.press("s", "S")
        await until(pilot, lambda: names(grid) == ["run-3-1", "run-5-1", "run-5-0", "run-3-0"])
        assert "▲" in text(pilot.app)


async def test_groups_are_a_tree_with_n_mean_and_deviation(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        await pilot.press("space", "enter")
        await until(pilot, lambda: names(grid) == ["K=3", "K=5"])
        line = next(line for line in text(pilot.app).splitlines() if "▸ K=3" in line)
        assert line.split()[2:8] == ["K=3", "2", "67.50", "10.61", "2", "runs"]  # 60 and 75
        await pilot.press("enter")
        await until(pilot, lambda: names(grid) == ["K=3", "run-3-0", "run-3-1", "K=5"])
        await pilot.press("space")
        assert {Path(path).name for path in pilot.app.selection.marked} == {"run-3-0", "run-3-1"}
        assert "2 marked" in text(pilot.app)
        await pilot.press("M")
        await until(pilot, lambda: "2 marked" not in text(pilot.app))
        assert not pilot.app.selection.marked
        await pilot.press("enter")
        await until(pilot, lambda: names(grid) == ["K=3", "K=5"])


async def test_a_group_of_runs_that_are_no_repeats_says_what_its_mean_is_over(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 4)
        for key, words in (("status", "4 runs, mean over K"), ("K", "2 runs")):
            pilot.app.screen._set_groups([key])
            await until(pilot, lambda key=key: names(grid)[0].startswith(f"{key}="))
            lines = [line for line in text(pilot.app).splitlines() if "▸" in line]
            assert all(words in line for line in lines) and ("mean over" in lines[0]) == (key == "status")


async def test_a_group_is_named_by_what_tells_it_from_the_others_first(tmp_path):
    for K, lr in ((3, "0.1"), (5, "0.1"), (7, "0.2")):
        make_run(tmp_path / "runs", f"run-{K}", layer__K=str(K), optimizer__lr=lr)
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 3)
        pilot.app.screen._set_groups(["repeats"])
        await until(pilot, lambda: len(names(grid)) == 3 and all(name.startswith("K=") for name in names(grid)))


async def test_columns_are_chosen(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        before = [column.key for column in grid.columns]
        await pilot.press("c")
        await until(pilot, lambda: "its directory, with the folders above" in text(pilot.app))
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        await pilot.press("down", "space", "enter")
        await until(pilot, lambda: [column.key for column in grid.columns] == [*before, "path"])


async def test_columns_without_room_are_reached_to_the_right(tmp_path):
    make_runs(tmp_path / "runs")
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(60, 20)) as pilot:
        grid = await opened(pilot, 10)
        assert grid.border_subtitle.startswith("columns 1-") and "status" in text(pilot.app)
        await pilot.press("right", "right")
        await pilot.pause()
        assert grid.border_subtitle.startswith("columns 3-") and "status" not in text(pilot.app)
        await pilot.press("left", "left", "left")
        assert grid.first_column == 0


async def test_a_new_run_from_an_old_one_shows_what_was_changed(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await opened(pilot, 4)
        screen = await form(pilot, "ctrl+d")
        assert screen.draft.typed == {} and screen.checked.config.layer.K == 3
        screen.query_one("#form").go_to("layer.K")
        await pilot.press("ctrl+up")
        await until(pilot, lambda: screen.draft.typed == {"layer.K": "4"})
        screen.query_one("#form").go_to("layer.padding")
        await until(pilot, lambda: "run 3" in text(pilot.app) and "from run run-3-0  1 changed" in text(pilot.app))
        assert screen.command == "convnn run --K 4 --dataset digits --num_epochs 4"


async def test_marked_runs_are_deleted_after_a_question_and_brought_back_together(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("space", "space", "delete")
        await pilot.press("enter")
        await until(pilot, lambda: names(grid) == ["run-5-0", "run-5-1"])
        assert not (tmp_path / "runs" / "run-3-0").exists() and not pilot.app.selection.marked
        await pilot.press("u")
        await until(pilot, lambda: len(grid.items) == 4)


async def test_new_and_growing_runs_show_up_by_themselves(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        make_run(tmp_path / "runs", "another", hours=0.1)
        pilot.app.run_feed.read_now()
        await until(pilot, lambda: "another" in names(grid))


async def test_names_with_escape_codes_and_markup_are_shown_harmlessly(tmp_path):
    make_run(tmp_path / "runs", "[red]x[-red] \x1b[31mred")
    async with app(tmp_path / "runs").run_test() as pilot:
        await opened(pilot, 1)
        await until(pilot, lambda: "[red]x[-red] \\x1b[31mred" in text(pilot.app))


async def test_help_tells_the_keys_of_the_table(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 50)) as pilot:
        await opened(pilot, 4)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        assert all(
            word in text(pilot.app) for word in ("Groups show", "group the runs by", "choose columns", "sort by")
        )


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_the_picture_of_the_table(snap_compare, size):
    repeats(Path("runs"))
    make_runs(Path("runs"))

    async def look(pilot):
        await opened(pilot, 10)
        await pilot.press("p", "down", "space", "space", "s", "s", "s", "s")
        await pilot.pause(0.1)

    assert snap_compare(app(Path("runs")), terminal_size=size, run_before=look)


async def test_an_arrangement_is_saved_as_a_view_and_shown_again(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("slash", *"K=3", "enter", "s", "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, Prompt))
        await pilot.press(*"three", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        screen = pilot.app.screen
        assert read_views()["three"].filter == "K=3"
        sort = screen.settings.sort
        await pilot.press("escape", "s")
        await until(pilot, lambda: len(grid.items) == 4)
        await pilot.press("v", "t", "enter")
        await until(pilot, lambda: len(grid.items) == 2)
        assert (screen.settings.filter, screen.settings.sort) == ("K=3", sort)
        for view in (View(columns="nowhere"), View(filter="K=5", group="K,nowhere")):
            save_view("other", view)
            await pilot.press("v", "o", "enter")
            if view.group:
                await pilot.press("home", "enter")  # the inner group
            await until(pilot, lambda: "unknown field nowhere" in messages(pilot.app))
            assert len(grid.items) == (2 if view.filter else 4)
            pilot.app.clear_notifications()


def title_click(grid: RunGrid, key: str, width: int) -> tuple[int, int]:
    """The offset of a column's title in the grid."""
    line = grid.column_titles(width).plain
    return line.index(f" {key}") + 2 + grid.gutter.left, grid.gutter.top


async def test_a_click_on_a_title_sorts_by_it_the_best_first_and_the_next_one_reverses(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        grid = await opened(pilot, 4)
        width = grid.scrollable_content_region.width
        best_first = ["run-5-1", "run-5-0", "run-3-1", "run-3-0"]
        for key, sort, order in (
            ("best", ("best", True), best_first),
            ("best", ("best", False), best_first[::-1]),
            ("K", ("K", False), ["run-3-0", "run-3-1", "run-5-0", "run-5-1"]),
            ("name", ("name", False), best_first[::-1]),
        ):
            await pilot.click(RunGrid, offset=title_click(grid, key, width))
            await until(pilot, lambda sort=sort: grid.sort == sort)
            assert names(grid) == order


async def test_without_a_column_to_sort_by_shift_s_lists_the_oldest_first(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        await pilot.press("S")
        await until(pilot, lambda: names(grid) == ["run-5-1", "run-5-0", "run-3-1", "run-3-0"])
        assert "oldest first" in text(pilot.app)


async def test_where_there_is_room_no_name_and_no_value_is_cut(tmp_path):
    path, name = "a/folder/of/images/with/a/rather/long/name", "20261122-140000-a-run-with-a-name-that-says-a-lot"
    make_run(tmp_path / "runs", name, data__dataset="folder", data__path=path)
    make_run(tmp_path / "runs", "b", hours=2, data__dataset="folder", data__path="short")
    async with app(tmp_path / "runs").run_test(size=(200, 60)) as pilot:
        await opened(pilot, 2)
        await until(pilot, lambda: name in text(pilot.app))
        assert path in text(pilot.app) and "…" not in text(pilot.app)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: name not in text(pilot.app) and "a-run-with-a-name" in text(pilot.app))


async def test_runs_that_failed_before_their_first_step_are_listed_by_a_key_or_a_filter(tmp_path):
    repeats(tmp_path / "runs")
    make_run(tmp_path / "runs", "no-data", "failed", hours=0.5, epochs=0)
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 5)
        assert len(grid.items) == 4 and "runs 4 · 1 failed at once, a lists them" in text(pilot.app)
        await pilot.press("a")
        await until(pilot, lambda: names(grid)[0] == "no-data")
        await pilot.press("a")
        await until(pilot, lambda: len(grid.items) == 4)
        await pilot.press("slash", *"status=failed")
        await until(pilot, lambda: names(grid) == ["no-data"])


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("a",), "no run failed before its first step"),
        (("M",), "no run is marked"),
        (("right",), "every column is in sight"),
        (("left",), "every column is in sight"),
        (("d",), "mark two or more runs"),
    ],
)
async def test_a_key_without_effect_says_why(tmp_path, keys, reason):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(160, 40)) as pilot:
        await opened(pilot, 4)
        await pilot.press(*keys)
        await until(pilot, lambda: reason in messages(pilot.app))


@pytest.mark.parametrize("key", ["enter", "space", "p", "ctrl+d", "delete", "full_stop"])
async def test_a_key_that_needs_a_run_says_so(tmp_path, key):
    async with app(tmp_path / "runs").run_test() as pilot:
        await opened(pilot, 0)
        await pilot.press(key)
        await until(pilot, lambda: re.search("No runs yet|cursor to a run", messages(pilot.app)))


@pytest.mark.parametrize("key", ["p", "delete", "full_stop"])
async def test_a_key_that_needs_a_run_says_so_on_a_group(tmp_path, key):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        grid = await opened(pilot, 4)
        pilot.app.screen._set_groups(["K"])
        await until(pilot, lambda: len(grid.items) == 2)
        await pilot.press(key)
        await until(pilot, lambda: "move the cursor to a run" in messages(pilot.app))


async def test_a_picker_is_as_high_as_its_items_and_scrolls_where_they_are_many(tmp_path):
    repeats(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(200, 60)) as pilot:
        await opened(pilot, 4)
        for key, heights in (("o", range(6, 12)), ("c", range(46, 49))):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
            await pilot.pause()
            box = pilot.app.screen.children[0]
            assert box.region.height in heights and box.region.width == 76
            await pilot.press("escape")
        await pilot.resize_terminal(60, 15)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, Picker))
        await pilot.press("end")
        await pilot.pause()
        assert pilot.app.screen.items[-1][0] in text(pilot.app)
