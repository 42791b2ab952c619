"""The README is held to the code: its tables are those the code makes, and its examples run."""

from __future__ import annotations

import re
import shlex

import pytest

from convnn.config import command_line
from convnn.presets import resolve, store
from scripts import handbook

TEXT = handbook.README.read_text()


def test_the_generated_parts_are_up_to_date():
    assert handbook.written(TEXT) == TEXT, "run: .venv/bin/python tests/handbook.py"


def test_every_command_that_is_shown_for_training_is_a_valid_one():
    shown = re.findall(r"^convnn run (.*?)(?:\s+#.*)?$", TEXT, flags=re.M)
    assert len(shown) >= 3
    for line in shown:
        parsed = command_line.parse(shlex.split(line))
        assert not parsed.unknown, line
        preset = store.read(parsed.preset) if parsed.preset else None
        assert not resolve.resolve(preset, parsed.typed).problems, line


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#:]+)\)", TEXT) + re.findall(r'src="([^":]+)"', TEXT))
def test_what_is_linked_is_there(name):
    assert (handbook.ROOT / name).exists()


def test_the_library_example_runs_as_it_stands(tmp_path, monkeypatch):
    example = re.search(r"<!-- example: layers -->\n```python\n(.*?)```", TEXT, flags=re.S)
    assert example
    exec(compile(example[1], "README.md", "exec"), {})
