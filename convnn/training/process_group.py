"""The processes that train one run together: each computes its rows of every batch, and all hold the same weights."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from convnn.data.share import BatchShare

FOREVER = timedelta(days=365)  # that a process waits for another: a run may be paused, and a lost process is noticed
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # by type of device


@dataclass
class BatchRows:
    """The rows of the (micro-)batch in hand that this process computes, set before each pass."""

    start: int = 0
    size: int = 0  # of the whole (micro-)batch

    def __deepcopy__(self, memo: object) -> Self:
        return self  # those of a copied model, such as a moving average, are the same


class ProcessGroup:
    """This process among the `size` ones of a run; alone, it does nothing that a run of one process would not do.

    A process waits for the others in `proceed`, in a pass through the model, and in `sum`. Rank 0, which follows the
    commands, calls `proceed` before anything that the others take part in, and is never stopped between the two.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.rows = BatchRows()

    @classmethod
    def join(cls, store: Any, rank: int, size: int, device_type: str, local_rank: int = 0) -> Self:
        """Join the processes that meet at a store of `torch.distributed`; each takes the GPU of its local rank."""
        if device_type == "cuda":
            torch.cuda.set_device(local_rank % torch.cuda.device_count())
        dist.init_process_group(BACKENDS[device_type], store=store, rank=rank, world_size=size, timeout=FOREVER)
        return cls(rank, size)

    def share(self, micro_batches: int) -> BatchShare:
        """Return the rows that this process takes of each batch of so many micro-batches."""
        return BatchShare(self.rank, self.size, micro_batches)

    def set_rows(self, sizes: Sequence[int]) -> int:
        """Set how many rows of the (micro-)batch in hand each process has; return how many they are together."""
        self.rows.start, self.rows.size = sum(sizes[: self.rank]), sum(sizes)
        return self.rows.size

    def proceed(self, images: int) -> list[int]:
        """Wait until rank 0 goes on to the next step; return the number of `images` that each process has for it."""
        if self.size == 1:
            return [images]
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = images
        return self.sum(counts).tolist()

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def gather(self, text: str) -> list[str]:
        """Return the text of every process, in the order of their ranks."""
        if self.size == 1:
            return [text]
        data = (
            torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
        )
        sizes = self.proceed(len(data))
        buffer = torch.zeros(sum(sizes), dtype=torch.uint8)
        start = sum(sizes[: self.rank])
        buffer[start : start + len(data)] = data
        return [part.numpy().tobytes().decode() for part in self.sum(buffer).split(sizes)]

    @contextmanager
    def leader_first(self, *, needed: bool) -> Iterator[None]:
        """Let rank 0 run the block before the others, where that is needed."""
        if needed and self.rank > 0:
            self.proceed(0)
        yield
        if needed and self.rank == 0:
            self.proceed(0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model wrapped so that each backward pass ends with the gradients summed over all processes."""
        if self.size == 1:
            return model
        parallel = nn.parallel.DistributedDataParallel(model)
        parallel.broadcast_buffers = False  # all processes have the same; the name of the argument depends on the torch
        parallel.register_comm_hook(None, _sum_bucket)
        return parallel

    def backward_pass(self, model: nn.Module, *, sums: bool) -> AbstractContextManager[Any]:
        """Return the context of a pass: it `sums` its gradients over the processes, or leaves that to a later pass."""
        if not sums and isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


def _sum_bucket(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Sum a bucket of gradients: the loss is a sum over rows, divided by the size of the whole batch."""
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda result: result.value()[0])


ALONE = ProcessGroup()
