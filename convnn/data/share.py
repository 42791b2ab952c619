"""Which rows of a batch each of several processes takes. Loads no torch before there are several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BatchShare:
    """One process's part of every batch: its part of each micro-batch, in order.

    All is divided as `Tensor.tensor_split` does: parts differ by one row at the most, and the larger ones come first.
    The rows of a process are therefore divided into its parts of the micro-batches by the same rule.
    """

    rank: int = 0
    processes: int = 1
    micro_batches: int = 1

    def rows(self, batch_size: int) -> slice | Tensor:
        """Return the rows of a batch that this process takes: positions, or all of them where it is alone."""
        if self.processes == 1:
            return slice(None)
        import torch

        micro_batches = torch.arange(batch_size).tensor_split(max(1, min(self.micro_batches, batch_size)))
        return torch.cat([rows.tensor_split(self.processes)[self.rank] for rows in micro_batches])


def part_sizes(total: int, parts: int) -> list[int]:
    """Return the sizes of the parts into which `Tensor.tensor_split` divides so many rows."""
    return [total // parts + (part < total % parts) for part in range(parts)]


WHOLE_BATCH = BatchShare()
