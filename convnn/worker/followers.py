"""The other processes of a run: started on this machine, or tasks of the same `srun`, they do what rank 0 does.

Rank 0 is the process of the command itself: its exit code, signals, lock and terminal are those of any run, and no
process only watches others. (`torch.distributed.elastic.multiprocessing.start_processes` would add one, and torchrun
turns every exit code into 1.) A follower reads and writes no file of the run but log.txt and the checkpoint that is
resumed from. It ends, whatever it is doing, when rank 0 says so or is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]

from convnn import slurm_job
from convnn.config.schema import RunConfig
from convnn.config.toml import dumps, parse_run
from convnn.costs.memory_fit import is_out_of_memory
from convnn.data.worker_processes import GROUP_SIGNALS, kill_all
from convnn.errors import Exit, UserError
from convnn.files import open_append
from convnn.runs.run import LOG
from convnn.safe_path import python_module
from convnn.slurm_job import JobStep
from convnn.training import device as training_device
from convnn.training.process_group import ALONE, FOREVER, ProcessGroup
from convnn.training.trainer import Trainer
from convnn.worker import checkpoint

JOIN_MINUTES = 10  # that the tasks of a step may take to start
PATIENCE = 5.0  # seconds within which a lost process is seen to have ended, and a follower ends
POLL_SECONDS = 0.05
LOOPBACK = ("lo", "lo0")  # names of the interface on Linux and macOS
LONGEST_ERROR = 300  # characters


class Followers:
    """The followers of this process, which is rank 0. Those that it started end with `close` at the latest."""

    def __init__(self, config: RunConfig, run: Path, checkpoint_path: Path | None) -> None:
        self.size, self.step = config.runtime.processes, slurm_job.current_step()
        self.device_type = training_device.select_device(config).type
        self.children: list[subprocess.Popen[bytes]] = []
        self._exits = ExitStack()
        if self.step is None:
            folder = self._exits.enter_context(tempfile.TemporaryDirectory(prefix="convnn-"))
            self.store: Any = FileStore(f"{folder}/store", self.size)
            self._start(Path(folder) / "store", run)
        else:
            check_tasks(config, self.step)
            self.store = _open_store(self.step, is_master=True)
        start = {"config": dumps(config, whole=True), "checkpoint": checkpoint_path and str(checkpoint_path)}
        self.store.set("start", json.dumps(start))

    def join(self) -> ProcessGroup:
        """Wait for the followers. Raises UserError where one of them has ended, or does not come."""
        deadline = time.monotonic() + 60 * JOIN_MINUTES
        keys = [f"ready/{rank}" for rank in range(1, self.size)]
        while not self.store.check(keys):
            self.check()
            if time.monotonic() > deadline:
                raise UserError(f"not all of {self.size} processes have started within {JOIN_MINUTES} minutes")
            time.sleep(POLL_SECONDS)
        group = ProcessGroup.join(self.store, 0, self.size, self.device_type)
        for rank, child in enumerate(self.children, start=1):
            threading.Thread(target=self._watch, args=(child,), daemon=True, name=f"rank {rank}").start()
        return group

    def check(self) -> None:
        """Raise UserError where a follower has ended, which names its rank and why."""
        for rank, child in enumerate(self.children, start=1):
            if (code := child.poll()) is not None:
                raise UserError(self._loss(rank, code), Exit.FAILED)
        if self.step is not None:
            for rank in range(1, self.size):
                if reason := self._error(rank):
                    raise UserError(f"rank {rank} of {self.size} ended: {reason}", Exit.FAILED)

    def explain(self, error: RuntimeError) -> None:
        """Raise UserError where an error of rank 0 is that a follower ended."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.check()
            time.sleep(POLL_SECONDS)
        if self.step is not None and isinstance(error, dist.DistError):
            raise UserError(f"a process of {self.size} was lost: {str(error).splitlines()[0][:LONGEST_ERROR]}")

    def close(self) -> None:
        children, self.children = self.children, []
        if self.step is not None:
            self.store.set("end", "")
            deadline = time.monotonic() + PATIENCE  # rank 0 holds the store, which they read
            keys = [f"ended/{rank}" for rank in range(1, self.size)]
            while not self.store.check(keys) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        for child in children:
            assert child.stdin is not None
            child.stdin.close()  # the follower sees it, as it does when this process is killed
        for child in children:
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._exits.close()

    def _start(self, store: Path, run: Path) -> None:
        loopback = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
        if loopback is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # nothing outside of this machine takes part
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # inherited: a follower ends with rank 0
        try:
            with os.fdopen(open_append(run / LOG), "ab") as log:
                for rank in range(1, self.size):
                    command = python_module("convnn.worker.followers", str(store), str(rank), str(self.size))
                    self.children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a follower; then wake this process where it waits for the GPU of that one."""
        child.wait()
        if child in self.children and self.device_type == "cuda":
            dist.distributed_c10d._abort_process_group()

    def _loss(self, rank: int, code: int) -> str:
        name = f"rank {rank} of {self.size}"
        if code < 0:
            return f"{name} was killed by {signal.Signals(-code).name}"
        return f"{name} ended: {self._error(rank) or f'code {code}, see {LOG}'}"

    def _error(self, rank: int) -> str | None:
        key = f"error/{rank}"
        return self.store.get(key).decode("utf-8", "replace") if self.store.check([key]) else None


@contextmanager
def process_group(
    config: RunConfig, run: Path, checkpoint_path: Path | None = None
) -> Iterator[tuple[ProcessGroup, Followers | None]]:
    """Yield the group of processes that train a run, and the followers, which end with the block.

    A follower goes on from the checkpoint. An error in the block that comes from the loss of a follower is raised as a
    UserError, which names its rank and what ended it.
    """
    if config.runtime.processes == 1:
        yield ALONE, None
        return
    followers = Followers(config, run, checkpoint_path)
    group = None
    try:
        group = followers.join()
        yield group, followers
    except RuntimeError as error:
        if not is_out_of_memory(error):
            followers.explain(error)
        raise
    finally:
        followers.close()
        if group is not None:
            group.leave()


def check_tasks(config: RunConfig, step: JobStep) -> None:
    """Raise UserError where `srun` has not started a task for each process."""
    processes = config.runtime.processes
    if processes != step.tasks:
        message = f"runtime.processes is {processes}, but this srun has {step.tasks} tasks"
        key, fix = "runtime.processes", f"use --processes {step.tasks}, or srun --ntasks={processes}"
        raise UserError(message, key=key, value=processes, fix=fix, change={key: step.tasks})


# -- in a follower ----------------------------------------------------------------------------------------------------


def follow_step(step: JobStep) -> int:
    """Follow rank 0 of the step that this process is a task of; return the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)  # Slurm signals every task
    own_store = _open_store(step)

    def wait_for_end() -> int:
        try:
            own_store.get("end")
            own_store.set(f"ended/{step.rank}", "")
        except RuntimeError:  # rank 0 is gone
            return Exit.FAILED
        return Exit.DONE

    _end_after(wait_for_end)
    return follow(_open_store(step), step.rank, step.tasks, step.local_rank)


def follow(store: Any, rank: int, size: int, local_rank: int) -> int:
    """Do what rank 0 does until it says that it ends; return the exit code of a failure, which rank 0 reports."""
    try:
        start = json.loads(store.get("start"))
        config = parse_run(start["config"])
        device = training_device.select_device(config)
        saved = None
        if start["checkpoint"] is not None:
            saved = checkpoint.load_verified(Path(start["checkpoint"])).state
        store.set(f"ready/{rank}", "")
        group = ProcessGroup.join(store, rank, size, device.type, local_rank)
        trainer = Trainer.from_config(config, saved, group=group)
        saved = None  # its tensors have been loaded
        for _ in trainer.run():
            pass
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        text = lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}"
        store.set(f"error/{rank}", text[:LONGEST_ERROR])
        if not isinstance(error, UserError):
            raise
        return error.code
    threading.Event().wait()  # the last epoch is over: rank 0 saves, and ends this process
    return Exit.DONE


def main() -> None:
    """Follow the parent process: `python -m convnn.worker.followers STORE RANK SIZE`, stdin open while that lives."""
    path, rank, size = sys.argv[1:]
    _end_after(lambda: len(os.read(0, 1)))
    store = FileStore(path, int(size))
    store.set_timeout(FOREVER)
    sys.exit(follow(store, int(rank), int(size), int(rank)))


def _end_after(wait: Callable[[], int]) -> None:
    """End this process, whatever it is doing, with the code that `wait` returns."""

    def end() -> None:
        code = wait()
        kill_all()
        os._exit(code)

    threading.Thread(target=end, daemon=True, name="end").start()


def _open_store(step: JobStep, *, is_master: bool = False) -> Any:
    """Return the store at which the tasks of a step meet, or a connection to it."""
    store = TCPStore(
        step.node,
        step.port,
        step.tasks,
        is_master=is_master,
        timeout=timedelta(minutes=JOIN_MINUTES),
        wait_for_workers=False,
    )
    store.set_timeout(FOREVER)
    return store


if __name__ == "__main__":
    main()
