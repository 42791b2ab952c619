"""What a message says to type is typed, from another folder than that of the runs: it works, or the fault is gone."""

from __future__ import annotations

import shlex
import shutil

import pytest
from support import killing, training
from support.processes import Command, Result, convnn, until

from convnn.errors import Exit
from convnn.runs.find import list_runs
from convnn.runs.run import Run

LONG = training.SMALL | {"num_epochs": 5000, "checkpoint_epochs": 5000}


def pasted(stderr: str, tmp_path, *more: str) -> Result:
    """Run the last command that was named."""
    line = next(line for line in reversed(stderr.splitlines()) if "convnn " in line)
    folder = tmp_path / "another folder"
    folder.mkdir(exist_ok=True)
    return convnn(*shlex.split(line[line.index("convnn ") :])[1:], *more, cwd=folder)


def stopped(root) -> Run:
    return training.train(root, training.config(), commands=training.StopAt(3))[0]


def test_a_run_in_a_folder_with_a_space_goes_on(tmp_path):
    words = ["run", *killing.arguments(training.SMALL), "--runs", tmp_path / "my runs", "--plain"]
    ended = convnn(*words, "--max-minutes", "0.0001", cwd=tmp_path)
    assert ended.code == Exit.TIME_LIMIT
    assert pasted(ended.err, tmp_path).code == Exit.DONE
    assert list_runs(tmp_path / "my runs")[0][0].status() == "done"


def test_a_run_that_is_held_elsewhere_is_stopped_as_the_refusal_says(tmp_path):
    command = Command(["run", *killing.arguments(LONG), "--runs", tmp_path / "a b", "--plain"], tmp_path)
    until(lambda: any(b'"Step"' in path.read_bytes() for path in tmp_path.glob("a b/*/events.jsonl")))
    run = list_runs(tmp_path / "a b")[0][0]
    refused = convnn("resume", f"{run.path}/", cwd=tmp_path)
    assert refused.code == Exit.HELD and "continuing" not in refused.err
    assert pasted(refused.err, tmp_path).code == Exit.DONE
    assert command.wait().code == Exit.DONE
    assert run.status() == "stopped"


def test_a_changed_configuration_is_forked_as_the_refusal_says(tmp_path):
    run = stopped(tmp_path / "a b")
    refused = convnn("resume", f"{run.path}/", "--lr", "0.01", cwd=tmp_path)
    assert refused.code == Exit.USAGE
    named = "\n".join(line for line in refused.err.splitlines() if "--fork" in line)
    forked = pasted(named, tmp_path, "--lr", "0.01")
    assert forked.code == Exit.DONE, forked.err


@pytest.mark.parametrize("checkpoints", ["damaged", "vanished"])
def test_without_a_good_checkpoint_it_is_trained_anew_as_the_message_says(tmp_path, checkpoints):
    run = stopped(tmp_path / "a b")
    if checkpoints == "damaged":
        for path in run.path.glob("checkpoints/*/state.json"):
            path.write_text("{}")
    else:
        shutil.rmtree(run.path / "checkpoints")
    refused = convnn("resume", f"{run.path}/", cwd=tmp_path)
    assert refused.code == Exit.STORAGE
    assert pasted(refused.err, tmp_path).code == Exit.DONE


def test_a_run_whose_directory_vanished_begins_anew(tmp_path):
    command = Command(["run", *killing.arguments(LONG), "--plain"], tmp_path)
    until(lambda: any(b'"Step"' in path.read_bytes() for path in tmp_path.glob("runs/*/events.jsonl")))
    shutil.rmtree(tmp_path / "runs")
    command.signal(15)
    ended = command.wait()
    assert ended.code == Exit.STORAGE, ended
    assert "vanished" in ended.out
    assert pasted(ended.err, tmp_path, "--num_epochs", "1").code == Exit.DONE


def test_other_images_than_those_of_the_run_are_forked(tmp_path):
    images = tmp_path / "images"
    for split in ("train", "test"):
        for label in "ab":
            for number in range(4):
                picture(images / split / label / f"{number}.png", number)
    options = {name: value for name, value in training.SMALL.items() if name != "limit"}
    options |= {"dataset": "folder", "data_path": images, "batch_size": 2}
    first = convnn("run", *killing.arguments(options), "--max-minutes", "0.0001", "--plain", cwd=tmp_path)
    assert first.code == Exit.TIME_LIMIT
    (images / "train/a/0.png").unlink()
    refused = convnn("resume", "--plain", cwd=tmp_path)
    assert refused.code == Exit.DATA and "add --fork" in refused.out
    assert convnn("resume", "--fork", cwd=tmp_path).code == Exit.DONE


def picture(path, shade: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 9, 9)).save(path)


def test_a_history_that_lost_its_end_is_said(tmp_path):
    run = stopped(tmp_path)
    whole = run.events_path.read_bytes()
    run.events_path.write_bytes(whole[: whole.index(b"\n") + 1])
    ended = convnn("resume", f"{run.path}/", "--plain", cwd=tmp_path)
    assert ended.code == Exit.DONE, ended.err
    assert "events.jsonl has lost" in ended.err
