"""The collector is off for as long as much is made that stays, and as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from convnn.gc_pause import gc_paused


@pytest.fixture(autouse=True)
def collecting():
    gc.enable()
    yield
    gc.enable()


def test_nothing_is_collected_inside_and_again_afterwards():
    with pytest.raises(KeyError), gc_paused():
        assert not gc.isenabled()
        with gc_paused():
            pass
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_imported_modules_are_never_looked_through_again():
    sys.modules.pop("this_is_new", None)
    with gc_paused():
        imported = [[] for _ in range(1000)]
        sys.modules["this_is_new"] = sys
    del sys.modules["this_is_new"]
    assert not any(candidate is imported for candidate in gc.get_objects())


def test_garbage_is_not_frozen_where_nothing_was_imported():
    with gc_paused():
        created = [[] for _ in range(1000)]
    assert any(candidate is created for candidate in gc.get_objects())


def collected_while_imported(statement: str) -> str:
    """Whether the collector ran while the command line was imported by a statement, and whether it is on afterwards."""
    code = (
        "import gc, sys; seen = []; sys.argv = ['convnn', '--version']\n"
        "gc.callbacks.append(lambda *_: seen.append(not hasattr(sys.modules.get('convnn.cli', sys), 'main')))\n"
        "sys.main = None  # before the import begins nothing counts\n"
        f"{statement}\n"
        "try: main()\n"
        "except SystemExit: print(any(seen), gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_the_command_is_imported_with_the_collector_paused():
    assert collected_while_imported("from convnn.cli import main") == "True True"  # what it is without
    assert collected_while_imported("from convnn.__main__ import main") == "False True"
