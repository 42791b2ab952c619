"""The collector is off for as long as much is made that stays, and as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from convnn.gc_pause import uncollected


@pytest.fixture(autouse=True)
def collecting():
    gc.enable()
    yield
    gc.enable()


def test_nothing_is_collected_inside_and_again_afterwards():
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_modules_are_never_looked_through_again():
    with uncollected(modules=True):
        made = [[] for _ in range(1000)]
    assert any(each is made for each in gc.get_objects())  # as nothing was imported
    sys.modules.pop("this_is_new", None)
    with uncollected(modules=True):
        sys.modules["this_is_new"] = sys
    try:
        with uncollected():
            later = [[] for _ in range(1000)]
        assert not any(each is made for each in gc.get_objects())
        assert any(each is later for each in gc.get_objects())
    finally:
        gc.unfreeze()
        del sys.modules["this_is_new"]


def test_the_last_of_several_blocks_lets_it_collect_again():
    first, second = uncollected(), uncollected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


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


def test_the_command_is_imported_uncollected_and_then_collects():
    assert collected_while_imported("from convnn.cli import main") == "True True"  # what it is without
    assert collected_while_imported("from convnn.__main__ import main") == "False True"
