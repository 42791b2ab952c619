"""The collector is off for as long as much is made that stays, and as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from convnn.uncollected import uncollected


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


def test_the_command_is_imported_uncollected_and_then_collects():
    code = (
        "import gc, sys; before = gc.get_stats()[2]['collections']; sys.argv = ['convnn', '--version']\n"
        "from convnn.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(gc.isenabled(), gc.get_stats()[2]['collections'] - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True 0"
