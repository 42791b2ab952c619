"""What the real shells do with TAB: names of strangers are never run, and the words of the program are completed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import sys
import time
from pathlib import Path

import pytest
from support.runs import epoch, new
from typer._completion_shared import get_completion_script

from convnn.cli.shell_completion import is_offered
from convnn.events import Finished, Started

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
HOSTILE = [
    "x$(touch owned)",
    "x`touch owned`",
    "x';touch owned;'",
    'x";touch owned;"',
    "x\\$(touch owned)",
    "--x",
    "~x",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with runs, some of strangers, and a `convnn` on the PATH."""
    monkeypatch.chdir(tmp_path)
    run = new(tmp_path / "runs", Started(), epoch(1, 50.0), Finished(outcome="done"))
    run.path.rename(run.path.with_name("20260101-000000-mine-1a2b"))
    for name in HOSTILE:
        shutil.copytree(tmp_path / "runs" / "20260101-000000-mine-1a2b", tmp_path / "runs" / name)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "convnn").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m convnn "$@"\n')
    (folder / "convnn").chmod(0o755)
    repository = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


class Shell:
    """An interactive shell in a pseudo-terminal with the completion of convnn installed."""

    def __init__(self, name: str, place: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        script = get_completion_script(prog_name="convnn", complete_var="_CONVNN_COMPLETE", shell=name)
        (place / "script").write_text(script)
        process, self.terminal = pty.fork()
        if process == 0:
            os.environ |= {"TERM": "dumb", "PS1": "$ ", "COLUMNS": "200"}
            os.execvp(SHELLS[name][0], SHELLS[name])
        if name == "zsh":
            self.send("autoload -Uz compinit; compinit -u; unsetopt PROMPT_SP\r")
        self.send(f"source {place / 'script'}; echo rea''dy\r")
        self.until("ready")

    def send(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def until(self, text: str, seconds: float = 20) -> str:
        """Return what was drawn until a text appears, or for so many seconds."""
        drawn, end = "", time.monotonic() + seconds
        while text not in drawn and time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                drawn += os.read(self.terminal, 1 << 16).decode("utf-8", "replace")
        assert text in drawn, drawn
        return drawn

    def clear_line(self) -> None:
        """Discard what was typed, and wait until a command was run after that."""
        self.send("\x15echo cle''ared\r")
        self.until("cleared")

    def close(self) -> None:
        os.close(self.terminal)


@pytest.mark.parametrize(
    "name", [name if name == "bash" else pytest.param(name, marks=pytest.mark.torture) for name in SHELLS]
)
def test_a_shell_completes_names_and_runs_nothing_that_a_name_holds(name, place):
    shell = Shell(name, place)
    try:
        for typed, completed in [
            ("convnn show 2026", "20260101-000000-mine-1a2b"),
            ("convnn show @l", "@last"),
            ("convnn show @best:val_l", "@best:val_loss"),
            ("convnn run --layer=Branching_", "--layer=Branching_Attn"),
            ("convnn run --layer Branching_", "--layer Branching_Attn"),
            ("convnn runs 'K>=9 statu", "'K>=9 status="),
            ("convnn show ", "mine-1a2b"),
        ]:
            shell.send(f"{typed}\t")
            shell.until(completed[len(typed.split(" ")[-1]) :])
            shell.clear_line()
        for typed in ("convnn show x", "convnn show ~"):
            shell.send(f"{typed}\t\t")
            shell.clear_line()
        assert not list(place.rglob("owned"))
    finally:
        shell.close()


@pytest.mark.parametrize("name", [*HOSTILE, "a b", "a*", "a\nb", "a\x1b[2J", "", "é", "a'b", "x" * 400])
def test_words_that_need_quotes_are_not_offered(name):
    assert not is_offered(name) or name == "--x"  # a flag; names of runs are asked to begin otherwise


@pytest.mark.parametrize("name", ["a$(b)", "a`b`", "a'b", 'a"b', "a\\b", "a!b", "a\nb", "a;b", "a&b", "a|b"])
def test_within_quotes_only_what_no_quotes_interpret_is_offered(name):
    assert not is_offered(name, in_quotes=True)
    assert is_offered("layer=ConvNN K>=9 (seed<3)", in_quotes=True)
