"""Steps of a small run in float64, taken by one process or as one of two, and the second process of a test."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from support import training

from convnn.predictions import Predictions
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.evaluation import run_through
from convnn.training.prediction_meter import PredictionMeter
from convnn.training.process_group import ALONE, ProcessGroup
from convnn.training.state import build_train_state
from convnn.training.step_seed import step_seed
from convnn.training.trainer import Trainer
from convnn.training.whole_batch import WholeBatchNorm2d

STEPS = 6
CASES: dict[str, dict[str, Any]] = {
    "Conv2d": training.SMALL | {"limit": 40, "ema": 0.8, "bn_recalibrate": 2},
    # an uneven share of every micro-batch, and one of a single image: the second process has none
    "ConvNN": training.SMALL
    | {"layer": "ConvNN", "K": 4, "sampling_type": "random", "num_samples": 16, "limit": 33, "batch_size": 8}
    | {"accumulate": 3, "augment": True, "noise": 0.1, "clip_grad_norm": 0.1},
    "Branching": training.SMALL | {"layer": "Branching", "K": 4, "limit": 29, "batch_size": 7, "criterion": "MSE"},
    # cosines of few channels are equal but for rounding, which then chooses the neighbors
    "Branching_Attn": training.SMALL
    | {"layer": "Branching_Attn", "K": 4, "magnitude_type": "euclidean", "attention_dropout": 0.4, "augment": True}
    | {"sampling_type": "random", "num_samples": 12, "limit": 20, "batch_size": 3, "accumulate": 2},
}
Steps = tuple[list[float], list[float], dict[str, torch.Tensor], dict[str, float], Predictions | None]


def build_trainer(options: dict[str, Any], group: ProcessGroup, dtype: torch.dtype = torch.float64) -> Trainer:
    config, device = training.config(options, processes=group.size, threads=1), torch.device("cpu")
    training_device.configure_torch(config, device)
    data = build.data(config, device, share=group.share(config.training.accumulate))
    state = build_train_state(config, data, device, 0, group)
    for model in (state.model, state.ema):
        if model is not None:
            model.to(dtype)
    return Trainer(state, [], training_device.PeakMemory(device), group)


def take_steps(trainer: Trainer, count: int = STEPS) -> tuple[list[float], list[float]]:
    """Take steps from where the trainer is; return their losses and gradient norms."""
    state, position = trainer.state, trainer.state.position
    dtype = next(state.model.parameters()).dtype
    losses, norms = [], []
    state.model.train()
    for _ in range(count):
        if position.step == len(state.train_loader):
            position.epoch, position.step = position.epoch + 1, 0
        batches = state.train_loader.epoch(position.epoch, position.step)
        torch.manual_seed(step_seed(0, position.epoch, position.step))
        x, y = next(batches)
        loss, norm = trainer.train_step(x.to(dtype), y, trainer.group.proceed(len(y)))
        losses.append(loss.item())
        norms.append(norm.item())
        position.step += 1
        position.global_step += 1
    return losses, norms


def trained(options: dict[str, Any], group: ProcessGroup = ALONE) -> Steps:
    """Losses, gradient norms and weights of some steps in float64, then metrics and predictions in float32."""
    trainer = build_trainer(options, group)
    losses, norms = take_steps(trainer)
    weights = {name: value.clone() for name, value in trainer.state.model.state_dict().items()}
    if trainer.state.ema is not None:
        weights |= {f"ema.{name}": value.clone() for name, value in trainer.state.ema.module.state_dict().items()}
    metrics = trainer.state.meters.metrics("train")
    for model, _ in trainer.evaluated_models.values():
        model.float()
    meter = PredictionMeter(trainer.state.data.test.num_images)
    metrics |= run_through(trainer._evaluate(meter))
    predictions = meter.predictions(10, split="test", step=STEPS, epoch=None, group=group)
    return losses, norms, weights, metrics, predictions


def resumed(options: dict[str, Any], group: ProcessGroup) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights after some steps, and those of a trainer that goes on from the state in the middle of them."""
    whole = build_trainer(options, group, torch.float32)
    whole.preflight()  # the pass with which every process of a run begins
    take_steps(whole, 3)
    saved = whole.state.state_dict().copied(training_device.clones)
    take_steps(whole, 3)
    second = build_trainer(options, group, torch.float32)
    second.state.load_state_dict(saved)
    second.preflight()
    take_steps(second, 3)
    return dict(whole.state.model.state_dict()), dict(second.state.model.state_dict())


def steps_in_bf16(group: ProcessGroup) -> tuple[list[float], list[float]]:
    trainer = build_trainer(CASES["Conv2d"] | {"use_amp": True, "amp_dtype": "bf16"}, group, torch.float32)
    return take_steps(trainer, 3)


def normalized(
    x: torch.Tensor, rows: slice, group: ProcessGroup, *, by_torch: bool = False
) -> tuple[torch.Tensor, ...]:
    """BatchNorm over the rows of all processes: output, gradients of x, weight and bias, and running statistics."""
    norm: torch.nn.Module = torch.nn.BatchNorm2d(x.shape[1]).to(x)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, x.shape[1]))
    if by_torch:
        norm = torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    elif group.size > 1:
        norm = WholeBatchNorm2d(norm, group.rows)
        group.rows.start, group.rows.size = rows.start, len(x)
    own = x[rows].clone().requires_grad_()
    y = norm(own)
    (y.square() * torch.linspace(0, 1, x[0].numel()).to(y).view_as(x[0])).sum().backward()
    # compiled code expects what our operator returns at the beginning of its memory
    offsets = [parameter.grad.storage_offset() for parameter in norm.parameters()]
    assert offsets == [0, 0] or not isinstance(norm, WholeBatchNorm2d)
    grads = [group.sum(parameter.grad.clone()) for parameter in norm.parameters()]
    return y.detach(), own.grad, *grads, norm.running_mean, norm.running_var


def wide_batch(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Channels whose mean is a thousand times their deviation."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(7, 3, 4, 4, generator=generator, dtype=torch.float64) + 1000).to(dtype)


def second_process(store_path: str) -> None:
    """Be rank 1 of two: what rank 0 does in the tests, in the same order."""
    torch.set_num_threads(1)
    group = join(store_path, 1)
    for options in CASES.values():
        trained(options, group)
    resumed(CASES["Branching_Attn"], group)
    steps_in_bf16(group)
    for rows in (slice(4, 7), slice(7, 7)):
        normalized(wide_batch(), rows, group)
    dist.barrier()


def second_process_on_cuda(store_path: str) -> None:
    """Be rank 1 of two that share a GPU, which gloo allows."""
    group = join(store_path, 1)
    for by_torch in (False, True):
        normalized(wide_batch().cuda(), slice(4, 7), group, by_torch=by_torch)
    dist.barrier()


def join(store_path: str, rank: int) -> ProcessGroup:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    return ProcessGroup.join(dist.FileStore(store_path, 2), rank, 2, "cpu")


@contextmanager
def two_processes(store_path: str, second: Callable[[str], None] = second_process) -> Iterator[ProcessGroup]:
    """The group of this process and a second one, which does what `second` does."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=second, args=(store_path,), daemon=True)
    process.start()
    group = join(store_path, 0)
    try:
        yield group
    finally:
        process.kill()
        process.join()
        group.leave()
