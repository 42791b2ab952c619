"""One run as a stream of events. It neither prints nor writes nor knows who listens; to stop it, stop iterating.

Every yield is a moment between two steps, at which `state.taken` is whole; most yields are None and cost nothing.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convnn.config.schema import RunConfig
from convnn.costs.fit import shortage
from convnn.costs.plan import plan
from convnn.events import Epoch, Event, Finished, Started, Step, Warned
from convnn.metrics import Best, monitored
from convnn.training import build, device, preflight, state
from convnn.training.evaluation import autocast, evaluate
from convnn.training.meters import Stopwatch, Tally
from convnn.training.state import Plateau, Position, State

if TYPE_CHECKING:
    from convnn.data import LoadedDataset

SECONDS_PER_STEP_EVENT = 0.5
STEP_EVENTS_PER_EPOCH = 200


class Trainer:
    """Builds what a configuration asks for and trains it. Raises UserError for what a person can fix."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.device = device.device(config)
        self.position = Position()
        self.best: Best | None = None
        self.clock = Stopwatch()  # training in this epoch
        self.whole = Stopwatch().go()  # the run in this process
        self.warnings: list[str] = []

    def prepare(self, saved: State | None = None, *, fork: bool = False) -> Started:
        """Seed, build model and data, take over a saved state, compile; returns what there is to say of it.

        A `fork` may have another configuration than the saved state, and takes over what fits.
        """
        config = self.config
        device.settle(config, self.device)
        self.data: LoadedDataset = build.data(config, self.device)
        assert self.data.train is not None
        self.train = self.data.train
        free = device.free(self.device)  # before the model takes its part
        if said := shortage(config, self.data.image_size, len(self.data.classes), free):
            self.warnings.append(said)
        torch.manual_seed(config.training.seed)  # before the model is drawn, on the cpu: the same on every device
        self.model: nn.Module = build.model(config, len(self.data.classes)).to(self.device)
        self.optimizer = build.optimizer(config, self.model)
        self.scheduler = build.scheduler(config, self.optimizer)
        self.losses = build.losses(config)
        self.amp = device.amp_dtype(config, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp is torch.float16)
        self.tally = Tally(self.device)
        self.watched = monitored(validation=self.data.val is not None)
        if saved is not None:
            state.restore(self, saved, exactly=not fork or state.same(self, saved))
        self.network: nn.Module = build.compiled(config, self.model) if config.runtime.compile else self.model
        tried = preflight.try_out(self, measure=saved is None)
        if saved is None:  # a resumed run said so when it started
            self.warnings += [*self.data.notes, *tried.notes]
        return self._started(tried.graphs)

    def run(self, saved: State | None = None, *, fork: bool = False) -> Iterator[Event | None]:
        """The run from its start, or from a saved state, to its end."""
        yield self.prepare(saved, fork=fork)
        for warning in self.warnings:
            yield Warned(message=warning)
        while self.position.epoch <= self.config.training.num_epochs:
            if (cause := (yield from self._train())) is not None:
                yield Finished(outcome="diverged", cause=f"{cause} (epoch {self.position.epoch})")
                return
            yield from self._finish_epoch()
        yield Finished(outcome="done")

    # -- an epoch ---------------------------------------------------------------------------------------------------

    def _train(self) -> Generator[Event | None, None, str | None]:
        """The steps that are left of this epoch; returns what is not finite any more, and since which step."""
        position, steps = self.position, len(self.train)
        self.model.train()
        self.clock.go()
        due = position.step
        told, told_images = time.monotonic(), self.tally.images
        batches = self.train.epoch(position.epoch, position.step)
        while position.step < steps:
            torch.manual_seed(step_seed(self.config.training.seed, position.epoch, position.step))
            x, y = next(batches)
            loss, norm = self._step(x, y)
            position.step += 1
            position.total += 1
            now = time.monotonic()
            if position.total > 1 and (now - told < SECONDS_PER_STEP_EVENT or position.step < due):
                yield None
                continue
            if (cause := self._bad_loss()) is not None:
                return cause
            speed = (self.tally.images - told_images) / max(time.monotonic() - told, 1e-9)
            yield self._step_event(loss, norm, speed)
            told, told_images = time.monotonic(), self.tally.images
            due = position.step + max(1, steps // STEP_EVENTS_PER_EPOCH)
        return self.diverged()

    def diverged(self) -> str | None:
        """What is not finite any more, loss or weights, and since which step; None if all is. Waits for the device."""
        if (cause := self._bad_loss()) is not None or state.finite(self.model):
            return cause
        return f"the weights are not finite after step {self.position.total}"

    def _bad_loss(self) -> str | None:
        step = self.tally.first_bad()
        return None if step is None else f"the loss is not finite since step {step}"

    def _step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the optimizer on x (B, C, H, W) and y (B,); its mean loss and gradient norm, on the device."""
        total = torch.zeros((), device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        parts = min(self.config.training.accumulate, len(y))
        for xs, ys in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            with autocast(self.device, self.amp):
                logits = self.network(xs)
            losses = self.losses(logits, ys)
            loss = losses.sum() / len(y)
            self.scaler.scale(loss).backward()
            self.tally.add(losses.detach(), logits.detach(), ys, self.position.total + 1)
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.tally.add_norm(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total, norm

    def _clip(self) -> Tensor:
        """The global norm of the gradient before clipping."""
        limit = self.config.training.clip_grad_norm
        if limit > 0:
            return nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    def _finish_epoch(self) -> Iterator[Event | None]:
        """Evaluate, step the schedule, and move on to the next epoch; yields the Epoch event."""
        train = self.tally.figures("train")
        self.clock.stop()
        epoch, train_s = self.position.epoch, self.clock.seconds()
        metrics, watch = dict(train), Stopwatch().go()
        for split, batches in (("val", self.data.val), ("test", self.data.test)):
            if batches is not None:
                how = self.losses, self.device, self.amp
                metrics |= yield from evaluate(self.network, batches, *how, split, seed=self.config.training.seed)
        metrics |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": self.tally.images / max(train_s, 1e-9),
            "train_s": train_s,
            "eval_s": watch.seconds(),
            "peak_bytes": device.peak_bytes(self.device),
        }
        if self.best is None or metrics[self.watched] > self.best.value:
            self.best = Best(self.watched, metrics[self.watched], epoch)
        if isinstance(self.scheduler, Plateau):
            self.scheduler.step(metrics[self.watched])
        elif self.scheduler is not None:
            self.scheduler.step()
        self.tally, self.clock = Tally(self.device), Stopwatch()
        self.position.epoch, self.position.step = epoch + 1, 0
        yield Epoch(epoch=epoch, step=self.position.total, metrics=metrics)

    # -- what is told -----------------------------------------------------------------------------------------------

    def _step_event(self, loss: Tensor, norm: Tensor, speed: float) -> Step:
        return Step(
            epoch=self.position.epoch,
            step=self.position.total,
            loss=loss.item(),
            lr=self.optimizer.param_groups[0]["lr"],
            grad_norm=norm.item(),
            images_per_s=speed,
        )

    def _started(self, graphs: dict[str, int] | None) -> Started:
        config, data = self.config, self.data
        splits = {"train": data.train, "val": data.val, "test": data.test}
        cost = plan(config, data.image_size, len(data.classes))
        compiled = {"mode": config.runtime.compile_mode, **graphs} if graphs else None
        return Started(
            versions={"python": platform.python_version(), **device.versions()},
            device=device.describe(self.device),
            threads=torch.get_num_threads(),
            git_commit=device.git_commit(),
            host=platform.node(),
            seed=config.training.seed,
            normalisation={"mean": data.mean, "std": data.std},
            classes=data.classes,
            num_classes=len(data.classes),
            image_size=(3, *data.image_size),
            images={name: split.num_images for name, split in splits.items() if split is not None},
            parameters=sum(p.numel() for p in self.model.parameters()),
            trainable_parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            flops=cost.flops,
            memory_bytes=cost.memory_bytes,
            epochs=config.training.num_epochs,
            steps_per_epoch=len(self.train),
            amp={"mode": "autocast", "dtype": str(self.amp).removeprefix("torch.")} if self.amp else None,
            compile=compiled,
        )


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The seed of a step's random numbers: a hash of (seed, epoch, step), so that it needs no history."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{step}".encode()).digest()[:8], "big") >> 1
