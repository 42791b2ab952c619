"""What the card can do: bytes copied and products computed a second, and the cost of a launch."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.bench import GpuBench, set_products
from benchmarks.table import Row

LAUNCHES = 200


def rows(bench: GpuBench) -> Iterator[Row | str]:
    """A row for each ceiling."""
    numbers, side = bench.size(1 << 30, 1 << 20), bench.size(8192, 256)
    yield {"ceiling of the card": "copy, read and written", "value": _copied(bench, numbers), "unit": "GB/s"}
    for kind, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        set_products(kind)
        a, b = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        ms = bench.milliseconds(lambda a=a, b=b: a @ b)
        yield {"ceiling of the card": f"product in {kind}", "value": 2 * side**3 / ms / 1e9, "unit": "TFLOP/s"}
    set_products("fp32")
    small = torch.zeros(16, device=bench.device)

    def launch() -> None:
        for _ in range(LAUNCHES):
            small.add_(1)

    us = 1e3 / LAUNCHES
    yield {"ceiling of the card": "a launch, on the card", "value": us * bench.milliseconds(launch), "unit": "us"}
    yield {"ceiling of the card": "a launch, on the host", "value": us * bench.host_milliseconds(launch), "unit": "us"}


def _copied(bench: GpuBench, numbers: int) -> float:
    """Gigabytes a second that a copy reads and writes."""
    x = torch.zeros(numbers, device=bench.device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / bench.milliseconds(lambda: y.copy_(x)) / 1e6
