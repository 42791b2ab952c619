"""What reaches the terminal: never a control character from outside, and only ASCII where it shows no more."""

from __future__ import annotations

import logging

import pytest
from support import old_results
from support.runs import epoch, new

from convnn.cli.app import COMMANDS
from convnn.events import Finished, Noted, Resumed, Started, Warned
from convnn.runs.event_log import append_event
from convnn.worker.run_log import logged

# escape sequences, a bell, a C1 control, a bidirectional override, a line break; and letters outside ASCII
HOSTILE = "é漢\x1b[2J\x1b]0;x\x07\x9b31m\u202e\r\nerror: x"


@pytest.fixture
def convnn(in_process, tmp_path, monkeypatch):
    """Run a command in a directory where every name, note and message is hostile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    for index in (1, 2):
        run = new(tmp_path / "runs", Started(device=HOSTILE, host=HOSTILE, classes=(HOSTILE,)), epoch(1, 50.0 + index))
        for event in (
            Warned(message=HOSTILE),
            Noted(text=HOSTILE, by=HOSTILE),
            Resumed(epoch=1, step=1, note=HOSTILE),
        ):
            append_event(run.events_path, event)
        append_event(run.events_path, Finished(outcome="stopped", cause=HOSTILE))
        (run.path / "config.toml").write_text(
            '[layer]\nK = 5\n[run]\nname = "\\u001b[2J"\n"\\u009b" = "\\u009b"\n["x\\nerror: x"]\n"y\\nerror: x" = 1\n'
        )
        run.path.rename(run.path.with_name(f"2026010{index}-000000-{HOSTILE.replace('/', '')}"))
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / f"{HOSTILE}.toml").write_text('about = "\\u001b[2J\\u202e"\n[layer]\n"\\u001b[2J" = 1\n')
    (tmp_path / "presets" / "escapes.toml").write_text(
        'about = "\\u001b[2J\\u202e"\n[data]\ndataset = "folder"\npath = "\\u009b"\n'
    )
    old_results.directory(tmp_path / "old" / HOSTILE, old_results.epoch(1, 40.0) + HOSTILE)
    return in_process


ANY = "@last"
LINES = {
    "run": [[HOSTILE], ["--dataset", HOSTILE], ["--data_path", HOSTILE, "--dry-run"], [f"--{HOSTILE}"], ["escapes"]],
    "tui": [[], [HOSTILE]],
    "resume": [[HOSTILE], [ANY, "--K", HOSTILE], [ANY, "--seed", "3"]],
    "stop": [[ANY], [HOSTILE]],
    "show": [[ANY], [ANY, "--all"], [ANY, "--json"], [ANY, "--follow"], [HOSTILE]],
    "queue": [[], ["move", "9", "1"], ["remove", HOSTILE]],
    "sweep": [
        ["check", HOSTILE],
        ["check", "escapes"],
        ["check", "k", "--K", HOSTILE],
        ["check", f"{HOSTILE}.toml"],
        ["commands", HOSTILE],
        ["train", HOSTILE, "1"],
    ],
    "work": [["--once"], [f"--{HOSTILE}"]],
    "evaluate": [[ANY], [HOSTILE], *([ANY, flag, HOSTILE] for flag in ("--checkpoint", "--split", "--sort"))],
    "inspect": [[ANY], [HOSTILE], [ANY, "--layer", HOSTILE], [ANY, "--image", HOSTILE], [ANY, "--out", HOSTILE]],
    "note": [[ANY, HOSTILE]],
    "tag": [[ANY, HOSTILE], [ANY, HOSTILE, "--remove"]],
    "runs": [[], [HOSTILE], ["--columns", HOSTILE], ["--group", "layer.K"]],
    "compare": [[ANY, "@2"], [ANY, HOSTILE]],
    "table": [["--rows", "K", "--unfinished"], ["--rows", HOSTILE]],
    "plot": [
        ["--out", "a.svg"],
        [HOSTILE, "--out", "b.svg"],
        [ANY, "--out", HOSTILE],
        [ANY, "--out", "c.svg", "--x", HOSTILE],
    ],
    "import": [["old"], [HOSTILE], [f"old/{HOSTILE}/args.txt"]],
    "export": [[ANY], [HOSTILE, "--csv"]],
    "rm": [["--where", "K=5", "--dry-run"], [HOSTILE], [ANY], ["--undo"]],
    "presets": [
        [],
        ["check"],
        ["show", HOSTILE],
        ["show", "escapes"],
        ["copy", "escapes", "new"],
        ["copy", HOSTILE, "x"],
    ],
    "summary": [[HOSTILE], ["escapes"], ["--layer", HOSTILE]],
    "lr-range": [[HOSTILE], ["escapes"], ["--layer", HOSTILE], ["--min_lr", HOSTILE]],
    "doctor": [[f"--{HOSTILE}"]],  # trying the compiler takes minutes
    "verify-resume": [[HOSTILE], ["--layer", HOSTILE]],
}
DATA = [
    *(["runs", "--format", format] for format in ("csv", "md", "latex", "json")),
    ["export", ANY, "@2", "--csv"],
    ["export", ANY, "@2", "--json"],
]


def only_printable(text: str) -> bool:
    return text.replace("\n", "").isprintable() and "\nerror: x" not in text


def test_every_command_has_lines_to_try():
    assert LINES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", LINES)
def test_no_control_character_from_outside_reaches_the_terminal(command, convnn):
    for words in LINES[command]:
        _, out, err = convnn(command, *words)
        assert only_printable(out + err), (words, out, err)


@pytest.mark.parametrize("words", DATA, ids=" ".join)
def test_data_for_other_programs_has_no_control_character_and_is_utf8_in_any_locale(words, convnn, monkeypatch):
    _, out, _ = convnn(*words)
    assert only_printable(out)
    monkeypatch.setenv("LC_ALL", "C")
    assert convnn(*words)[1] == out


@pytest.mark.parametrize("command", LINES)
def test_a_terminal_of_the_c_locale_gets_nothing_but_ascii(command, convnn, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    for words in [["--help"], *LINES[command]]:
        _, out, err = convnn(command, *words)
        assert (out + err).isascii(), (words, out, err)


def test_the_log_of_a_run_has_no_control_character_from_outside(tmp_path):
    with logged(tmp_path):
        logging.getLogger("convnn").error("%s: a line", HOSTILE)
    assert (tmp_path / "log.txt").read_text().replace("\n", "").isprintable()
