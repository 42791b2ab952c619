"""The run screen: the same for a run that trains, one that ended and one of another terminal."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
from support import training
from support.pictured_runs import STEPS, events_of, make
from support.runs import epoch as epoch_event
from support.runs import new
from support.slurm_commands import SlurmCommands
from textual.color import Color
from textual.widgets import RichLog

from convnn import events
from convnn.errors import UserError
from convnn.events import Epoch, Finished, Started
from convnn.presets.resolve import resolve
from convnn.runs import event_log
from convnn.runs.control import ControlCommand
from convnn.runs.lock import lock_run
from convnn.runs.run import Run
from convnn.worker.train_run import RunResult
from tui.app import ConvnnApp
from tui.dialogs.choice import Choice
from tui.process.launcher import Launch
from tui.screens.run.follower import RunFollower
from tui.screens.run.pane import PANE_KEYS, Pane
from tui.screens.run.run_menu import CONFIRMATIONS, PAUSED_ANSWERS, RUNNING_ANSWERS
from tui.screens.run.screen import RunScreen
from tui.screens.setup.screen import SetupScreen
from tui.theme import AsciiFilter
from tui.widgets.chart_view import ChartView


class Opened:
    """A pilot of the app with the screen of one run on top."""

    def __init__(self, run: Run | Launch, root, size=(120, 40)) -> None:
        self.app, self.run, self.size = ConvnnApp(root), run, size

    async def __aenter__(self):
        self._running = self.app.run_test(size=self.size)
        self.pilot = await self._running.__aenter__()
        self.screen = RunScreen(self.run)
        await self.app.push_screen(self.screen)
        await self.until(lambda: self.screen.follower is None or self.screen.history is not None)
        return self

    async def __aexit__(self, *error):
        await self._running.__aexit__(*error)

    async def until(self, happened, seconds: float = 4.0) -> None:
        for _ in range(round(seconds / 0.02)):
            await self.pilot.pause(0.02)
            if happened():
                return
        raise AssertionError(f"it did not happen; the screen is:\n{self.text}")

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    @property
    def charts(self) -> list[ChartView]:
        """Those that are not in a hidden pane."""
        charts = self.screen.query(ChartView)
        return [chart for chart in charts if all(node.display for node in chart.ancestors_with_self)]

    @property
    def log(self) -> str:
        return "\n".join(line.text for line in self.screen.query_one(RichLog).lines)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=str)
async def test_every_size_shows_state_progress_curves_and_log(tmp_path, size):
    run = make(tmp_path, outcome="done")
    async with Opened(run, tmp_path, size) as opened:
        await opened.until(lambda: "train" in opened.text)
        for word in (
            run.name,
            "✓ done",
            "12/30",
            "40%",
            "best on test",
            "2 loss",
            "3 accuracy, %",
            "test",
            "epoch 12/30",
        ):
            assert word in opened.text, word


async def test_a_run_of_another_process_is_running_paused_or_died_by_its_lock(tmp_path):
    run = make(tmp_path)
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            await opened.until(lambda: "● running" in opened.text and "eta" in opened.text)
            event_log.append_event(run.events_path, events.Paused(epoch=12, step=12 * STEPS))
            await opened.until(lambda: "‖ paused" in opened.text)
    async with Opened(run, tmp_path) as opened:
        await opened.until(lambda: "† died" in opened.text)


async def test_what_a_live_run_writes_appears(tmp_path):
    run = make(tmp_path, epochs=2)
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            await opened.until(lambda: "2/30" in opened.text)
            for event in events_of(4)[len(events_of(2)) :]:
                event_log.append_event(run.events_path, event)
            await opened.until(lambda: "4/30" in opened.text)
            assert max(opened.charts[0].data.series[0].xs) == 4
            assert "resumed in epoch 3" in opened.log


async def test_the_device_pane_draws_the_units_that_the_machine_has(tmp_path):
    steps = [
        events.Step(epoch=1, step=step, loss=1.0, system={"data_loading": 2.0, "cpu_util": 90.0, "rss_bytes": 2.0**31})
        for step in range(1, 9)
    ]
    async with Opened(new(tmp_path, Started(device="cpu (x)"), *steps), tmp_path, (120, 50)) as opened:
        charts = list(opened.screen.query("DevicePane ChartView").results(ChartView))
        await opened.until(lambda: charts[0].display)
        assert [chart.display for chart in charts] == [True, True, False, False, False]
        assert [[series.label for series in chart.data.series] for chart in charts[:2]] == [
            ["cpu %", "data %"],
            ["process GiB"],
        ]
        await opened.until(lambda: "compute-bound: 2 %" in opened.text)
        assert "cpu %" in opened.text


async def test_keys_show_and_hide_the_panes(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path) as opened:
        for key, pane in zip(PANE_KEYS, opened.screen.query(Pane), strict=True):
            assert pane.display != pane.STARTS_HIDDEN
            await opened.press(key)
            assert pane.display == pane.STARTS_HIDDEN
        await opened.press(*"1234567")
        assert all(pane.display and pane.size.height > 2 for pane in opened.screen.query(Pane))


async def test_all_panes_at_80x24_scroll_and_keep_a_height(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path, (80, 24)) as opened:
        assert not opened.screen.query_one("RatePane").display
        await opened.press("4", "5", "6")
        panes = [pane for pane in opened.screen.query(Pane) if pane.display]
        assert len(panes) == 7 and all(5 <= pane.outer_size.height <= 12 for pane in panes)
        configuration = opened.screen.query_one("ConfigurationPane")
        configuration.focus()
        await opened.press("end")
        await opened.until(lambda: configuration.scroll_y == configuration.max_scroll_y > 0)


async def test_the_value_cursor_is_the_same_in_all_curves_and_escape_puts_it_away(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path) as opened:
        await opened.press("left", "left", "left")
        cursors = {chart.settings.cursor for chart in opened.charts}
        assert len(cursors) == 1
        assert 11 < cursors.pop() < 12
        loss, accuracy = opened.charts[0].chart, opened.charts[1].chart
        assert all(value is not None for value in loss.cursor_values + accuracy.cursor_values)
        await opened.press("escape")
        assert opened.charts[0].settings.cursor is None
        assert opened.app.screen is opened.screen
        await opened.press("escape")
        assert opened.app.screen is not opened.screen


async def test_x_counts_epochs_steps_or_seconds_in_all_curves(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path) as opened:
        ends = {"epoch": 12, "step": 12 * STEPS, "seconds": 12 * (STEPS + 3)}
        for axis in ("epoch", "step", "seconds"):
            assert {chart.settings.x for chart in opened.charts} == {axis}
            assert {round(chart.chart.x_range[1]) for chart in opened.charts} == {ends[axis]}
            await opened.press("x")


async def test_y_and_e_and_zoom_change_how_curves_are_drawn(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path) as opened:
        await opened.press("y", "e", "plus", "plus")
        await opened.until(lambda: "log y · smoothed 0.6 · x4" in opened.text)
        low, high = opened.charts[1].chart.x_range
        assert high == 12
        assert 2.9 < high - low < 3.1
        await opened.press("minus", "0")
        assert opened.charts[1].chart.x_range[0] < 1


async def test_pause_resume_change_and_stop_are_marked_on_the_curves(tmp_path):
    for axis, pause in (("epoch", 3), ("step", 3 * STEPS), ("seconds", 3 * STEPS + 6)):
        run = make(tmp_path / axis, outcome="stopped", cause="on request, after the epoch")
        async with Opened(run, tmp_path) as opened:
            while opened.charts[0].settings.x != axis:
                await opened.press("x")
            marks = {word: x for x, word in opened.charts[0].data.marks}
            assert marks.keys() == {"paused", "resumed", "note", "stopped"}
            assert marks["paused"] == pause
            assert "stopped on request after" in opened.text


@pytest.mark.parametrize(("downs", "word"), [(0, "pause"), (3, "stop")])
async def test_the_menu_gives_any_run_its_word(tmp_path, downs, word):
    run = make(tmp_path)
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            await opened.press("full_stop")
            assert isinstance(opened.app.screen, Choice)
            await opened.press(*["down"] * downs, "enter")
            assert (run.path / "control").read_text().strip() == word
            assert CONFIRMATIONS[ControlCommand(word)] in [toast.message for toast in opened.app._notifications]


def test_a_stop_after_the_epoch_is_confirmed_as_such():
    offered = {word for word, _, _ in (*RUNNING_ANSWERS, *PAUSED_ANSWERS)}
    assert {command.value for command in CONFIRMATIONS} == offered
    assert CONFIRMATIONS[ControlCommand.STOP_EPOCH].endswith("after the current epoch")


async def test_charts_on_an_ascii_terminal_are_drawn_with_letters(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    opened = Opened(make(tmp_path, outcome="done"), tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    async with opened:
        await opened.until(lambda: all(chart.chart for chart in opened.charts if chart.display))
        ascii_filter = next(f for f in opened.app._filters if isinstance(f, AsciiFilter))
        for chart in opened.charts:
            plain = "".join(line.plain for line in chart.chart.lines)
            assert not any("\u2800" <= character <= "\u28ff" for character in plain)
            strips = [chart.render_line(y) for y in range(chart.size.height)]
            cells = "".join(s.text for strip in strips for s in strip.apply_filter(ascii_filter, Color(0, 0, 0)))
            assert cells.strip() and cells.isascii() and "?" not in cells


async def test_a_paused_run_can_be_resumed_and_an_ended_one_not_be_stopped(tmp_path):
    run = make(tmp_path)
    event_log.append_event(run.events_path, events.Paused(epoch=12, step=12 * STEPS))
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            await opened.press("full_stop", "enter")
            assert (run.path / "control").read_text().strip() == "resume"
    done = make(tmp_path / "done", outcome="done")
    async with Opened(done, tmp_path) as opened:
        await opened.press("full_stop")
        words = {result for result, _, _ in opened.app.screen.answers}
        assert "note" in words and words.isdisjoint({"pause", "resume", "stop", "stop-epoch", "resume-here"})


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("done", ". actions"), ("stopped", ". resume"), (None, ". pause or stop"), ("failed", ". resume")],
)
async def test_the_footer_names_the_menu_after_what_the_status_calls_for(tmp_path, outcome, word):
    run = make(tmp_path, outcome=outcome)
    with lock_run(run.path) if outcome is None else nullcontext():
        async with Opened(run, tmp_path, (80, 24)) as opened:
            await opened.until(lambda: word in opened.text.splitlines()[-1])
            assert sum(words in opened.text for words in (". actions", ". resume", ". pause or stop")) == 1


async def test_a_note_is_written_into_the_history_and_marked_on_the_curves(tmp_path):
    run = make(tmp_path, outcome="done")
    async with Opened(run, tmp_path) as opened:
        await opened.press("N", "enter", *"looks good", "enter")
        await opened.until(lambda: "note: looks good" in opened.log)
        notes = [event for event in event_log.EventReader().read(run.events_path)[0] if isinstance(event, events.Noted)]
        assert notes[-1].text == "looks good"
        assert "note" in {word for _, word in opened.charts[0].data.marks}


async def test_a_run_is_duplicated_marked_and_deleted_on_its_screen(tmp_path):
    run = make(tmp_path, outcome="done")
    async with Opened(run, tmp_path) as opened:
        await opened.press("space")
        assert opened.app.selection.marked == {str(run.path): None}
        await opened.press("ctrl+d")
        await opened.until(lambda: isinstance(opened.app.screen, SetupScreen))
        assert opened.app.screen.draft.run.name == run.name and opened.app.screen.draft.forks is None
        await opened.press("escape")
        await opened.until(lambda: opened.app.screen is opened.screen)
        await opened.press("delete")
        await opened.until(lambda: not run.path.exists() and not opened.screen.is_attached)


async def test_a_finished_run_is_forked_with_more_epochs_and_evaluated(tmp_path):
    run, _ = training.train(tmp_path, training.config())
    before = run.events_path.read_bytes()
    async with Opened(run, tmp_path) as opened:
        await opened.press("full_stop", "f", "enter")
        await opened.until(lambda: isinstance(opened.app.screen, SetupScreen) and opened.app.screen.checked)
        form = opened.app.screen
        epochs = training.config().training.num_epochs
        assert form.checked.config.training.num_epochs == 2 * epochs
        assert form.command == f"convnn resume {run.path}/ --fork --num_epochs {2 * epochs}"
        await opened.press("f5")
        await opened.until(lambda: opened.app.launcher.launches and opened.app.launcher.launches[-1].ended, 60)
        forked = opened.app.launcher.launches[-1].run
        history = forked.history()
        assert forked.path != run.path and [epoch.epoch for epoch in history.epochs] == list(range(1, 2 * epochs + 1))
        assert run.events_path.read_bytes() == before
        while opened.app.screen is not opened.screen:
            await opened.press("escape")
        await opened.press("full_stop", "e", "enter")
        await opened.until(lambda: "test metrics" in opened.text, 90)  # a process that imports torch
        assert "top1" in opened.text


async def test_a_run_that_ended_early_goes_on_where_it_was(tmp_path):
    """It is shown on the same screen, with the seam."""
    run, _ = training.train(tmp_path, training.config(), commands=training.StopAt(3))
    async with Opened(run, tmp_path) as opened:
        await opened.press("full_stop")
        await opened.until(lambda: "resume" in opened.text and "the run is stopped" in opened.text.lower())
        await opened.press("enter")
        await opened.until(lambda: "done" in opened.text)
        assert "resumed in epoch 1" in opened.log
        assert {word for _, word in opened.charts[0].data.marks} >= {"resumed"}


async def test_a_run_that_was_stopped_and_runs_again_shows_both_in_its_log(tmp_path):
    run = make(tmp_path, outcome="stopped")
    event_log.append_event(run.events_path, events.Resumed(epoch=12, step=12 * STEPS))
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            await opened.until(lambda: "● running" in opened.text)
            assert "stopped after" in opened.log and "resumed in epoch 12" in opened.log


async def test_a_failed_run_says_why(tmp_path):
    run = make(tmp_path, outcome="failed", cause="RuntimeError: shapes [a] and [b] clash")
    async with Opened(run, tmp_path) as opened:
        assert "✗ failed" in opened.text
        assert "RuntimeError: shapes [a] and [b] clash" in opened.text


async def test_what_was_printed_is_shown_harmlessly(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path) as opened:
        await opened.until(lambda: "a library said" in opened.log)
        assert r"\x1b[31min red\x1b[0m [bold]and bold[/bold]" in opened.log


async def test_the_log_follows_its_end_until_somebody_scrolls_up(tmp_path):
    run = make(tmp_path, outcome="done")
    async with Opened(run, tmp_path) as opened:
        log = opened.screen.query_one(RichLog)
        log.focus()
        await opened.until(lambda: log.max_scroll_y > 0 and log.is_vertical_scroll_end)
        await opened.press("home")
        await opened.until(lambda: log.scroll_y == 0)
        with (run.path / "log.txt").open("a") as file:
            file.write("printed later\n")
        await opened.until(lambda: "printed later" in opened.log)
        assert log.scroll_y == 0
        await opened.press("end")
        await opened.until(lambda: log.is_vertical_scroll_end)


async def test_a_run_that_has_told_nothing_yet_has_no_blank_pane(tmp_path):
    run = make(tmp_path)
    run.events_path.unlink()
    (run.path / "log.txt").unlink()
    with lock_run(run.path):
        async with Opened(run, tmp_path) as opened:
            for word in (
                "loading the data",
                "waiting for the first step",
                "waiting for the first epoch",
                "known when",
                "prints",
            ):
                assert word in opened.text, word
            assert "num_epochs" in opened.text


async def test_a_run_that_died_before_its_first_step_is_not_waited_for(tmp_path):
    run = make(tmp_path)
    run.events_path.write_text(event_log.event_line(events_of(1)[0]) + "\n")
    async with Opened(run, tmp_path) as opened:
        await opened.until(lambda: "died" in opened.text)
        assert "was logged" in opened.text and "waiting" not in opened.text


async def test_a_run_that_ended_before_it_told_anything_is_not_waited_for(tmp_path):
    run = make(tmp_path)
    run.events_path.unlink()
    event_log.append_event(run.events_path, Finished(outcome="failed", cause="there is no such place", code=5))
    async with Opened(run, tmp_path) as opened:
        await opened.until(lambda: "✗ failed" in opened.text)
        assert "waiting" not in opened.text and "so far" not in opened.text
        for word in ("no loss", "no accuracy", "no learning rate", "no gradient norm", "ended before it started"):
            assert word in opened.text, word


async def test_a_long_name_leaves_the_state_and_the_view_in_sight(tmp_path):
    run = make(tmp_path, outcome="done")
    run.path.rename(long := tmp_path / f"20261122-150000-{'x' * 90}-3f2a")
    async with Opened(Run(long, long.name), tmp_path, (80, 24)) as opened:
        await opened.press("x", "y")
        await opened.until(lambda: "log y" in opened.text)
        assert "✓ done" in opened.text and "-3f2a" in opened.text and "by step" in opened.text


async def test_with_every_pane_hidden_it_says_what_to_press(tmp_path):
    async with Opened(make(tmp_path, outcome="done"), tmp_path, (80, 24)) as opened:
        assert "Every pane is hidden" not in opened.text
        await opened.press("1", "2", "3", "7")
        await opened.until(lambda: "Every pane is hidden: 1 to 9 and L show them." in opened.text)
        await opened.press("2")
        await opened.until(lambda: "2 loss" in opened.text and "Every pane" not in opened.text)


async def test_damage_is_said(tmp_path):
    run = make(tmp_path, outcome="done")
    run.config_path.write_text("[model\n")
    with run.events_path.open("a") as file:
        file.write("no event\n")
    async with Opened(run, tmp_path) as opened:
        await opened.until(lambda: "TOML:" in opened.text)  # one word: the lines break by the length of the path
        assert "events.jsonl: no event at byte" in opened.log


async def test_a_launch_is_shown_before_it_has_a_directory(tmp_path):
    launch = Launch(resolve(None, {"run.name": "mine"}).config)
    async with Opened(launch, tmp_path) as opened:
        await opened.until(lambda: "◌ queued" in opened.text and "mine" in opened.text)
        launch.error = UserError("there is no such device here")
        await opened.until(lambda: "there is no such device here" in opened.text and "✗ failed" in opened.text)
        launch.error, launch.run = None, make(tmp_path, outcome="done")
        await opened.until(lambda: "✓ done" in opened.text)


async def test_the_terminal_is_notified_once_of_the_end_of_a_long_run(tmp_path, monkeypatch):
    run, sequences = make(tmp_path, outcome="done"), []
    async with Opened(run, tmp_path) as opened:
        monkeypatch.setattr(opened.app._driver, "write", sequences.append)
        for seconds in (59.0, 61.0):
            ended = RunResult(Finished(outcome="done"))
            launch = Launch(resolve(None, {}).config, run=run, ended=ended, seconds=seconds)
            opened.app.launcher.launches.append(launch)
        opened.app._poll_launches()
        opened.app._poll_launches()
        opened.app.notifies = False
        opened.app.launcher.launches.append(replace(launch))
        opened.app._poll_launches()
    assert sum(f"{run.name} done" in sequence for sequence in sequences) == 1


async def test_a_bad_figure_is_a_gap_and_is_said(tmp_path):
    run = make(tmp_path, epochs=3)
    nan = float("nan")
    time = events_of(3)[-1].time + timedelta(seconds=1)
    event_log.append_event(
        run.events_path, Epoch(time=time, epoch=4, step=4 * STEPS, metrics={"train_loss": nan, "test_loss": nan})
    )
    event_log.append_event(
        run.events_path, Finished(time=time, outcome="diverged", cause="the loss is not finite", code=3)
    )
    async with Opened(run, tmp_path) as opened:
        await opened.until(lambda: "≈ diverged" in opened.text)
        assert "1 NaN in train" in opened.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_picture_of_the_run_screen(snap_compare, tmp_path, monkeypatch, size):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    run = make(tmp_path, outcome="stopped", cause="on request, after the epoch")

    async def look(pilot) -> None:
        screen = RunScreen(run)
        await pilot.app.push_screen(screen)
        while screen.history is None:
            await pilot.pause(0.02)
        await pilot.press("left", "left", "left", "left", "e")
        await pilot.pause(0.1)

    assert snap_compare(ConvnnApp(tmp_path), terminal_size=size, run_before=look)


@pytest.mark.parametrize("shorter", [False, True])
def test_a_history_that_an_editor_replaced_is_read_again(tmp_path, shorter):
    run = new(tmp_path, Started(host="a long name of a host"), epoch_event(1, 50.0))
    follower = RunFollower(run)
    assert len(follower.poll()) == 2
    copy = run.path / "copy"
    copy.write_text(run.events_path.read_text().replace("a long name of a host", "x" if shorter else "y" * 60))
    copy.replace(run.events_path)
    event_log.append_event(run.events_path, epoch_event(2, 60.0))
    assert [event.epoch for event in follower.poll()] == [2]
    assert [event.epoch for event in follower.history.epochs] == [1, 2] and not follower.history.skipped_lines
    assert follower.poll() == []


async def test_a_run_that_waits_for_its_slurm_job_says_so_and_the_job_can_be_canceled(tmp_path, monkeypatch):
    slurm = SlurmCommands(tmp_path / "bin", monkeypatch)
    (tmp_path / "runs").mkdir()
    run = make(tmp_path / "runs", outcome="interrupted")
    (run.path / "job.sh").touch()
    (run.path / "job.log").write_text("slurmstepd: error: DUE TO JOB REQUEUE\n")
    slurm.list_jobs(("7_1", "PENDING", run.path / "job.sh"), restarts=1)
    async with Opened(run, tmp_path / "runs") as opened:
        await opened.until(lambda: "↻ requeued" in opened.text)
        assert "DUE TO JOB REQUEUE" in opened.log
        await opened.press("full_stop", "enter")
        await opened.until(lambda: slurm.calls("scancel") == ["--quiet 7_1"])
