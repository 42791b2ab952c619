"""What is printed while the app draws goes into a log, by whatever means it is printed."""

from __future__ import annotations

import pytest
from support.terminal import Program

PRINTING = """
import ctypes, os, subprocess, sys
from pathlib import Path
from tui.process.descriptors import Terminal
with Terminal() as terminal:
    os.write(2, b"before any run\\n")
    with terminal.redirect_to(Path(sys.argv[1])):
        print("by Python")
        print("by Python, on stderr", file=sys.stderr)
        libc = ctypes.CDLL(None)
        libc.puts(b"by C code")
        libc.fflush(None)
        subprocess.run(["sh", "-c", "echo by a child >&2"])
    os.write(1, b"after the run\\n")
    print("drawn", file=sys.__stderr__, flush=True)
print("at the end")
"""


@pytest.fixture
def printed(tmp_path):
    """(log.txt, what was drawn) of a program that prints in many ways."""
    program = Program("-c", PRINTING, tmp_path / "log.txt")
    try:
        assert program.wait() == 0
        program.until(lambda: "at the end" in program.text, "the end")
        yield (tmp_path / "log.txt").read_text(), program.text
    finally:
        program.close()


def test_prints_of_python_c_code_and_children_land_in_the_log_and_never_on_the_screen(printed):
    log, drawn = printed
    lines = ["before any run", "by Python", "by Python, on stderr", "by C code", "by a child"]
    assert sorted(log.splitlines()) == sorted(lines)
    assert not any(line in drawn for line in lines)
    assert "drawn" in drawn
