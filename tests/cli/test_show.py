"""Commands about runs that are there: show, follow, note, stop, evaluate; and the trained model as a library."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
import torch
from support import training
from support.runs import epoch, new

from convnn import events, load_run
from convnn.errors import UserError
from convnn.runs import control, event_log
from convnn.runs.find import list_runs
from convnn.runs.lock import lock_run


@pytest.fixture
def convnn(in_process, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    return in_process


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A root with one finished run: a narrow vgg11 ConvNN, two epochs on a hundred digits. Not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    shape = {"model": "vgg11", "layer": "ConvNN", "width": 0.05, "dataset": "digits", "limit": 100}
    config = training.config(shape, batch_size=25, num_epochs=2, seed=7, device="cpu")
    assert training.train(root, config)[1].code == 0
    return root


def test_show_tells_status_figures_and_configuration(trained, convnn):
    code, out, _ = convnn("show", "@last", "--runs", trained)
    assert code == 0
    assert all(word in out for word in ("done", "best on test", "epoch 2/2", "batch_size 25", "accuracy"))


def test_show_in_json_has_a_row_an_epoch(trained, convnn):
    document = json.loads(convnn("show", "@last", "--runs", trained, "--json")[1])
    assert document["run"]["status"] == "done"
    assert [row["epoch"] for row in document["epochs"]] == [1, 2]
    history = list_runs(trained)[0][0].history()
    assert document["run"]["digest"] == history.digest()
    assert document["epochs"][-1]["test_loss"] == history.epochs[-1].metrics["test_loss"]


def test_show_layers_lists_what_each_layer_chooses(trained, convnn, tmp_path):
    code, out, err = convnn("show", "@last", "--layers", "--runs", trained)
    assert (code, "after epoch 2" in err) == (0, True)
    header, *rows = out.splitlines()
    assert header.split()[:3] == ["layer", "outside", "%"]
    assert [row.split()[0] for row in rows][::8] == ["stage1.conv1", "mean"]
    layers = json.loads(convnn("show", "@last", "--layers", "--json", "--runs", trained)[1])["layers"]
    assert layers[-1]["epoch"] == 2
    outside = layers[-1]["layers"]["stage1.conv1"]["neighbors_outside"]
    assert f"{outside:.2f}" in rows[0].split()
    new(tmp_path, epoch(1, 50.0))
    code, out, err = convnn("show", "@last", "--layers", "--runs", tmp_path)
    assert (code, "no statistics of layers" in err) == (0, True)
    assert convnn("show", "--layers", "--all", "--runs", trained)[0] == 2


def test_follow_stays_until_the_final_event(tmp_path, convnn):
    run = new(tmp_path)
    lock_held, file_read = threading.Event(), threading.Event()

    def trains():
        with lock_run(run.path):
            event_log.append_event(run.events_path, events.Started(epochs=2, steps_per_epoch=1))
            lock_held.set()
            file_read.wait(1.5)  # long enough for the follower to look more than once
            for number in (1, 2):
                event_log.append_event(run.events_path, epoch(number, 50.0 + number))
            event_log.append_event(run.events_path, events.Finished(outcome="done"))

    worker = threading.Thread(target=trains)
    worker.start()
    lock_held.wait()
    code, out, _ = convnn("show", run.name, "--follow", "--plain", "--runs", tmp_path)
    worker.join()
    assert code == 0
    assert "epoch 1/2" in out
    assert "done" in out.splitlines()[-1]


@pytest.mark.parametrize("in_place", [False, True])
def test_follow_reads_a_replaced_history_again_and_shows_each_event_once(tmp_path, convnn, in_place):
    started = [events.Started(epochs=4, steps_per_epoch=1), epoch(1, 51.0), epoch(2, 52.0)]
    run = new(tmp_path, *started)
    text = run.events_path.read_text()

    def trains_while_an_editor_saves_an_older_state():
        with lock_run(run.path):
            lock_held.set()
            time.sleep(0.8)  # the follower has read it
            older = run.path / "older"
            older.write_text(text.splitlines(keepends=True)[0].replace('"epochs": ', '"epochs":  '))
            if in_place:
                run.events_path.write_text(older.read_text())
            else:
                older.replace(run.events_path)
            with run.events_path.open("a") as file:
                file.writelines(text.splitlines(keepends=True)[1:])  # as the process that trains writes them again
            for number in (3, 4):
                event_log.append_event(run.events_path, epoch(number, 50.0 + number))
            event_log.append_event(run.events_path, events.Finished(outcome="done"))

    lock_held = threading.Event()
    worker = threading.Thread(target=trains_while_an_editor_saves_an_older_state)
    worker.start()
    lock_held.wait()
    code, out, _ = convnn("show", run.name, "--follow", "--plain", "--runs", tmp_path)
    worker.join()
    assert code == 0
    lines = [line.split()[1] for line in out.splitlines() if line.startswith("epoch")]
    assert lines == ["1/4", "2/4", "3/4", "4/4"]


def test_follow_in_json_prints_the_events_as_lines(tmp_path, convnn):
    written = [events.Started(epochs=1, steps_per_epoch=1), epoch(1, 51.0), events.Finished(outcome="done")]
    run = new(tmp_path, *written)
    code, out, _ = convnn("show", run.name, "--follow", "--json", "--runs", tmp_path)
    assert code == 0 and out.splitlines() == run.events_path.read_text().splitlines()


def test_a_note_is_kept_with_the_run_and_shown(tmp_path, convnn):
    run = new(tmp_path)
    event_log.append_event(run.events_path, events.Finished(outcome="done"))
    assert convnn("note", run.name, "looks [b]odd[/b] \x1b[31m", "--runs", tmp_path)[0] == 0
    assert run.status() == "done"
    out = convnn("show", run.name, "--runs", tmp_path)[1]
    assert "looks [b]odd[/b] \\x1b[31m" in out
    assert "\x1b[31m" not in out


def test_stop_reaches_a_running_run_and_only_that(tmp_path, convnn):
    run = new(tmp_path)
    code, _, err = convnn("stop", run.name, "--runs", tmp_path)
    assert (code, "is not running" in err) == (2, True)
    with lock_run(run.path):
        assert convnn("stop", run.name, "--after-epoch", "--runs", tmp_path)[0] == 0
        assert control.receive(run.path) is control.ControlCommand.STOP_EPOCH


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_evaluation_is_the_same_at_any_batch_size(trained, convnn, batch_size):
    line = ("run", "--dataset", "digits", "--test_only", "--device", "cpu", "--runs", trained, "--json")
    code, out, _ = convnn(*line, "--batch_size", batch_size, "--checkpoint", "last")
    figures, history = json.loads(out)["figures"], list_runs(trained)[0][0].history()
    assert code == 0
    for name in ("test_loss", "test_top1", "test_top5"):
        assert figures[name] == pytest.approx(history.epochs[-1].metrics[name], abs=1e-6)


def test_evaluation_passes_over_newer_runs_without_weights_or_configuration(trained, convnn, tmp_path):
    run = list_runs(trained)[0][0]
    for age, (name, config) in enumerate({"imported": None, "foreign": "[layer]\nsize = 3\n", "torn": "x = ["}.items()):
        copy = tmp_path / f"20991122-15150{age}-{name}"
        shutil.copytree(run.path, copy)
        (copy / "imported.json").write_text("{}") if config is None else (copy / "config.toml").write_text(config)
    line = ("run", "--dataset", "digits", "--test_only", "--device", "cpu", "--runs", tmp_path)
    code, _, err = convnn(*line)
    assert code == 6 and "there is no finished run of vgg11 with layer ConvNN on digits" in err
    shutil.copytree(run.path, tmp_path / run.name)
    assert convnn(*line)[0] == 0


def test_evaluation_writes_nothing_into_the_run(trained, convnn):
    run = list_runs(trained)[0][0]
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert convnn("run", "--test_only", "--run", run.name, "--device", "cpu", "--runs", trained)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_evaluation_under_another_configuration_is_refused_with_the_difference(trained, convnn):
    code, _, err = convnn("run", "--test_only", "--dataset", "digits", "--K", 4, "--seed", 1, "--runs", trained)
    assert code == 2
    assert "layer.K is 4" in err
    assert "was trained with 9" in err
    assert "training.seed is 1" in err


@pytest.fixture
def copies(trained, tmp_path):
    """Return a function that copies the trained run, with changes to its configuration, as the newest of a root."""

    def copy(**changes):
        run, age = list_runs(trained)[0][0], sum(path.is_dir() for path in tmp_path.iterdir())
        target = shutil.copytree(run.path, tmp_path / f"20260101-00000{age}-copy")
        config = (target / "config.toml").read_text()
        for key, (before, now) in changes.items():
            assert f"\n{key} = {before}\n" in config
            config = config.replace(f"\n{key} = {before}\n", f"\n{key} = {now}\n")
        (target / "config.toml").write_text(config)
        marker = json.loads((target / "run.json").read_text())
        marker["created"] = f"2031-01-01T00:00:0{age}.000000Z"
        (target / "run.json").write_text(json.dumps(marker))
        return target.name

    return copy


def test_test_only_evaluates_a_run_on_the_data_set_of_the_command(copies, convnn, tmp_path):
    digits, _ = copies(), copies(dataset=('"digits"', '"cifar10"'))
    line = ("run", "--test_only", "--device", "cpu", "--runs", tmp_path)
    code, _, err = convnn(*line, "--dataset", "digits")
    assert code == 0 and f"{digits}, the newest finished run of vgg11 with layer ConvNN on digits" in err
    code, _, err = convnn(*line, "--dataset", "cifar100")
    assert code == 6 and "--dataset cifar10 or digits" in err


def test_test_only_evaluates_a_run_that_agrees_with_every_typed_option(copies, convnn, tmp_path):
    older, newer = copies(), copies(seed=("7", "8"))
    line = ("run", "--dataset", "digits", "--test_only", "--device", "cpu", "--runs", tmp_path, "--json")
    chosen = {seed: json.loads(convnn(*line, "--seed", seed)[1])["run"] for seed in (7, 8)}
    assert chosen == {7: older, 8: newer}
    assert json.loads(convnn(*line, "--batch_size", 3)[1])["run"] == newer  # which changes no metric
    code, out, _ = convnn(*line, "--seed", 9)
    assert code == 2 and newer in json.loads(out)["error"]["problems"][0]["message"]


def test_a_checkpoint_that_does_not_fit_is_refused_with_the_difference(trained, tmp_path):
    run = list_runs(trained)[0][0]
    copy = tmp_path / run.name
    shutil.copytree(run.path, copy)
    config = copy / "config.toml"
    config.write_text(config.read_text().replace("width = 0.05", "width = 0.1"))
    with pytest.raises(
        UserError, match=r"does not fit its configuration: head\.0\.bias is \(205,\), the model has \(410,\)"
    ):
        load_run(copy).model()


def test_a_trained_model_is_loaded_and_gives_the_figures_of_the_run(trained):
    run = load_run("@last", trained)
    model = run.model("last")
    data = run.open_data(run.config, torch.device("cpu"), "last", ("test",))
    assert data.test is not None
    with torch.inference_mode():
        hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in data.test.epoch(0))
    assert 100 * hits / data.test.num_images == pytest.approx(run.history.epochs[-1].metrics["test_top1"])
    assert len(run.started.classes) == 10


def test_no_such_run_ends_with_6(tmp_path, convnn):
    for line in (("show", "nothing"), ("stop", "@last"), ("note", "@2", "x"), ("resume", "nothing")):
        assert convnn(*line, "--runs", tmp_path)[0] == 6
