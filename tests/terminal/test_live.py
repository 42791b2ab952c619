"""A run text while it trains: drawn in place, as plain lines, and as JSON."""

import io
import json
import math
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from convnn.events import Epoch, Finished, Noted, Paused, Resumed, Saved, Started, Step, Warned
from convnn.runs.event_log import event_line
from convnn.runs.history import History
from convnn.terminal import report
from convnn.terminal.console import EscapingConsole, draws_in_place
from convnn.terminal.live import FOLLOW_HINT, LiveView, _bar_lines, run_view
from convnn.terminal.panes import RunReport
from convnn.terminal.report import ProgressBar, epoch_line, outcome_sentence
from convnn.text import duration

HOSTILE = "\x1b[2J\x1b]0;x\x07[bold]run[/bold]"


def story(epochs=3, of=150, per=196, finished=True):
    """The events of a run whose epochs take 24.4 s each."""
    time, events = datetime(2026, 1, 1, tzinfo=UTC), []
    events.append(Started(time=time, device="cpu", threads=2, parameters=1234567, epochs=of, steps_per_epoch=per))
    for epoch in range(1, epochs + 1):
        for step in (per // 2, per):
            time += timedelta(seconds=10.7)
            now = (epoch - 1) * per + step
            events.append(Step(time=time, epoch=epoch, step=now, loss=2 / epoch, lr=3e-4, images_per_s=2312.0))
        time += timedelta(seconds=3)
        metrics = {
            "train_loss": 0.812 / epoch,
            "train_top1": 71.4,
            "test_loss": 0.9,
            "test_top1": 69.9 - (epoch - 2) ** 2,
        }
        metrics |= {"lr": 3e-4, "train_s": 21.4, "eval_s": 3.0, "peak_bytes": 1.2e9}
        events.append(Epoch(time=time, epoch=epoch, step=epoch * per, metrics=metrics))
        events.append(Saved(time=time, step=epoch * per, path="checkpoints/x"))
    return [*events, Finished(time=time, outcome="done", code=0)] if finished else events


def recorded(width, height, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    console = EscapingConsole(width=width, height=height, force_terminal=True, file=file, color_system="truecolor")
    return console, lambda: file.buffer.getvalue().decode(encoding)


def lines_of(live):
    return [
        "".join(segment.text for segment in row)
        for row in live.console.render_lines(live.frame(), live.console.options, pad=False)
    ]


@pytest.mark.parametrize("width", [60, 72, 80, 100, 200])
@pytest.mark.parametrize("seconds", [0.1, 41.3, 3599, 7.3e4, 4.3e6])
@pytest.mark.parametrize("epochs", [150, 300_000])
def test_the_time_left_is_never_cut_and_both_bars_are_of_one_length(width, seconds, epochs):
    eta = f"eta {duration(seconds)}"
    notes = [f"{duration(seconds * 1.7)} so far", eta]
    bars = ProgressBar("epoch", 3, epochs, 0.02, notes), ProgressBar("step", 12, 196, 0.06, ["2312 images/s"])
    lines = _bar_lines(bars, width)
    assert all(line.cell_len <= width for line in lines) and lines[0].plain.endswith(eta)
    assert len({sum(sign in "━─" for sign in line.plain) for line in lines}) == 1


@pytest.mark.parametrize(("width", "system"), [(120, True), (113, False), (120, None)])
def test_the_utilization_is_a_third_pane_where_there_is_room_and_a_value(width, system):
    events = [
        event.model_copy(update={"system": {"cpu_util": 90.0}})
        if isinstance(event, Step) and system is not None
        else event
        for event in story()
    ]
    lines = lines_of(LiveView("x", history=History(events), console=recorded(width, 40)[0]))
    assert any("utilization, %" in line and "loss" in line for line in lines) == bool(system)
    assert all(len(line) <= width for line in lines) and len(lines) < 40


def test_the_last_line_says_what_ctrl_c_does_to_a_run_that_is_only_followed():
    history = History(story(finished=False))
    view = LiveView("x", history=history, console=recorded(80, 24)[0], hint=FOLLOW_HINT)
    assert lines_of(view)[-1].strip() == FOLLOW_HINT
    assert "stops after this step" in lines_of(LiveView("x", history=history, console=recorded(80, 24)[0]))[-1]


@pytest.mark.parametrize(("width", "height"), [(60, 15), (80, 24), (120, 40), (200, 60)])
def test_the_frame_fits_the_terminal_and_shows_the_run(width, height):
    live = LiveView("run-3f2a", "vgg11 Branching", history=History(story()), console=recorded(width, height)[0])
    rows = lines_of(live)
    text = "\n".join(rows)
    assert len(rows) < height and max(map(len, rows)) <= width
    for words in ("✓ done", "run-3f2a", "3/150", "196/196", "╭─ loss", "╭─ accuracy"):
        assert words in text
    assert "best on test 69.9 % at epoch 2" in text and "lr 3.0e-4" in text
    assert width < 80 or ("1.1 GiB peak" in text and "cpu, 2 threads" in text)


def test_speed_and_remaining_time_are_shown_while_the_run_trains():
    for finished in (False, True):
        console = recorded(80, 24)[0]
        text = "\n".join(lines_of(LiveView("r", history=History(story(finished=finished)), console=console)))
        assert ("2312 images/s" in text, "eta " in text) == (not finished, not finished)


def test_narrow_and_high_stacks_the_panes():
    rows = lines_of(LiveView("r", history=History(story()), console=recorded(66, 40)[0]))
    assert [row.startswith("╭") for row in rows].count(True) == 2


def feed(view, event):
    """What whoever trains or follows a run does with each event."""
    view.history.fold([event])
    view.show(event)


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (1, 1), (20, 5)])
def test_a_terminal_too_small_for_curves_gets_lines(size):
    rows = lines_of(LiveView("r", history=History(story()), console=recorded(*size)[0]))
    assert "╭" not in "".join(rows) and len(rows) <= max(1, size[1] - 1)


def test_nothing_is_blank_before_the_first_event():
    text = "\n".join(lines_of(LiveView("r", console=recorded(80, 24)[0])))
    assert "loading the data" in text and "waiting for the first step" in text


def test_text_from_outside_is_shown_and_never_obeyed():
    console, written = recorded(80, 24)
    with LiveView(HOSTILE, HOSTILE, console=console) as live:
        for event in [*story(1, finished=False), Warned(message=HOSTILE), Finished(outcome="failed", cause=HOSTILE)]:
            feed(live, event)
    text = written()
    assert "[bold]run[/bold]" in text and "\\x1b[2J" in text
    assert "\x1b[2J" not in text and "\x07" not in text


def test_the_last_frame_stays_and_the_terminal_is_restored_after_an_exception():
    console, written = recorded(80, 24)
    with pytest.raises(RuntimeError), LiveView("r", console=console) as live:
        for event in story(2, finished=False):
            feed(live, event)
        raise RuntimeError
    text = written()
    assert "\x1b[?25l" in text and text.rindex("\x1b[?25h") > text.rindex("2/150")
    assert "\x1b[?1049h" not in text  # never the alternate screen


def test_frames_are_few_however_many_events_come():
    console, written = recorded(80, 24)
    with LiveView("r", console=console) as live:
        for step in range(1, 400):
            feed(live, Step(epoch=1, step=step, loss=1.0))
    assert written().count("╭─ loss") < 100


def test_ascii_terminals_get_ascii_only():
    history = History([*story(), Warned(message="ü")])
    console, written = recorded(80, 24, "ascii")
    with LiveView("rün", "é", history=history, console=console):
        pass
    assert "r\\xfcn" in written() and "+ done" in written()


@pytest.mark.parametrize(
    ("terminal", "flags", "environment", "expected"),
    [
        (True, {}, {}, True),
        (False, {}, {}, False),
        (True, {"plain": True}, {}, False),
        (True, {}, {"CI": "true"}, False),
        (True, {"live": True}, {"CI": "true"}, True),
        (False, {"live": True}, {}, False),
        (True, {}, {"TERM": "dumb"}, False),
    ],
)
def test_drawing_needs_a_terminal_and_nobody_who_asks_for_lines(terminal, flags, environment, expected):
    assert draws_in_place(terminal=terminal, environment=environment, **flags) is expected


def test_plain_lines_are_exact(capsys):
    with run_view("r", "vgg11", plain=True) as view:
        for event in story():
            feed(view, event)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "started  r  vgg11  1,234,567 parameters  cpu, 2 threads  196 steps/epoch",
        "epoch 1/150  loss 0.812  top1 71.4  test 68.9  lr 3.0e-4  21.4 s + 3.0 s  eta 1 h 1 m",
        "epoch 2/150  loss 0.406  top1 71.4  test 69.9  lr 3.0e-4  21.4 s + 3.0 s  eta 1 h",
        "epoch 3/150  loss 0.271  top1 71.4  test 68.9  lr 3.0e-4  21.4 s + 3.0 s  eta 1 h",
        "done  best on test 69.9 % at epoch 2  1 m",
    ]
    assert err == ""


def test_plain_puts_talk_on_stderr(capsys):
    view = run_view(HOSTILE, plain=True)
    for event in (Warned(message=HOSTILE), Paused(epoch=2, step=9), Resumed(epoch=2, step=9, note=HOSTILE)):
        feed(view, event)
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 3 and "\x1b" not in err
    assert err.splitlines()[1] == "paused in epoch 2, after step 9"


@pytest.mark.parametrize("cause", ["on request", "on request, after the epoch", "asked to stop after the step"])
def test_a_requested_stop_is_one_sentence(cause):
    event = Finished(outcome="stopped", cause=cause)
    assert outcome_sentence(event, 17.6) == "stopped on request after 17.6 s"
    assert outcome_sentence(event) == "stopped on request"


def test_a_note_is_a_note_in_every_view():
    event = Noted(text="lr was too high")
    assert report.event_line(event, History([event]))[0] == "note: lr was too high"
    assert "note: lr was too high" in printed(RunReport("r", "done", {}, History([event])))


def test_a_diverged_epoch_says_so_in_its_line():
    event = Epoch(epoch=1, step=1, metrics={"train_loss": math.nan, "test_top1": 10.0})
    assert epoch_line(event, History([event])) == "epoch 1  loss NaN  test 10.0"


def test_json_lines_are_the_events(capsys):
    events = [*story(1), Warned(message="x")]
    with run_view("r", json=True) as view:
        for event in events:
            view.show(event, event_line(event))
    out, err = capsys.readouterr()
    assert out.splitlines() == [event_line(event) for event in events] and err == ""
    assert [json.loads(row)["event"] for row in out.splitlines()][-1] == "Warned"


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_reader_that_goes_away_does_not_end_the_run(kind):
    reader, writer = os.pipe()
    os.close(reader)
    code = (
        "from convnn.terminal.live import run_view; from convnn.events import Warned, Epoch\n"
        f"with run_view('r', {kind}=True) as view:\n"
        "    for i in range(3): view.show(Epoch(epoch=1 + i, step=1 + i, metrics={}))\n"
        "raise SystemExit(5)"
    )
    ended = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert ended.returncode == 5
    assert ended.stderr == "stdout is closed (Broken pipe); the run continues\n"


def test_drawing_a_run_does_not_load_torch():
    code = (
        "import sys, convnn.terminal.live\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'textual', 'typer', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


CONFIG = {"layer": {"K": 5, "type": "ConvNN"}, "run": {"name": HOSTILE, "tags": []}, "training": {"seed": 0}}


def printed(report, encoding="utf-8"):
    console, written = recorded(80, 24, encoding)
    console.no_color = True
    console.print(report)
    return re.sub(r"\x1b\[[0-9;]*m", "", written())


def test_the_report_names_what_differs_from_the_defaults():
    text = printed(RunReport(HOSTILE, "done", CONFIG, History(story())))
    assert "✓ done" in text and "K 5" in text and "best on test 69.9 % at epoch 2" in text and "╭─ loss" in text
    assert "seed" not in text and "tag " not in text and "\x1b" not in text and "[bold]run[/bold]" in text


def test_the_report_has_all_options_where_everything_is_requested_in_ascii_too():
    text = printed(RunReport("r", "died", CONFIG, History(story()), everything=True), "ascii")
    assert "! died" in text and text.index("K 5") < text.index("seed 0") and "tag none" in text


@pytest.mark.parametrize("status", ["running", "failed", "died", "interrupted"])
def test_a_run_without_an_epoch_has_a_report(status):
    assert status in printed(RunReport("r", status, {}, History([Finished(outcome="failed", cause="OSError: disk")])))
