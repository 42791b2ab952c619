"""The walks and pictures of the documentation are what their script writes, and need nothing from elsewhere."""

from __future__ import annotations

import re

import pyte
import pytest

from scripts import generate_docs, walk
from scripts.screen import EmulatedProgram, plain
from scripts.svg import svg


def screen(text: bytes) -> pyte.Screen:
    emulated = pyte.Screen(12, 2)
    pyte.ByteStream(emulated).feed(plain(text))
    return emulated


def test_modes_and_questions_to_the_terminal_leave_no_letters_on_the_screen():
    assert screen(b"\x1b[>25u\x1b[?2026$p\x1b[?1049h\x1b[<ua\x1b[1;3Hb").display[0].rstrip() == "a b"


def test_a_picture_has_the_text_and_the_colors_of_the_screen_and_no_address():
    picture = svg(screen(b"\x1b[1;38;2;90;169;230mK\x1b[0m is 40"), "convnn")
    assert "#5aa9e6" in picture
    assert ">K<" in picture
    assert ">is<" in picture  # words stand on their own cells: not every viewer keeps the spaces between them
    assert ">convnn<" in picture
    assert addresses(picture) == {"http://www.w3.org/2000/svg"}


def test_a_walk_is_read_as_it_was_written():
    text = walk.step_text(1, "one", " a\n  b") + "\n" + walk.step_text(2, "two", "c\n\nd\n")
    assert generate_docs.walk_steps(text) == {1: ("one", " a\n  b"), 2: ("two", "c\n\nd")}


@pytest.mark.parametrize("name", ["home", "setup", "live"])
def test_the_pictures_need_nothing_from_elsewhere(name):
    assert addresses((walk.DOCS / f"{name}.svg").read_text()) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize(("columns", "rows"), walk.SIZES)
def test_the_walks_have_every_step_on_a_screen_of_their_size(columns, rows):
    steps = generate_docs.walk_steps((walk.DOCS / f"walk-{columns}x{rows}.txt").read_text())
    assert [caption for caption, _ in steps.values()][:-1] == [step.caption for step in walk.steps()]
    for _, screen_text in steps.values():
        assert len(screen_text.splitlines()) <= rows
        assert max(map(len, screen_text.splitlines())) <= columns


def test_a_program_is_waited_for_by_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.screen.PATIENCE", 0.0)
    program = EmulatedProgram("-c", "print('ready')", size=(20, 3), folder=tmp_path)
    try:
        program.process.wait()
        with pytest.raises(TimeoutError, match="waited for 'never'"):
            program.wait_for("never")
    finally:
        program.close()


def addresses(text: str) -> set[str]:
    return set(re.findall(r"\w+://[^\s\"')]+", text))
