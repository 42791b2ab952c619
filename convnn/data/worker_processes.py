"""The processes that load batches: how they are started, waited for and ended, and what they report.

Signals to the process group, such as Ctrl-C, are for the run alone: its workers block them and end when it ends them.
"""

from __future__ import annotations

import atexit
import multiprocessing
import shutil
import signal
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing import forkserver, queues, resource_tracker
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from convnn.errors import Exit, UserError
from convnn.text import memory

POLL_SECONDS = 0.1  # that a batch is waited for before the caller may look at signals and limits
GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
SHARED_MEMORY = "/dev/shm"  # where torch hands tensors from process to process
TIMED_OUT = "timed out"  # in torch's words
FEWER_WORKERS = "use fewer --workers, or none: --workers 0"

Batch = TypeVar("Batch")
_running: set[Any] = set()  # the worker processes of this process


@dataclass(frozen=True)
class Undelivered:
    """What a worker sends in place of a batch that it cannot hand over."""

    reason: str


def start_server(preload: str) -> ForkServerContext:
    """Start the process that forks the workers, which imports `preload` once for all of them, and return its context.

    It returns before that is done. Threads are the reason for a server: a fork of this process would copy them. Of the
    signals to the group it blocks those that this process handles, and no others: it may serve other code, too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    handled = {number for number in GROUP_SIGNALS if signal.getsignal(number) not in defaults}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)  # which is inherited
    try:
        resource_tracker.ensure_running()  # it unblocks two of them
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return context


def prepare_worker(worker_id: int) -> None:
    """Let a worker live through signals to its group, and report a batch that it cannot hand over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    # multiprocessing prints such an error and drops the batch, which would then be waited for forever
    queues.Queue._on_queue_feeder_error = _report  # type: ignore[attr-defined]


def _report(queue: queues.Queue[Any], error: Exception, item: tuple[int, object]) -> None:
    queue.put((item[0], Undelivered(f"{type(error).__name__}: {error}")))


def poll_batches(loader: DataLoader[Batch], batch_bytes: int) -> Generator[Batch | None]:
    """Yield the batches of a loader with workers, and None about ten times a second while one is waited for.

    Raises UserError where a worker dies or cannot hand over a batch, of `batch_bytes` bytes. Workers that are left
    when the generator is closed are killed.
    """
    workers: list[Any] = []
    try:
        iterator = iter(loader)
        workers = list(iterator._workers)  # type: ignore[attr-defined]
        _running.update(workers)
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                break
            except RuntimeError as error:
                if TIMED_OUT not in str(error):
                    raise
                pin_thread = getattr(iterator, "_pin_memory_thread", None)
                if pin_thread is not None and not pin_thread.is_alive():
                    raise RuntimeError("the thread that pins memory ended") from error
                yield None
                continue
            if isinstance(batch, Undelivered):
                raise _undelivered(batch.reason, batch_bytes, loader.num_workers)
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        raise _failure(error, workers, batch_bytes) from error
    finally:
        _kill(workers)


def _failure(error: Exception, workers: list[Any], batch_bytes: int) -> UserError:
    """Return the error of workers of which one has failed: how it died, or else what torch says."""
    dead = next((worker for worker in workers if not worker.is_alive()), None)
    code = dead.exitcode if dead is not None else None
    if dead is None or not code:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return UserError(f"a data worker failed: {lines[-1]}", Exit.FAILED, fix=FEWER_WORKERS)
    if code == -signal.SIGBUS:
        return _undelivered("bus error", batch_bytes, len(workers))
    end = f"ended with code {code}"
    if code < 0:
        end = f"was killed by {signal.Signals(-code).name}, as by a lack of memory"
    return UserError(f"a data worker (process {dead.pid}) {end}", Exit.FAILED, fix=FEWER_WORKERS)


def _undelivered(reason: str, batch_bytes: int, num_workers: int) -> UserError:
    """Return the error of a batch that cannot be handed over, mostly for want of shared memory."""
    message = f"a data worker cannot hand over a batch of {_size(batch_bytes)}: {' '.join(reason.split())[:200]}"
    try:
        total = shutil.disk_usage(SHARED_MEMORY).total
    except OSError:
        return UserError(message, Exit.FAILED, fix="use --workers 0")
    in_flight = 2 * num_workers * batch_bytes  # torch asks each worker for two batches ahead
    message += f"; {SHARED_MEMORY} has {_size(total)}"
    size = memory(max(2 * in_flight, 1 << 26))
    fix = f"use --workers 0, or give it about {size}, as with docker run --shm-size or --ipc=host"
    return UserError(message, Exit.FAILED, fix=fix)


def _size(size: int) -> str:
    return memory(size) if size >= 1 << 20 else f"{size / 1024:.0f} KiB"


def _kill(workers: list[Any]) -> None:
    """End workers at once: they block the signal by which torch and multiprocessing would end them."""
    for worker in workers:
        if worker.is_alive():
            worker.kill()
    _running.difference_update(workers)


@atexit.register
def kill_all() -> None:
    """End the workers of an epoch that was never finished, before multiprocessing waits for them."""
    _kill(list(_running))
