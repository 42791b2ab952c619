"""Every fault has its exit code, one short message, and the exact command to go on."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading

import pytest
import torch
from support import killing, training
from support.processes import Command, convnn, until

from convnn.costs import memory_fit, plan
from convnn.costs.memory_fit import ModelMemoryError
from convnn.errors import Exit, UserError
from convnn.events import Started
from convnn.text import memory
from convnn.worker import failures
from convnn.worker.failures import RunContext, classify_failure

BIG = training.config(width=1.0, resize=32, batch_size=256, layer="ConvNN")


def context(memory: int, config=BIG) -> RunContext:
    return RunContext(config, (32, 32), 10, memory)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_names_an_accumulation_whose_forecast_fits(error):
    whole = plan.plan(BIG, (32, 32), 10).memory_bytes
    failure = classify_failure(error, context(int(whole * 0.8)))
    assert failure.code == Exit.MEMORY
    assert failure.flags[0] == "--accumulate"
    parts = int(failure.flags[1])
    smaller = BIG.model_copy(update={"training": BIG.training.model_copy(update={"accumulate": parts})})
    assert plan.plan(smaller, (32, 32), 10).memory_bytes <= memory_fit.USABLE * whole * 0.8
    assert memory(whole) in failure.cause


def test_where_no_accumulation_fits_another_way_is_named():
    failure = classify_failure(MemoryError(), context(10_000_000))
    assert failure.flags == () and "--width" in failure.cause


def test_out_of_memory_while_the_model_is_built_is_not_blamed_on_the_data():
    context = failures.RunContext(training.config(), None, None, 1 << 30)
    failure = failures.classify_failure(ModelMemoryError((8, 8), 10), context)
    assert failure.code == Exit.MEMORY
    assert "was forecast at" in failure.cause and "data was read" not in failure.cause


def test_out_of_memory_before_the_data_is_known():
    assert classify_failure(MemoryError(), RunContext(BIG, None, None, 10**9)).code == Exit.MEMORY
    not_started = classify_failure(MemoryError(), RunContext(BIG, (32, 32), 10, 10**12, started=False))
    assert "--limit or --resize" in not_started.cause


def test_a_model_that_cannot_be_built_is_not_blamed_on_the_data():
    wide = training.config(width=16, layer="Conv2d", resize=32)
    failure = classify_failure(MemoryError(), RunContext(wide, (32, 32), 10, 10**9, started=False))
    assert "--width" in failure.cause and "--limit" not in failure.cause


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), Exit.DATA, "device was lost"),
        (OSError(errno.EIO, "Input/output error", "/data/a.png"), Exit.DATA, "/data/a.png"),
        (UserError("the file is damaged", Exit.DATA), Exit.DATA, "the file is damaged"),
        (ZeroDivisionError("division by zero"), Exit.FAILED, "log.txt"),
    ],
)
def test_each_has_its_code_and_its_words(error, code, word):
    failure = classify_failure(error, context(10**12))
    assert failure.code == code and word in failure.cause
    assert "\n" not in failure.cause


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EDQUOT, errno.EIO, 9999])
def test_storage_is_8_whatever_the_reason(tmp_path, number):
    error = failures.storage_error(OSError(number, "words of the system"), tmp_path)
    assert error.code == Exit.STORAGE and str(tmp_path) in str(error)
    assert failures.OTHER_FOLDER not in str(error)
    assert failures.OTHER_FOLDER in str(failures.storage_error(OSError(number, ""), tmp_path, in_runs=True))


@pytest.mark.parametrize(
    ("words", "suggested"), [(["run", "quickstart", "--runs"], True), (["presets", "copy", "quickstart"], False)]
)
def test_another_runs_folder_is_suggested_for_a_path_in_it_only(tmp_path, words, suggested):
    (tmp_path / "file").write_text("")
    refused = convnn(*words, tmp_path / "file" / "below", cwd=tmp_path)
    assert refused.code == Exit.STORAGE, refused
    assert (failures.OTHER_FOLDER in refused.err) == suggested


def test_a_log_that_could_not_be_written_is_not_referred_to(tmp_path):
    run = training.create(tmp_path, training.config())
    (run.path / "log.txt").mkdir()

    def show(event, line: str) -> None:
        if isinstance(event, Started):
            raise ZeroDivisionError("division by zero")

    cause = training.train_run(run, run.config(), show=show).finished.cause
    assert cause.startswith("ZeroDivisionError") and "traceback is in" not in cause


def test_a_diverged_run_says_the_step_and_the_command_to_go_on(tmp_path):
    options = training.SMALL | {"lr": 1e30, "optimizer": "sgd", "clip_grad_norm": 0, "limit": 20}
    ended = convnn("run", *killing.arguments(options), "--plain", cwd=tmp_path)
    assert ended.code == Exit.DIVERGED
    assert "not finite" in ended.out and "step" in ended.out and "Traceback" not in ended.out + ended.err
    command = next(line for line in ended.err.splitlines() if line.startswith("resume with: "))
    assert "--lr 1e+29" in command
    words = command.removeprefix("resume with: convnn ").split()
    again = convnn(*[word.replace("1e+29", "0.001") for word in words], "--clip_grad_norm", "1", cwd=tmp_path)
    assert again.code == Exit.DONE, again.err


def test_little_memory_ends_with_4_and_the_command_runs(tmp_path):
    """An address space too small for a large batch; what it says to do is done, with the memory that there is."""
    options = training.SMALL | {"layer": "ConvNN", "resize": 48, "limit": 100, "batch_size": 100, "num_epochs": 1}
    ended = Command(["run", *killing.arguments(options), "--plain"], tmp_path, more_memory=300_000_000).wait()
    assert ended.code == Exit.MEMORY, ended
    assert "forecast" in ended.out and "Traceback" not in ended.out + ended.err
    run = killing.only_run(tmp_path)
    assert run.status() == "failed"
    assert "resume with: convnn " in ended.err


def test_a_second_start_is_refused_with_pid_and_host(tmp_path):
    import socket

    from convnn.runs.lock import lock_run

    run = training.create(tmp_path / "runs", training.config())
    with lock_run(run.path):
        refused = convnn("resume", run.name, cwd=tmp_path)
    assert refused.code == Exit.HELD
    assert f"process {os.getpid()} on {socket.gethostname()}" in refused.err


def test_a_copied_directory_is_a_run_of_its_own(tmp_path):
    import shutil

    from convnn.runs.lock import lock_run

    run, _ = training.train(tmp_path / "runs", training.config(), commands=training.StopAt(3))
    with lock_run(run.path):
        shutil.copytree(run.path, tmp_path / "copy")
        assert convnn("resume", "copy/", cwd=tmp_path).code == Exit.DONE


def test_resume_refuses_other_options_and_forks_with_them(tmp_path):
    run, _ = training.train(tmp_path / "runs", training.config(), commands=training.StopAt(3))
    refused = convnn("resume", run.name, "--lr", "0.01", cwd=tmp_path)
    assert refused.code == Exit.USAGE
    assert "optimizer.lr differs: 0.001 before, 0.01 now" in refused.err and "--fork" in refused.err
    forked = convnn("resume", run.name, "--fork", "--lr", "0.01", cwd=tmp_path)
    assert forked.code == Exit.DONE, forked.err
    from convnn.runs.find import list_runs

    made = list_runs(tmp_path / "runs")[0][0]
    assert made.config().optimizer.lr == 0.01
    assert made.history().epochs[-1].metrics["lr"] == 0.01
    assert run.status() == "stopped"
    assert convnn("resume", run.name, "--device", "cpu", cwd=tmp_path).code == Exit.DONE


def test_a_fork_of_the_same_configuration_ends_as_its_run(tmp_path):
    run, _ = training.train(tmp_path / "runs", training.config(), commands=training.StopAt(7))
    from convnn.worker.fork import fork_run

    made, _ = fork_run(run, run.config(), tmp_path / "runs")
    assert training.resume(made).finished.outcome == training.resume(run).finished.outcome == "done"
    assert made.history().digest() == run.history().digest()
    assert training.same_weights(made, run)


def test_run_resume_starts_goes_on_and_is_done(tmp_path):
    words = ["run", *killing.arguments(training.SMALL), "--output_dir", "here", "--resume"]
    first = convnn(*words, "--max-minutes", "0.0001", cwd=tmp_path)
    assert first.code == 75, first.err
    assert convnn(*words, cwd=tmp_path).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    again = convnn(*words, cwd=tmp_path)
    assert again.code == 0 and "is finished" in again.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}


@pytest.mark.torture
@pytest.mark.parametrize("view_flags", [[], ["--plain"]], ids=["live", "plain"])
def test_a_terminal_that_hangs_up_ends_with_129(tmp_path, view_flags):
    import pty
    import sys

    words = ["run", *killing.arguments(training.SMALL | {"num_epochs": 5000}), *view_flags, "--runs", str(tmp_path)]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "convnn", *words])
    reader = threading.Thread(target=_drain, args=(terminal,), daemon=True)
    reader.start()
    until(lambda: any(b'"Step"' in path.read_bytes() for path in tmp_path.glob("*/events.jsonl")))
    os.kill(child, signal.SIGSTOP)  # a read under way keeps the terminal open: it ends when nothing is written
    os.dup2(os.open(os.devnull, os.O_RDONLY), terminal)
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert killing.list_runs(tmp_path)[0][0].status() == "interrupted"


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass
