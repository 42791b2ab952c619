"""What every stage gets: the device, the size of its cases, its time, and how to time and try work."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import plain, step
from convnn.config.options import BY_NAME
from convnn.config.schema import RunConfig
from convnn.presets.resolve import resolve
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.state import initial_state
from convnn.training.trainer import Trainer

CLASSES = 10
SIDE = 32
WARM_UP, REPEATS = 3, 20  # calls before those that are timed, and calls timed unless the time runs out
ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("Conv2d", "ConvNN", "Branching", "ConvNN_Attn", "Branching_Attn")
PRODUCTS = ("fp32", "tf32", "bf16")  # how products of matrices are computed in training


class DeviceLostError(RuntimeError):
    """The card refuses all work after a fault; only a new process can use it again."""


@dataclass
class GpuBench:
    """A stage's view of the benchmark."""

    device: torch.device
    small: bool = False  # cases that a CPU can compute
    deadline: float = field(default_factory=lambda: time.time() + 3600)  # of the stage, as time.time()

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def seconds_left(self) -> float:
        return self.deadline - time.time()

    def size(self, full: int, small: int) -> int:
        return small if self.small else full

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Return what the work returns, or the text of its error. Raises DeviceLostError where the card is lost."""
        try:
            result = work()
            self.synchronize()
        except Exception as error:
            self.check_device()
            return error_text(error)
        return result

    def check_device(self) -> None:
        """Raise DeviceLostError if the card does not answer."""
        try:
            self.synchronize()
        except Exception as error:
            raise DeviceLostError(error_text(error)) from error

    def milliseconds(self, work: Callable[[], object], seconds: float = 3.0) -> float:
        """Median milliseconds of a call, in at most so many seconds."""
        for _ in range(WARM_UP if self.is_cuda else 1):
            work()
        self.synchronize()
        times: list[float] = []
        end = time.monotonic() + seconds
        while len(times) < self.size(REPEATS, 2) and (not times or time.monotonic() < end):
            times.append(self._milliseconds_of_call(work))
        return median(times)

    def _milliseconds_of_call(self, work: Callable[[], object]) -> float:
        if not self.is_cuda:
            start_s = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - start_s)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    def host_milliseconds(self, work: Callable[[], object], calls: int = 5) -> float:
        """Mean milliseconds that the host takes to queue a call."""
        self.synchronize()
        start_s = time.perf_counter()
        for _ in range(calls):
            work()
        host_ms = 1e3 * (time.perf_counter() - start_s) / calls
        self.synchronize()
        return host_ms


def error_text(error: BaseException) -> str:
    """The error in a line, with the innermost line of ours."""
    lines = [f"{type(error).__name__}:", *str(error).strip().splitlines()[:2]]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "convnn/" in frame.filename]
    if frames:
        lines.append(f"({Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].line})")
    return " ".join(lines)[:400]


def set_products(kind: str) -> None:
    """Compute float32 products and convolutions of CUDA in float32 ("fp32", "bf16") or in TF32 ("tf32")."""
    training_device.set_float32_products("tf32" if kind == "tf32" else "fp32")


def config(device: torch.device, **options: Any) -> RunConfig:
    """The configuration with these options, by name, and defaults otherwise; steps are launched kernel by kernel."""
    values = {"device": device.type if device.type != "meta" else "cpu", "cuda_graph": "off", **options}
    return resolve(None, {BY_NAME[name].key: str(value) for name, value in values.items()}).checked()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of the expected values."""
    difference = actual.detach().double().cpu() - expected.detach().double().cpu()
    return float(difference.norm() / expected.detach().double().norm().cpu().clamp_min(1e-30))


def two_slots(settings: RunConfig) -> nn.Module:
    """A network of two slots of the configured layer, which is compiled in seconds."""
    conv = build.conv(settings)
    channels = (3, 32, 32)
    parts: list[nn.Module] = []
    for before, after in pairwise(channels):
        parts += [conv(before, after), nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels[-1] * (SIDE // 4) ** 2, CLASSES))


def configured_model(settings: RunConfig) -> nn.Module:
    """The configured model, as the product builds it."""
    return build.model(settings, CLASSES)


def trainer_of(
    settings: RunConfig, device: torch.device, make_model: Callable[[RunConfig], nn.Module] = configured_model
) -> Trainer:
    """A trainer without data, for `train_step` on random images."""
    training_device.configure_torch(settings, device)
    torch.manual_seed(0)
    model = make_model(settings).to(device)
    if device.type == "meta":  # tensors without data stand for those of a card
        model.to(memory_format=torch.channels_last)
    model.train()
    data: Any = SimpleNamespace(image_size=(SIDE, SIDE))
    state = initial_state(settings, data, device, model, settings.training.seed)
    return Trainer(state, [], training_device.PeakMemory(device))


def plain_model(settings: RunConfig) -> nn.Module:
    """The plain implementation of VGG11 with the configured layer."""
    return plain.vgg11(PLAIN_LAYERS[settings.layer.type], CLASSES, settings.model.width)


PLAIN_LAYERS: Mapping[str, Callable[[int, int], nn.Module]] = step.PLAIN | {"ConvNN_Attn": plain.ConvNNAttention2d}


def random_batch(batch: int, device: torch.device, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Noise and labels. -> (B, 3, side, side), (B,)"""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, side, side, generator=generator)
    return x.to(device), torch.arange(batch, device=device) % CLASSES
