"""Home: the runs beside the presets, filtered, opened, deleted and brought back."""

from __future__ import annotations

import re
import shutil

import pytest
from support.app import app, form, make_run, make_runs, messages, text, until
from textual.app import App, ComposeResult

from convnn.analysis.fields import RUN_FIELDS
from convnn.config.toml import dumps, parse_run
from convnn.presets import store
from convnn.presets.resolve import resolve
from convnn.runs.control import ControlCommand
from convnn.runs.lock import lock_run
from convnn.runs.run import Run
from convnn.runs.status import STATUSES
from convnn.runs.summary import summarize
from convnn.sweeps.queue import Entry, Queue
from convnn.sweeps.slots import SLOTS, Slot
from convnn.sweeps.work import Worker
from tui import run_feed
from tui.arrangement import GridRow
from tui.dialogs.choice import Choice
from tui.screens.home import HomeScreen
from tui.screens.run.screen import RunScreen
from tui.screens.setup.screen import SetupScreen
from tui.selection import Selection
from tui.widgets.preset_list import PresetList
from tui.widgets.queue_list import QueueList
from tui.widgets.run_grid import RunGrid
from tui.widgets.run_name import short_name

pytestmark = pytest.mark.usefixtures("frames_are_drawn_for_the_pilot")

PRESET = 'about = "a small look"\n\n[model]\nwidth = 0.125\n\n[data]\ndataset = "digits"\n'


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """An empty working directory with one preset of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "aaa.toml").write_text(PRESET)
    return tmp_path


def grid(app) -> RunGrid:
    return app.screen_stack[0].query_one(RunGrid)


def names(app) -> list[str]:
    return [row.run.name for row in grid(app).items]


async def read(pilot, count: int) -> None:
    await until(pilot, lambda: len(grid(pilot.app).items) == count and pilot.app.screen_stack[0].presets)


async def test_runs_stand_newest_first_with_glyph_word_and_figures(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await read(pilot, 6)
        screen = text(pilot.app)
        assert [row.run.status for row in grid(pilot.app).items] == [
            "done",
            "stopped",
            "interrupted",
            "failed",
            "diverged",
            "died",
        ]
        for row in grid(pilot.app).items:
            assert STATUSES[row.run.status].label in screen
        line = next(line for line in screen.splitlines() if "✓ done" in line)
        assert all(word in line for word in ("vgg11-Branching-a0f0", "digits", "4/4", "82.5", "59 m"))
        assert "aaa" in screen and "a small look" in screen


async def test_a_filter_narrows_both_lists_and_escape_clears_it_and_never_quits(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("slash", *"layer=ConvNN")
        await until(pilot, lambda: names(pilot.app) == ["20261122-130000-vgg11-ConvNN-a1f1"])
        assert grid(pilot.app).border_title == "runs 1 of 6"
        await pilot.press("escape")
        await until(pilot, lambda: len(names(pilot.app)) == 6)
        await pilot.press("escape", "escape")
        assert pilot.app.is_running and grid(pilot.app).has_focus


async def test_what_a_filter_says_of_runs_hides_no_preset(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        presets = pilot.app.screen.query_one("#presets")
        count = len(presets.items)
        await pilot.press("slash", *"best>1")
        await until(pilot, lambda: grid(pilot.app).border_title == "runs 6 of 6")
        assert len(presets.items) == count
        await pilot.press(*" nosuch")
        await until(pilot, lambda: not presets.items)


async def test_enter_in_the_filter_goes_to_the_presets_where_only_they_match(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        presets = pilot.app.screen.query_one("#presets")
        await pilot.press("slash", *"published-conv2d-new")
        await until(pilot, lambda: len(presets.items) == 1)
        await pilot.press("enter")
        await until(pilot, lambda: presets.has_focus)
        await pilot.press("escape", "slash", *"ConvNN", "enter")
        await until(pilot, lambda: grid(pilot.app).has_focus)


async def test_a_filter_that_is_not_understood_says_so_and_hides_nothing(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("slash", *"layer=")
        await until(pilot, lambda: "filter, column" in text(pilot.app))
        assert len(names(pilot.app)) == 6


async def test_runs_are_marked_and_all_marks_are_taken_away(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("space", "space")
        await until(pilot, lambda: text(pilot.app).count("◆") == 2)
        await pilot.press("M")
        await until(pilot, lambda: "◆" not in text(pilot.app))
        assert not pilot.app.selection.marked


async def test_enter_opens_a_run_and_tab_and_enter_load_a_preset(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        screen = await form(pilot, "tab", "enter")
        assert screen.draft.preset.name == "aaa" and screen.checked.config.model.width == 0.125
        assert screen.command == "convnn run aaa"


async def test_a_deleted_run_is_in_the_trash_and_comes_back(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        first = names(pilot.app)[0]
        await pilot.press("delete")
        await until(pilot, lambda: len(names(pilot.app)) == 5)
        assert not (tmp_path / "runs" / first).exists()
        await pilot.press("u")
        await until(pilot, lambda: len(names(pilot.app)) == 6)
        assert (tmp_path / "runs" / first / "config.toml").exists()


async def test_marked_runs_are_deleted_after_a_question_and_not_the_one_under_the_cursor(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        before = names(pilot.app)
        await pilot.press("space", "down", "space", "down", "delete")
        await until(pilot, lambda: isinstance(pilot.app.screen, Choice))
        assert len(list((tmp_path / "runs").glob("*/config.toml"))) == 6
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(pilot.app.screen, Choice) and len(names(pilot.app)) == 4)
        assert len(set(before) - set(names(pilot.app))) == 2
        await pilot.press("u")
        await until(pilot, lambda: len(names(pilot.app)) == 6)


async def test_a_running_run_is_not_deleted_and_the_reason_is_shown(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        run = pilot.app.screen.run
        with lock_run(run.path):
            await pilot.press("delete")
            await until(pilot, lambda: "is training and is not deleted" in messages(pilot.app))
        assert run.path.exists()


async def test_a_preset_is_copied_deleted_and_brought_back(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: pilot.app.screen.presets)
        rows = pilot.app.screen.query_one(PresetList)
        await pilot.press("tab", "ctrl+d")
        await until(pilot, lambda: [item.name for item in rows.items][:2] == ["aaa", "aaa-2"])
        assert (tmp_path / "presets" / "aaa-2.toml").read_text() == PRESET
        await pilot.press("delete")
        await until(pilot, lambda: rows.items[0].name == "aaa-2")
        assert not (tmp_path / "presets" / "aaa.toml").exists()
        await pilot.press("u")
        await until(pilot, lambda: rows.items[0].name == "aaa")
        assert (tmp_path / "presets" / "aaa.toml").read_text() == PRESET


async def test_a_preset_that_came_with_the_program_is_not_deleted(tmp_path, monkeypatch):
    bundled = store.folders()[2]
    count = len(list(bundled.glob("*.toml")))
    shutil.rmtree(tmp_path / "presets")
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: pilot.app.screen.presets)
        await pilot.press("tab", "delete")
        await until(pilot, lambda: any("came with convnn" in note.message for note in pilot.app._notifications))
    assert len(list(bundled.glob("*.toml"))) == count


async def test_the_settings_of_a_run_fill_the_form(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        screen = await form(pilot, "down", "down", "ctrl+d")
        assert screen.checked.config.layer.type == "Conv2d" and screen.checked.config.data.dataset == "digits"
        assert not screen.checked.problems


async def test_empty_lists_say_what_to_press(tmp_path):
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: "Press n" in text(pilot.app))
        await pilot.press("slash", *"nothing-is-called-so")
        make_runs(tmp_path / "runs")
        pilot.app.run_feed.read_now()
        await until(pilot, lambda: "Press esc to clear the filter" in text(pilot.app))


async def test_runs_of_other_terminals_show_up_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(run_feed, "SHARE", 0)  # on a busy machine a read takes long
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: pilot.app.screen.presets)
        make_run(tmp_path / "runs", "20261122-140000-new-0000")
        await until(pilot, lambda: names(pilot.app) == ["20261122-140000-new-0000"])


async def test_names_with_escape_codes_and_markup_are_shown_harmlessly(tmp_path):
    make_run(tmp_path / "runs", "20261122-140000-[red]x[b]\x1b[31m")
    (tmp_path / "presets" / "[b]y.toml").write_text('about = "[blink]z[/blink]\\u001b[2J"\n')
    async with app(tmp_path / "runs").run_test(size=(160, 40)) as pilot:
        await read(pilot, 1)
        screen = text(pilot.app)
        assert "[red]x[b]\\x1b[31m" in screen and "[b]y" in screen and "[blink]z[/blink]" in screen
        assert "\x1b" not in screen


class GridApp(App[None]):
    def compose(self) -> ComposeResult:
        yield RunGrid("", Selection())


async def test_of_thousands_of_runs_only_those_in_sight_are_rendered(tmp_path):
    run = summarize(Run(make_run(tmp_path, "20261122-140000-one-0000"), "one"))
    async with GridApp().run_test() as pilot:
        grid = pilot.app.query_one(RunGrid)
        grid.show_rows([GridRow(run)] * 5000, [RUN_FIELDS["status"]])
        rendered = []
        render_item = grid.render_item
        grid.render_item = lambda item, width: rendered.append(item) or render_item(item, width)
        await pilot.press("end")
        await pilot.pause()
        assert grid.cursor == 4999 and grid.max_scroll_y == 5001 - grid.size.height
        assert 0 < len(rendered) <= 3 * grid.size.height


def test_a_long_name_keeps_the_end_that_tells_it_apart():
    name = "20261122-140000-resnet18-Branching_Attn-3f2a"
    assert short_name(name, 60) == name
    assert short_name(name, 30) == "resnet18-Branching_Attn-3f2a"
    assert short_name(name, 16) == "resnet18-B…-3f2a"


async def test_a_list_that_another_screen_covers_is_not_read_or_drawn(tmp_path, monkeypatch):
    """Training in this process would pay for it."""
    make_runs(tmp_path / "runs")
    monkeypatch.setattr(run_feed, "POLL", 0.05)
    monkeypatch.setattr(run_feed, "SHARE", 0)
    reads = []
    read_runs = run_feed._read
    monkeypatch.setattr(run_feed, "_read", lambda *arguments: reads.append(1) or read_runs(*arguments))
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.pause(0.2)  # a read may have begun
        reads_before = len(reads)
        await pilot.pause(0.3)
        assert len(reads) == reads_before
        await pilot.press("question_mark")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen) and len(reads) > reads_before)
        await pilot.press("question_mark")  # what shines through is kept up
        reads_before = len(reads)
        await until(pilot, lambda: len(reads) > reads_before + 1)


async def test_tab_in_the_filter_completes_and_elsewhere_goes_to_the_next_pane(tmp_path):
    make_runs(tmp_path / "runs")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 6)
        await pilot.press("slash", *"stat", "tab")
        await until(pilot, lambda: pilot.app.focused.value == "status=")
        await pilot.press("escape", "tab")
        await until(pilot, lambda: pilot.app.screen.query_one(PresetList).has_focus)


def queue_list(app) -> QueueList:
    return app.screen_stack[0].query_one(QueueList)


def queue_names(app) -> list[str]:
    return [item.name for item in queue_list(app).items]


def queued(root, *values: int) -> Queue:
    """A queue with an entry for each value of K."""
    queue = Queue(root)
    configs = [resolve(None, {"layer.K": str(value), "data.dataset": "digits"}).checked() for value in values]
    names = [f"K{value}" for value in values]
    queue.add([Entry(config=dumps(config, whole=True), name=name) for config, name in zip(configs, names, strict=True)])
    return queue


async def test_launches_that_wait_in_the_app_are_moved_deleted_and_brought_back(tmp_path):
    long = {"data.dataset": "digits", "data.limit": "40", "model.width": "0.05", "training.num_epochs": "100000"}
    async with app(tmp_path / "runs").run_test() as pilot:
        await until(pilot, lambda: pilot.app.screen.presets)
        launcher = pilot.app.launcher
        launcher.launch(resolve(None, long).checked())
        await until(pilot, lambda: launcher.live is not None)
        first, second = (launcher.launch(resolve(None, long | {"run.name": name}).checked()) for name in "ab")
        await until(pilot, lambda: queue_names(pilot.app) == ["a", "b"])
        queue_list(pilot.app).focus()
        await pilot.press("J")
        await until(pilot, lambda: queue_names(pilot.app) == ["b", "a"])
        assert launcher.waiting == (second, first) and queue_list(pilot.app).current.name == "a"
        await pilot.press("delete")
        await until(pilot, lambda: queue_names(pilot.app) == ["b"] and first not in launcher.launches)
        await pilot.press("u")
        await until(pilot, lambda: launcher.waiting == (second, first))
        launcher.close(ControlCommand.STOP)
        assert launcher.wait(60)


async def test_the_queue_is_moved_emptied_and_brought_back_by_keys(tmp_path):
    queue = queued(tmp_path / "runs", 1, 4, 9)
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: queue_names(pilot.app) == ["K1", "K4", "K9"])
        assert "no worker serves it" in text(pilot.app) and "K=4" in text(pilot.app)
        await pilot.press("tab", "down", "down", "K", "K")
        await until(pilot, lambda: queue_names(pilot.app) == ["K9", "K1", "K4"])
        assert [entry.name for entry in queue.entries()[0]] == ["K9", "K1", "K4"]
        assert queue_list(pilot.app).current.name == "K9"
        await pilot.press("delete", "delete", "delete")
        await until(pilot, lambda: not queue_list(pilot.app).display and grid(pilot.app).has_focus)
        assert queue.entries() == ([], [])
        await pilot.press("u", "u", "u")
        await until(pilot, lambda: queue_names(pilot.app) == ["K9", "K1", "K4"])
        await pilot.press("tab", "home", "down", "ctrl+d")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))
        assert pilot.app.screen.checked.config.layer.K == 1


async def test_the_queue_says_what_trains_where_and_why_nothing_starts(tmp_path):
    queue = queued(tmp_path / "runs", 1, 4)
    first = queue.entries()[0][0]
    with (
        Worker(queue, [Slot("cpu0", 1), Slot("cpu1", 1)]),
        queue.claim(first),
        Slot("cpu0", 1).claim(queue.place(SLOTS, make=True)) as slot,
    ):
        slot.rewrite(text=first.id)
        async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "2 slots:  cpu0 trains 1   cpu1 free" in text(pilot.app))
            items = queue_list(pilot.app).items
            assert [(item.state, item.slot) for item in items] == [("running", "cpu0"), ("queued", "")]
            await pilot.press("tab", "delete")
            await until(pilot, lambda: any("it trains" in note.message for note in pilot.app._notifications))
            assert len(queue.entries()[0]) == 2
            await pilot.press("P")
            await until(pilot, lambda: "paused: on request" in text(pilot.app))
            assert queue.paused == "on request"
            queue.pause("3 runs in a row failed with one cause: the disk is full")
            await until(pilot, lambda: "one cause: the disk is full" in text(pilot.app))
            await pilot.press("P")
            await until(pilot, lambda: "cpu1 free" in text(pilot.app))
            assert queue.paused is None


async def test_what_left_the_queue_is_listed_with_its_cause_until_it_is_dismissed(tmp_path):
    queue = queued(tmp_path / "runs", 1)
    (entry,) = queue.entries()[0]
    queue.leave(entry, "failed: no space left on [device]")
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "no space left on [device]" in text(pilot.app))
        await pilot.press("tab", "delete")
        await until(pilot, lambda: not queue_list(pilot.app).display)
        await pilot.press("u")
        await until(pilot, lambda: queue_names(pilot.app) == ["K1"])
        assert len(queue.ended()) == 1
        queue.pause("for a test")
        queue_list(pilot.app).focus()
        await pilot.press("f6")
        await until(pilot, lambda: [item.state for item in queue_list(pilot.app).items] == ["queued"])
        assert queue.ended() == []


async def test_runs_that_failed_before_their_first_step_are_listed_by_a_key(tmp_path):
    make_run(tmp_path / "runs", "no-data", "failed", epochs=0)
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Every run failed before its first step.  Press a" in text(pilot.app))
        assert "runs 0 · 1 failed at once, a lists them" in text(pilot.app)
        await pilot.press("a")
        await until(pilot, lambda: names(pilot.app) == ["no-data"])
        await pilot.press("a")
        await until(pilot, lambda: not names(pilot.app))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("tab", "space"), "move the cursor to a run first"),
        (("M",), "no run is marked"),
        (("a",), "no run failed before its first step"),
        (("escape",), "there is nothing to go back to"),
        (("left",), "every column is in sight"),
        (("f5",), "move the cursor to a preset"),
        (("u",), "trash"),
    ],
)
async def test_a_key_without_effect_says_why(tmp_path, keys, reason):
    make_run(tmp_path / "runs", "one")
    async with app(tmp_path / "runs").run_test(size=(200, 40)) as pilot:
        await read(pilot, 1)
        await pilot.press(*keys)
        await until(pilot, lambda: reason in messages(pilot.app))


@pytest.mark.parametrize("key", ["enter", "space", "ctrl+d", "delete", "full_stop"])
async def test_a_key_that_needs_a_run_says_so(tmp_path, key):
    async with app(tmp_path / "runs").run_test(size=(120, 40)) as pilot:
        await read(pilot, 0)
        await until(pilot, lambda: "No runs yet" in text(pilot.app))
        await pilot.press(key)
        await until(pilot, lambda: re.search("No runs yet|cursor to a run", messages(pilot.app)))


async def test_presets_of_ones_own_are_marked_with_what_they_hide(tmp_path):
    shutil.copy(store.listed()["quickstart"][0], tmp_path / "presets" / "quickstart.toml")
    async with app(tmp_path / "runs").run_test(size=(80, 24)) as pilot:
        await read(pilot, 0)
        presets = {preset.name: preset for preset in pilot.app.screen.presets}
        rows = {
            name: "\n".join(
                line.plain for line in pilot.app.screen.query_one(PresetList).render_item(presets[name], 76)
            )
            for name in ("aaa", "quickstart", "published-branching")
        }
        assert "yours · a small look" in rows["aaa"] and "yours, hides " in rows["quickstart"]
        assert "yours" not in rows["published-branching"]


async def test_three_more_seeds_of_a_run_are_two_keys(tmp_path):
    make_run(tmp_path / "runs", "20261122-140000-one-0000", training__num_epochs="3", training__seed="1")
    queue = Queue(tmp_path / "runs")
    queue.pause("a test")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 1)
        await pilot.press("R", "enter")
        await until(pilot, lambda: len(queue.entries()[0]) == 3)
        configs = [parse_run(entry.config) for entry in queue.entries()[0]]
        assert [config.training.seed for config in configs] == [0, 2, 3]  # that of the run is done
        original = Run(tmp_path / "runs" / "20261122-140000-one-0000", "one").config()
        assert all(config.layer == original.layer and config.data.dataset == "digits" for config in configs)
        await pilot.press("R", "enter")
        await until(pilot, lambda: len(queue.entries()[0]) == 6)
        assert {parse_run(entry.config).training.seed for entry in queue.entries()[0]} == {0, 2, 3, 4, 5, 6}


async def test_a_run_over_two_options_is_at_most_eight_keys_beside_names_and_values(tmp_path):
    make_run(tmp_path / "runs", "20261122-140000-one-0000", training__num_epochs="3")
    queue = Queue(tmp_path / "runs")
    queue.pause("a test")
    async with app(tmp_path / "runs").run_test() as pilot:
        await read(pilot, 1)
        keys = 0

        async def press(key: str) -> None:
            nonlocal keys
            keys += 1
            await pilot.press(key)

        await press("ctrl+d")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen) and pilot.app.screen.checked)
        screen = pilot.app.screen
        for name, values in (("layer.K", "1,4"), ("optimizer.lr", "1e-3,1e-4")):
            await press("slash")
            await until(pilot, lambda: pilot.app.screen is not screen)
            await pilot.press(*name)
            await until(pilot, lambda name=name: name in text(pilot.app))
            await pilot.pause(0.3)
            await press("enter")
            await until(pilot, lambda: pilot.app.screen is screen)
            assert screen.query_one("#form").focused_field.option.key == name
            await pilot.press(*values)
        await until(pilot, lambda: len(screen.checked.cells) == 4)
        await press("f6")
        await until(pilot, lambda: len(queue.entries()[0]) == 4)
        assert keys <= 8
