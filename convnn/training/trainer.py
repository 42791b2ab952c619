"""Training as a generator of events: it neither prints nor writes; to stop it, stop iterating.

Every yield lies between two steps, where `TrainState.state_dict` is complete; most yields are None and cost nothing.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor, nn

from convnn import hardware, predictions
from convnn.config.schema import RunConfig
from convnn.costs.memory_fit import ModelMemoryError, is_out_of_memory, shortage
from convnn.costs.plan import plan
from convnn.data.catalog import DATASETS
from convnn.data.share import part_sizes
from convnn.data.splits import small_last_batch
from convnn.errors import UserError
from convnn.events import Epoch, Event, Finished, Started, Step, Warned
from convnn.metrics import Best
from convnn.predictions import Predictions
from convnn.presets.rules import early_stop_problem
from convnn.repository.head import git_commit
from convnn.system_metrics import SystemMonitor
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.evaluation import Evaluator
from convnn.training.graphed_pass import GraphedPass, pays
from convnn.training.layer_statistics import LayerObserver
from convnn.training.meters import DataLoadingShare, Meters, Stopwatch
from convnn.training.prediction_meter import PredictionMeter
from convnn.training.preflight import PreflightReport, preflight
from convnn.training.process_group import ALONE, ProcessGroup
from convnn.training.shared_update import TrainedTensors
from convnn.training.state import StateDict, TrainState, build_train_state, saved_split_seed, versions
from convnn.training.step_seed import seed_generators, step_seed

SECONDS_PER_STEP_EVENT = 0.5
STEP_EVENTS_PER_EPOCH = 200


class Trainer:
    """Trains a state to the last epoch of its configuration."""

    def __init__(
        self,
        state: TrainState,
        warnings: Sequence[str],
        peak_memory: training_device.PeakMemory,
        group: ProcessGroup = ALONE,
    ) -> None:
        config = state.config
        self.state, self.config, self.warnings = state, config, tuple(warnings)
        self.device, self.peak_memory = state.device, peak_memory
        self._step_event_time = time.monotonic()  # of the last one: epochs may be shorter than the time between two
        self.system = SystemMonitor(training_device.gpu_uuid(state.device))
        self.group, self.loss_fn = group, build.loss_fn(config)
        self.training_loss_fn = build.loss_fn(config, config.training.label_smoothing)
        self.amp = training_device.amp_dtype(config, state.device)
        self.trained = TrainedTensors(state.model)
        self.graphed_pass = self._graphed_pass()
        self.compiled_model = build.compiled(config, state.model)
        self.layers = LayerObserver(config, state.data, state.model, self.loss_fn, state.device, self.amp)
        # each with its compiled form, by what the names of their metrics begin with
        self.evaluated_models = {"": (state.model, self.compiled_model)}
        if state.ema is not None:
            average = state.ema.module
            self.evaluated_models["ema_"] = average, build.compiled(config, average)
        self.evaluator = Evaluator(self.loss_fn, state.device, self.amp, config.training.seed, group)
        self.parallel_model = group.parallel(self.compiled_model)

    def _graphed_pass(self) -> GraphedPass | None:
        """Return the pass that a CUDA graph will run; None where it would not pay."""
        data, config = self.state.data, self.config
        if not pays(config, self.device, lambda: plan(config, data.image_size, len(data.classes)).flops):
            return None
        return GraphedPass(lambda x, y: self._run_pass(x, y, len(y)), self.state.model, config.training.batch_size)

    @classmethod
    def from_config(cls, config: RunConfig, saved: StateDict | None = None, *, group: ProcessGroup = ALONE) -> Trainer:
        """Open the data and build the trainer of a new run, or of one that goes on from a saved state.

        Raises UserError for what a person can fix.
        """
        device = training_device.select_device(config)
        training_device.configure_torch(config, device)
        seed = config.training.seed
        split_seed = seed if saved is None else saved_split_seed(saved.plain, seed)
        with group.leader_first(needed=DATASETS[config.data.dataset].download is not None):
            share = group.share(config.training.accumulate)
            data = build.data(config, device, split_seed=split_seed, share=share)
        if problem := early_stop_problem(config, validation=data.val is not None):
            raise UserError(problem)
        free = training_device.free_memory(device)  # before the model takes its part
        warnings = []
        if warning := shortage(config, data.image_size, len(data.classes), free):
            warnings.append(warning)
        peak_memory = training_device.PeakMemory(device)
        try:
            state = build_train_state(config, data, device, split_seed, group)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise ModelMemoryError(data.image_size, len(data.classes)) from error
            raise
        if saved is not None and saved.begins_fork:
            state.load_fork(saved)
            if redrawn := " and ".join(state.redrawn_splits(saved)):
                warnings.append(
                    f"the images are not those of the run that this one goes on from: its {redrawn} images are drawn "
                    "anew, and the model may have trained on some; split folders (train/, test/) keep them apart"
                )
        elif saved is not None:
            state.load_state_dict(saved)
        return cls(state, warnings, peak_memory, group)

    def run(self) -> Iterator[Event | None]:
        """Yield Started, then an event or None after each step and each evaluated batch, and Finished in the end.

        While a batch is waited for it yields None several times a second.
        """
        new = self.state.position.global_step == 0
        report = self.preflight(time_amp=new and self.amp is not None and self.device.type == "cpu")
        yield self._started(report.graphs)
        for warning in self.warnings:
            yield Warned(message=warning)
        if new:  # a resumed run reported them when it started
            for note in self.state.data.notes:
                yield Warned(message=note, level="note")
            training, num_images = self.config.training, self.state.train_loader.num_images
            small_batch = small_last_batch(num_images, training.batch_size, drop_last=training.drop_last)
            for warning in filter(None, [*self.state.data.warnings, *report.notes, small_batch]):
                yield Warned(message=warning)
        with self.system:
            while not self.state.is_complete:
                if (cause := (yield from self._train_epoch())) is not None:
                    yield Finished(outcome="diverged", cause=f"{cause} (epoch {self.state.position.epoch})")
                    return
                yield from self._finish_epoch()
                yield from self._read_warnings()
        yield Finished(outcome="done", cause="early stop" if self.state.stopped_early else "")

    # -- a step -----------------------------------------------------------------------------------------------------

    def train_step(self, x: Tensor, y: Tensor, images: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Take an optimizer step on x (B, C, H, W), y (B,); return mean loss and gradient norm, on the device.

        `images` are those of each process, of which this one's are here; without it there is no other process.
        """
        state = self.state
        if images is None:
            images = [len(y)]
        batch_size = sum(images)
        total = torch.zeros((), device=self.device)
        self._reset_gradients()
        count = min(self.config.training.accumulate, batch_size)
        sizes = zip(*(part_sizes(own, count) for own in images), strict=True)  # of each micro-batch, by process
        micro_batches = zip(x.tensor_split(count), y.tensor_split(count), sizes, strict=True)
        for number, (xs, ys, rows) in enumerate(micro_batches, start=1):
            size = self.group.set_rows(rows)
            with self.group.backward_pass(self.parallel_model, sums=number == count):
                if self.graphed_pass is None:
                    losses, logits = self._run_pass(xs, ys, batch_size)
                else:
                    losses, logits = self.graphed_pass(xs, ys)
            sums = self.group.sum(state.meters.batch_sums(losses, logits, ys))
            state.meters.add_sums(sums, size, state.position.global_step + 1)
            total += sums[0].to(total.dtype) / batch_size
        state.scaler.unscale_(state.optimizer)
        norm = self._clip_gradient()
        state.meters.add_norm(norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        return total, norm

    def _run_pass(self, x: Tensor, y: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of the losses over `batch_size`; return losses (B,) and logits (B, classes)."""
        with training_device.autocast(self.device, self.amp):
            logits = self.parallel_model(x)
        losses = self.training_loss_fn(logits, y)
        self.state.scaler.scale(losses.sum() / batch_size).backward()
        return losses.detach(), logits.detach()

    def _reset_gradients(self) -> None:
        """Drop the gradients, or zero them where CUDA graphs would overwrite those of an earlier micro-batch.

        A gradient that a graph returns is the parameter's own until the graph runs again; one that exists before is
        added to.
        """
        if self.config.training.accumulate == 1 or not build.captures_graphs(self.config):
            self.state.optimizer.zero_grad(set_to_none=True)
            return
        for tensor in self.trained.tensors:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
        self.state.optimizer.zero_grad(set_to_none=False)

    def _clip_gradient(self) -> Tensor:
        """Return the global norm of the gradient before clipping."""
        limit, norm = self.config.training.clip_grad_norm, self.trained.gradient_norm()
        # meta: tensors without data, with which a step of a GPU is counted
        clips_in_step = self.device.type in ("cuda", "meta") and not self.state.scaler.is_enabled()
        if limit > 0 and clips_in_step:
            build.clip_in_step(self.state.optimizer, norm, limit)
        elif limit > 0:
            nn.utils.clip_grads_with_norm_(self.trained.tensors, limit, norm)
        return norm

    # -- an epoch ---------------------------------------------------------------------------------------------------

    def _train_epoch(self) -> Generator[Event | None, None, str | None]:
        """Take the steps that are left of this epoch; return what diverged, None where all is finite."""
        state, loader = self.state, self.state.train_loader
        position, steps = state.position, len(loader)
        state.model.train()
        state.epoch_timer.start()
        next_event_step = position.step
        speed_time, speed_images = time.monotonic(), state.meters.images
        loading = DataLoadingShare(state.epoch_timer)
        with closing(loader.poll_epoch(position.epoch, position.step)) as batches:
            while position.step < steps:
                seed_generators(step_seed(self.config.training.seed, position.epoch, position.step), self.device)
                with loading:
                    batch = next(batches)
                if batch is None:  # not ready
                    yield None
                    continue
                step = self._take_step(*batch)
                yield from self._graph_warning()
                seconds = time.monotonic() - self._step_event_time
                is_due = position.step >= next_event_step and seconds >= SECONDS_PER_STEP_EVENT
                if step is None or self.group.rank or not (is_due or position.global_step == 1):
                    yield None
                    continue
                if (cause := state.loss_diverged()) is not None:
                    return cause
                speed = (state.meters.images - speed_images) / max(time.monotonic() - speed_time, 1e-9)
                yield self._step_event(*step, speed, loading.take())
                speed_time, speed_images = time.monotonic(), state.meters.images
                self._step_event_time = speed_time
                next_event_step = position.step + max(1, steps // STEP_EVENTS_PER_EPOCH)
        return state.diverged()

    def _take_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Take a step of the epoch; return what `train_step` does, None where no process can read an image of it."""
        images = self.group.proceed(len(y))
        step = self.train_step(x, y, images) if sum(images) else None
        self.state.position.step += 1
        self.state.position.global_step += 1
        return step

    def _finish_epoch(self) -> Iterator[Event | None]:
        """Evaluate, step the schedule and move on to the next epoch; yield the Epoch event."""
        state = self.state
        metrics = state.meters.metrics("train")
        state.epoch_timer.stop()
        epoch, train_s = state.position.epoch, state.epoch_timer.seconds()
        eval_timer = Stopwatch().start()
        test, test_predictions = state.data.test, None
        if test is not None and predictions.fits(test.num_images):
            test_predictions = PredictionMeter(test.num_images)
        metrics |= yield from self._evaluate(test_predictions)
        metrics |= {
            "lr": self._lr(),
            "images_per_s": state.meters.images / max(train_s, 1e-9),
            "train_s": train_s,
            "eval_s": eval_timer.seconds(),
            "peak_bytes": self.peak_memory.bytes(),
        }
        monitored = metrics[state.monitor]
        is_last = state.is_last_epoch(epoch, monitored)
        if self.group.rank == 0 and self.layers.due(state.layer_statistics, epoch, is_last=is_last):
            statistics, later_statistics = self.layers.take(
                state.layer_statistics,
                epoch=epoch,
                step=state.position.global_step,
                epoch_seconds=train_s + metrics["eval_s"],
                loss_scale=state.scaler.get_scale(),
            )
            yield statistics
            state.layer_statistics = later_statistics  # from here to the next epoch nothing is saved
        if state.is_improvement(monitored):
            state.best = Best(state.monitor, monitored, epoch)
            state.best_predictions = self._predictions(test_predictions)
        state.schedule.step(monitored)
        state.meters, state.epoch_timer = Meters(self.device), Stopwatch()
        state.position.epoch, state.position.step = epoch + 1, 0
        yield Epoch(epoch=epoch, step=state.position.global_step, metrics=metrics)

    def _evaluate(self, test_predictions: PredictionMeter | None) -> Generator[None, None, dict[str, float]]:
        """Evaluate each model on each split and return the metrics; running statistics are taken anew if configured.

        `test_predictions` gathers what the model itself, not its moving average, gives for the test images.
        """
        data, batches = self.state.data, self.config.training.bn_recalibrate
        metrics: dict[str, float] = {}
        for prefix, (model, compiled_model) in self.evaluated_models.items():
            if batches:
                yield from self.evaluator.recalibrate(model, self.state.train_loader, batches)
            for split, loader in (("val", data.val), ("test", data.test)):
                if loader is not None:
                    name = f"{prefix}{split}"
                    predictions_of_split = test_predictions if name == "test" else None
                    metrics |= yield from self.evaluator.evaluate(compiled_model, loader, name, predictions_of_split)
        return metrics

    def _lr(self) -> float:
        lr: float = self.state.optimizer.param_groups[0]["lr"]
        return lr

    # -- before the first step, and events --------------------------------------------------------------------------

    def preflight(self, *, time_amp: bool = False) -> PreflightReport:
        """Compile what is compiled, and return what is known before the first step, which it does not change.

        Raises UserError where nothing can be compiled.
        """
        compiles, is_parallel = self.config.runtime.compile, self.group.size > 1
        if not compiles and not time_amp and not is_parallel:
            return PreflightReport()
        return preflight(
            self.state.model,
            self.training_loss_fn,
            self._random_batch(),
            self.amp,
            compiled_model=self.compiled_model if compiles else None,
            parallel_model=self.parallel_model if is_parallel else None,
            time_amp=time_amp,
        )

    def _random_batch(self) -> tuple[Tensor, Tensor]:
        """Return noise and labels in the shape of this process's part of a micro-batch: (B, C, H, W), (B,)."""
        training, data, group = self.config.training, self.state.data, self.group
        size = -(-min(training.batch_size, self.state.train_loader.num_images) // training.accumulate)
        sizes = part_sizes(size, group.size)
        group.set_rows(sizes)
        x = torch.randn(sizes[group.rank], 3, *data.image_size, device=self.device)
        return x, (group.rows.start + torch.arange(len(x), device=self.device)) % len(data.classes)

    def _read_warnings(self) -> Iterator[Warned]:
        """Yield what reading the images has raised since the last epoch."""
        messages: list[str] = []
        for loader in self.state.data.splits.values():
            messages += loader.warnings
            loader.warnings = []
        for part in self.group.gather(json.dumps(messages)):
            for message in json.loads(part):
                yield Warned(message=message)

    def _graph_warning(self) -> Iterator[Warned]:
        if self.graphed_pass is not None and self.graphed_pass.problem is not None:
            yield Warned(message=f"{self.graphed_pass.problem}; steps are launched kernel by kernel")
            self.graphed_pass = None

    def _predictions(self, meter: PredictionMeter | None) -> Predictions | None:
        """Return the predictions of the epoch that has just been evaluated, of all processes."""
        if meter is None:
            return None
        data, position = self.state.data, self.state.position
        return meter.predictions(
            len(data.classes),
            split="test",
            step=position.global_step,
            epoch=position.epoch,
            bn_recalibrate=self.config.training.bn_recalibrate,
            digest=data.digests.get("test"),
            group=self.group,
        )

    def _step_event(self, loss: Tensor, norm: Tensor, images_per_s: float, data_loading: float) -> Step:
        position = self.state.position
        self.peak_memory.update()
        return Step(
            epoch=position.epoch,
            step=position.global_step,
            loss=loss.item(),
            lr=self._lr(),
            grad_norm=norm.item(),
            images_per_s=images_per_s,
            system={"data_loading": round(data_loading, 1), **self.system.take()},
        )

    def _started(self, graphs: dict[str, int] | None) -> Started:
        config, data, parameters = self.config, self.state.data, list(self.state.model.parameters())
        cost = plan(config, data.image_size, len(data.classes))
        return Started(
            versions={"python": platform.python_version(), **versions()},
            device=training_device.describe(self.device),
            threads=torch.get_num_threads(),
            processes=self.group.size if self.group.size > 1 else None,
            git_commit=git_commit(),
            host=hardware.host_name(),
            seed=config.training.seed,
            normalisation={"mean": data.mean, "std": data.std},
            classes=data.classes,
            num_classes=len(data.classes),
            image_size=(3, *data.image_size),
            images={name: split.num_images for name, split in data.splits.items()},
            data_path=build.data_path(config),
            data_digest=dict(data.digests),
            parameters=sum(p.numel() for p in parameters),
            trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
            flops=cost.flops,
            memory_bytes=cost.memory_bytes,
            epochs=config.training.num_epochs,
            steps_per_epoch=len(self.state.train_loader),
            amp={"mode": "autocast", "dtype": str(self.amp).removeprefix("torch.")} if self.amp else None,
            cuda_graph=self.graphed_pass is not None,
            matmul=training_device.float32_products(config, self.device),
            compile={"mode": config.runtime.compile_mode, **graphs} if graphs else None,
        )
