"""SIGKILL anywhere: resume works, and the finished run has the weights and the trace of the undisturbed one."""

from __future__ import annotations

import random

import pytest
from support import killing, training
from support.processes import Command, convnn

from convnn.worker.crash_points import POINTS, VARIABLE

SEED = 7
RICH = killing.CONFIGURATIONS["rich"]
# every place but two is reached once an epoch: the second time there is an earlier checkpoint to fall back on
ONCE = [f"{point}:1" for point in POINTS if point.startswith("run.")]
PLACES = ONCE + [f"{p}:{n}" for p in POINTS for n in (1, 2) if f"{p}:1" not in ONCE and p != "checkpoint.replaced"]
SAMPLED = killing.sample(PLACES, 3, SEED)
ALONE = [name for name in killing.CONFIGURATIONS if name not in ("plain", "rich")]

torture = pytest.mark.torture


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return killing.undisturbed(tmp_path_factory.mktemp("undisturbed"), RICH)


@pytest.fixture(scope="module")
def duration(whole):
    """Seconds from the first event of the undisturbed run to its last one."""
    events = training.recorded_events(whole)
    return (events[-1].time - events[0].time).total_seconds()


@pytest.mark.parametrize("place", [p if p in SAMPLED else pytest.param(p, marks=torture) for p in PLACES])
def test_killed_at_a_named_point(tmp_path, whole, place):
    killing.kill_at(tmp_path, RICH, place)
    killing.check(killing.only_run(tmp_path), whole)


def test_killed_while_a_checkpoint_of_the_same_step_is_exchanged(tmp_path, whole):
    steps = training.recorded_events(whole)[0].steps_per_epoch
    run, ended = training.train(tmp_path / "runs", training.config(RICH), commands=training.StopAt(steps + 1))
    assert ended.finished.outcome == "stopped"
    killed = convnn("resume", cwd=tmp_path, **{VARIABLE: "checkpoint.replaced"})
    assert killed.code == -9, killed
    killing.finish(tmp_path)
    killing.check(run, whole)


@pytest.mark.parametrize("turn", [0, *(pytest.param(n, marks=torture) for n in range(1, 50))])
def test_killed_at_a_random_time(tmp_path, whole, duration, turn):
    resumed = killing.kill_after(tmp_path, RICH, random.Random(f"{SEED}/{turn}").uniform(0, duration))
    killing.check(killing.only_run(tmp_path), whole, clean=resumed)


@torture
def test_killed_ten_times_in_one_run(tmp_path, whole):
    killed = convnn("run", *killing.arguments(RICH), cwd=tmp_path, **{VARIABLE: "step:2"})
    for turn in range(9):
        place = ("checkpoint.manifest", "epoch.logged", f"step:{turn}", "checkpoint.renamed", "run.logged")[turn % 5]
        killed = convnn("resume", cwd=tmp_path, **{VARIABLE: place})
        if killed.code == 0:
            break
        assert killed.code == -9, killed
    if killed.code != 0:
        killing.finish(tmp_path)
    killing.check(killing.only_run(tmp_path), whole)


CHECKPOINT_PLACES = [place for place in PLACES if place.startswith("checkpoint.") or place == "epoch.saved:2"]


@pytest.mark.parametrize(
    "place", [p if p == "checkpoint.optimizer:2" else pytest.param(p, marks=torture) for p in CHECKPOINT_PLACES]
)
def test_killed_while_a_checkpoint_is_written_as_that_of_a_gpu(tmp_path, whole, place):
    arguments = ["run", *killing.arguments(RICH), "--plain"]
    killed = Command(arguments, tmp_path, {VARIABLE: place}, before=killing.write_in_background).wait()
    assert killed.code == -9, killed
    killing.finish(tmp_path)
    killing.check(killing.only_run(tmp_path), whole)


@torture
@pytest.mark.parametrize("name", ALONE)
def test_each_source_of_difference_alone(tmp_path, name):
    options = killing.CONFIGURATIONS[name]
    whole = killing.undisturbed(tmp_path, options)
    killing.kill_at(tmp_path, options, "epoch.saved")
    killing.check(killing.only_run(tmp_path), whole)


def test_the_thread_of_the_app_computes_what_the_command_does(tmp_path, whole):
    from tui.process.launcher import Launcher

    launcher = Launcher(tmp_path / "runs")
    launch = launcher.launch(training.config(RICH))
    assert launcher.wait(120)
    assert launch.run is not None and launch.error is None
    killing.check(launch.run, whole)
