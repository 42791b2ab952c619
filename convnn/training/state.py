"""The state of a training run: what a checkpoint saves between two steps and a resumed run loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from convnn.config.active import active_options
from convnn.config.diff import config_diff
from convnn.config.schema import RunConfig
from convnn.errors import Exit, UserError
from convnn.metrics import Best, monitored
from convnn.predictions import Predictions
from convnn.training import build
from convnn.training import device as training_device
from convnn.training.layer_statistics import StatisticsState
from convnn.training.meters import Meters, Stopwatch
from convnn.training.optimizer_state import checked_state, is_number, load_counters, load_scale, saved_rates
from convnn.training.process_group import ALONE, ProcessGroup
from convnn.training.schedule import Schedule
from convnn.training.shared_update import heads
from convnn.version import version

if TYPE_CHECKING:
    from convnn.data import LoadedDataset
    from convnn.data.loaders import Loader

LARGEST_STEP = 10**15  # names of checkpoints have no more digits
Plateau = torch.optim.lr_scheduler.ReduceLROnPlateau


@dataclass(frozen=True)
class StateDict:
    """What a checkpoint holds: tensors by name, and everything else as JSON."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] | None  # None in the checkpoints of a finished run
    plain: Mapping[str, Any]
    ema: Mapping[str, Tensor] | None = None  # the moving average of the model, of a run that keeps one

    @property
    def parts(self) -> dict[str, Mapping[str, Tensor]]:
        """The groups of tensors that there are, in the order in which they are written."""
        parts = {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}
        return {name: tensors for name, tensors in parts.items() if tensors is not None}

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensors in self.parts.values() for tensor in tensors.values())

    def copied(self, copy: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]) -> StateDict:
        """Return the state with copies of its tensors, which training does not change."""
        return replace(self, **{name: copy(tensors) for name, tensors in self.parts.items()})

    @property
    def begins_fork(self) -> bool:
        """Whether it is the state of another run, whose configuration may differ."""
        return "forked" in self.plain


@dataclass
class Position:
    """How far a run is, between two steps."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    global_step: int = 0  # steps done in the run
    elapsed: float = 0.0  # seconds of the run in earlier processes

    def state_dict(self, elapsed: float) -> dict[str, Any]:
        # keys of state.json, whose format is frozen
        return {"epoch": self.epoch, "step": self.step, "total": self.global_step, "elapsed": elapsed}

    @classmethod
    def from_state_dict(cls, values: Mapping[str, Any]) -> Position:
        """Return the saved position. Raises KeyError or ValueError where it is none."""
        epoch, step, global_step = counts = values["epoch"], values["step"], values["total"]
        if any(type(count) is not int or not 0 <= count < LARGEST_STEP for count in counts) or epoch == 0:
            raise ValueError("the position is not an epoch and its steps")
        if not is_number(values["elapsed"]) or values["elapsed"] < 0:
            raise ValueError("the time of the position is not a number of seconds")
        return cls(epoch, step, global_step, values["elapsed"])


@dataclass
class TrainState:
    """All that training changes, with the configuration and the data that it depends on."""

    config: RunConfig
    data: LoadedDataset
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    meters: Meters  # of this epoch
    ema: AveragedModel | None
    split_seed: int  # that the images were drawn with: of a fork, that of the run it goes on from
    position: Position = field(default_factory=Position)
    best: Best | None = None
    best_predictions: Predictions | None = None  # of the best epoch in this process, on the test images; not saved
    layer_statistics: StatisticsState = field(default_factory=StatisticsState)
    patience_epoch: int = 0  # the epoch that early stopping counts from, unless a better one followed
    epoch_timer: Stopwatch = field(default_factory=Stopwatch)  # training in this epoch
    run_timer: Stopwatch = field(default_factory=lambda: Stopwatch().start())  # the run in this process

    @property
    def train_loader(self) -> Loader:
        assert self.data.train is not None
        return self.data.train

    @property
    def monitor(self) -> str:
        """The metric that decides which epoch is best and when the plateau schedule cuts the learning rate."""
        return monitored(validation=self.data.val is not None)

    @property
    def is_complete(self) -> bool:
        """Whether no epoch is left to train."""
        return self.position.epoch > self.config.training.num_epochs or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the monitored metric has not improved in the last `early_stop` epochs, and epochs would be left."""
        done, epochs = self.position.epoch - 1, self.config.training.num_epochs
        return done < epochs and self._is_out_of_patience(done)

    def is_improvement(self, value: float) -> bool:
        """Return whether a value of the monitored metric is better than that of all epochs so far."""
        return self.best is None or value > self.best.value

    def is_last_epoch(self, epoch: int, value: float) -> bool:
        """Return whether the run ends after an epoch with this value of the monitored metric."""
        if epoch == self.config.training.num_epochs:
            return True
        return not self.is_improvement(value) and self._is_out_of_patience(epoch)

    def _is_out_of_patience(self, epoch: int) -> bool:
        patience = self.config.training.early_stop
        latest_better = max(self.patience_epoch, self.best.epoch if self.best else 0)
        return patience is not None and epoch - latest_better >= patience

    def state_dict(self) -> StateDict:
        """Return the state; its tensors are the model's and the optimizer's own, not copies."""
        optimizer = self.optimizer.state_dict()
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, values in optimizer["state"].items():
            for name, value in values.items():
                (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{name}"] = value
        plain = {  # the keys are those of state.json, whose format is frozen: "tally" for the meters
            "position": self.position.state_dict(self.position.elapsed + self.run_timer.seconds()),
            "best": self.best._asdict() if self.best else None,
            "tally": self.meters.state_dict(),
            "train_s": self.epoch_timer.seconds(),
            "optimizer": {"groups": optimizer["param_groups"], "numbers": numbers},
            **self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "seed": self.config.training.seed,
            "split_seed": self.split_seed,
            "config": active_options(self.config),
            "data": _describe(self.data),
            "machine": self.machine(),
            "versions": versions(),
        }
        if self.layer_statistics.neighbors:
            plain["layer_statistics"] = self.layer_statistics.state_dict()
        if self.config.training.early_stop is not None:
            plain["patience_epoch"] = self.patience_epoch
        average = None
        if self.ema is not None:
            plain["ema"] = {"n_averaged": int(self.ema.n_averaged)}
            average = dict(self.ema.module.state_dict())
        return StateDict(dict(self.model.state_dict()), tensors, plain, average)

    def load_state_dict(self, saved: StateDict) -> None:
        """Go on exactly where the saved state was. Raises UserError where it does not fit the model or the data."""
        try:
            load_weights(self.model, saved.model)
            self._check_data(saved.plain["data"])
            self._load_exactly(saved)
        except LOAD_ERRORS as error:
            raise _misfit(str(error), Exit.STORAGE) from error

    def load_fork(self, saved: StateDict) -> None:
        """Go on from the state of another run, whose configuration may differ.

        Where only the number of epochs or early stopping differs it goes on exactly, but for a cosine schedule, which
        spans all epochs.
        Under another configuration or on other images it takes over the weights, what the same optimizer remembers, and
        the epoch, which begins anew; the learning rate follows the new configuration, but where the same plateau
        schedule has cut it. Early stopping counts its epochs from here on. Raises UserError where the weights do not
        fit the model.
        """
        try:
            load_weights(self.model, saved.model)
            if self._continues(saved):
                self._load_exactly(saved)
                if saved.plain["config"]["training.num_epochs"] != self.config.training.num_epochs:
                    self._stretch_schedule()
            else:
                self._load_what_fits(saved)
            self.patience_epoch = self.position.epoch - 1
        except LOAD_ERRORS as error:
            raise _misfit(str(error), Exit.USAGE) from error

    def redrawn_splits(self, saved: StateDict) -> list[str]:
        """Return which of the splits that are drawn from other images have changed since the run that was forked.

        They may hold images that it trained on. Options that draw fewer of the same images change no split in that way.
        """
        config, digests = saved.plain["config"], saved.plain["data"].get("digest") or {}
        section = self.config.data
        if (config.get("data.dataset"), config.get("data.limit"), config.get("data.resize")) != (
            section.dataset,
            section.limit,
            section.resize,
        ):
            return []
        drawn = ["test"] if self.data.draws_test else []
        if section.val_share > 0 and config.get("data.val_share") == section.val_share:
            drawn.append("val")
        return [split for split in drawn if digests.get(split, self.data.digests[split]) != self.data.digests[split]]

    def machine(self) -> dict[str, Any]:
        """Return what results may depend on beside the configuration: where it agrees, two runs agree bit for bit."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        return {
            "device": training_device.describe(self.device),
            "threads": threads,
            "torch": torch.__version__,
            "processes": self.config.runtime.processes,
        }

    def diverged(self) -> str | None:
        """Return since which step the loss or the weights are not finite; else None. Syncs with the device."""
        if (cause := self.loss_diverged()) is not None:
            return cause
        return None if is_finite(self.model) else f"the weights are not finite after step {self.position.global_step}"

    def loss_diverged(self) -> str | None:
        """Return since which step of this epoch the loss is not finite; else None. Syncs with the device."""
        step = self.meters.first_nonfinite_step()
        return None if step is None else f"the loss is not finite since step {step}"

    def _continues(self, saved: StateDict) -> bool:
        """Return whether a fork continues its run: on the same images, with nothing changed but when it ends."""
        same_data = not data_differences(saved.plain["data"], _describe(self.data))
        differences = {problem.key for problem in config_diff(saved.plain["config"], self.config)}
        return same_data and differences <= {"training.num_epochs", "training.early_stop"}

    def _load_exactly(self, saved: StateDict) -> None:
        plain = saved.plain
        self._load_optimizer(saved)
        self._load_average(saved)
        self._load_rates(plain)
        self.schedule.load_state_dict(plain)
        self._load_scale(plain)
        self.position = Position.from_state_dict(plain["position"])
        self.best = _saved_best(plain)
        self.patience_epoch = plain.get("patience_epoch", 0)
        if type(self.patience_epoch) is not int:
            raise ValueError("the epoch that early stopping counts from is no number")
        if saved_statistics := plain.get("layer_statistics"):
            self.layer_statistics = StatisticsState.from_state_dict(saved_statistics)
        self.meters.load_state_dict(plain["tally"])
        if not is_number(plain["train_s"]):
            raise ValueError("the time of the epoch is not a number of seconds")
        self.epoch_timer.set(plain["train_s"])

    def _load_optimizer(self, saved: StateDict) -> None:
        """Take over what the optimizer remembers of each parameter; its options are those of the configuration."""
        weights = {head.weight for head in heads(self.model)}
        pooled = {index for index, parameter in enumerate(self.model.parameters()) if parameter in weights}
        state = checked_state(self.optimizer, saved.optimizer or {}, saved.plain["optimizer"]["numbers"], pooled)
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _load_rates(self, plain: Mapping[str, Any]) -> None:
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, saved_rates(plain["optimizer"]["groups"], len(groups)), strict=True):
            group["lr"] = rate

    def _load_scale(self, plain: Mapping[str, Any]) -> None:
        if plain["scaler"] and self.scaler.is_enabled():
            load_scale(self.scaler, plain["scaler"])

    def _load_average(self, saved: StateDict) -> None:
        """Take over the moving average of the model. Raises ValueError where there is none or its count is no count."""
        if self.ema is None:
            return
        if saved.ema is None:
            raise ValueError("it holds no moving average of the weights")
        count = saved.plain["ema"]["n_averaged"]
        if type(count) is not int or not 0 <= count < LARGEST_STEP:
            raise ValueError("the number of averaged steps is no count")
        load_weights(self.ema.module, saved.ema)
        self.ema.n_averaged.fill_(count)

    def _load_what_fits(self, saved: StateDict) -> None:
        plain = saved.plain
        if saved.ema is not None:
            self._load_average(saved)
        if plain["config"].get("optimizer.name") == self.config.optimizer.name:
            self._load_optimizer(saved)
        self._load_scale(plain)
        self.position = Position.from_state_dict(plain["position"])
        self.position.step = 0  # the order of the images may be another one
        best = _saved_best(plain)
        if best is not None and best.metric == self.monitor:
            self.best = best
        self.schedule.skip_to(self.position.epoch)
        if isinstance(self.schedule.main, Plateau):
            self._continue_plateau(plain)

    def _stretch_schedule(self) -> None:
        """Let a schedule that spans all epochs span those of this configuration."""
        if isinstance(self.schedule.main, torch.optim.lr_scheduler.CosineAnnealingLR):
            self.schedule.restore_rates()
            self.schedule = Schedule(self.config, self.optimizer)
            self.schedule.skip_to(self.position.epoch)

    def _continue_plateau(self, plain: Mapping[str, Any]) -> None:
        """Go on with the rate and the counters of a plateau schedule, unless another rate or another metric is set.

        While either run warms up, the rate is that of the new configuration.
        """
        assert isinstance(self.schedule.main, Plateau)
        config = plain["config"]
        same_schedule = config.get("scheduler.name") == self.config.scheduler.name
        if not same_schedule or config.get("optimizer.lr") != self.config.optimizer.lr:
            return
        if self.position.epoch <= max(config.get("scheduler.warmup_epochs", 0), self.config.scheduler.warmup_epochs):
            return
        self._load_rates(plain)
        if self.best is not None:  # it is of the metric that the schedule follows
            load_counters(self.schedule.main, plain["scheduler"])

    def _check_data(self, saved: Mapping[str, Any]) -> None:
        if differences := data_differences(saved, _describe(self.data)):
            message = f"the data set has changed since the checkpoint: {differences[0]}"
            fix = "bring the images back, or add --fork to `convnn resume` to train on the present ones"
            raise UserError(message, Exit.DATA, key="data.path", value=self.config.data.path, fix=fix)


def build_train_state(
    config: RunConfig, data: LoadedDataset, device: torch.device, split_seed: int, group: ProcessGroup = ALONE
) -> TrainState:
    """Seed torch and build the state of a run that has not begun.

    The model is drawn on the CPU, so that its first weights are the same on every device.
    """
    torch.manual_seed(config.training.seed)
    model = build.model(config, len(data.classes))
    if group.size > 1:
        from convnn.training.whole_batch import convert

        convert(model, group.rows)
    return initial_state(config, data, device, model.to(device), split_seed)


def initial_state(
    config: RunConfig, data: LoadedDataset, device: torch.device, model: nn.Module, split_seed: int
) -> TrainState:
    """Return the state of a run that has not begun, of a model on its device."""
    training_device.lay_out(model, config, device)
    optimizer = build.optimizer(config, model, data.image_size)
    schedule = Schedule(config, optimizer)
    ema = build.averaged_model(config, model)
    fp16 = training_device.amp_dtype(config, device) is torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=fp16)
    return TrainState(config, data, device, model, optimizer, schedule, scaler, Meters(device), ema, split_seed)


def saved_split_seed(plain: Mapping[str, Any], default: int) -> int:
    """Return the seed that drew the images of a checkpoint; those of earlier versions were drawn with the run's own."""
    seed = plain.get("split_seed", plain.get("seed"))
    return seed if type(seed) is int else default


def versions() -> dict[str, str]:
    """Return the versions of the software that results may depend on."""
    return {"convnn": version(), "torch": torch.__version__}


def is_finite(model: nn.Module) -> bool:
    """Return whether all weights and buffers are finite. Syncs with the device."""
    tensors = [value for value in model.state_dict().values() if value.is_floating_point()]
    largest = [torch.linalg.vector_norm(value.float(), torch.inf) for value in tensors]  # NaN is larger than all
    return bool(torch.stack(largest).isfinite().all())


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights and buffers into a model. Raises ValueError where they are not those of the model."""
    if difference := weights_difference(model, weights):
        raise ValueError(difference)
    model.load_state_dict(weights)


def weights_difference(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return in words which weights and buffers differ from a model's in shape or format; "" where they fit."""
    own, saved = ({name: _format(value) for name, value in part.items()} for part in (model.state_dict(), weights))
    names = sorted(name for name in own.keys() | saved.keys() if own.get(name) != saved.get(name))
    details = [f"{name} is {saved.get(name, 'missing')}, the model has {own.get(name, 'none')}" for name in names[:3]]
    if len(names) > 3:
        details.append(f"and {len(names) - 3} more")
    return "; ".join(details)


def _format(tensor: Tensor) -> str:
    """Return shape and, unless it is float32, number format: "(64, 3, 3, 3)", "() int64"."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return str(tuple(tensor.shape)) if dtype == "float32" else f"{tuple(tensor.shape)} {dtype}"


def check_fits(config: RunConfig, num_classes: int, weights: Mapping[str, Tensor]) -> None:
    """Raise UserError where weights do not fit the model of a configuration; no memory is taken for the model."""
    with torch.device("meta"):
        model = build.model(config, num_classes)
    if difference := weights_difference(model, weights):
        raise _misfit(difference, Exit.USAGE)


def _saved_best(plain: Mapping[str, Any]) -> Best | None:
    """Return the best epoch that was saved. Raises ValueError or TypeError where it is none."""
    if not plain["best"]:
        return None
    best = Best(**plain["best"])
    if type(best.metric) is not str or not is_number(best.value) or type(best.epoch) is not int:
        raise ValueError("the best epoch is not a metric, its value and an epoch")
    return best


def _describe(data: LoadedDataset) -> dict[str, Any]:
    """Return what identifies the images, as JSON gives it back."""
    return {
        "classes": list(data.classes),
        "images": {name: split.num_images for name, split in data.splits.items()},
        "mean": list(data.mean),
        "std": list(data.std),
        "digest": dict(data.digests),
    }


def data_differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return in words how the images differ from those of a checkpoint; a checkpoint without digests differs in none.

    Classes, counts and normalization come first, as they say more than a digest.
    """
    differences = [
        f"{name} {str(saved[name])[:100]} then, {str(current[name])[:100]} now"
        for name in ("classes", "images", "mean", "std")
        if saved[name] != current[name]
    ]
    saved_digests = saved.get("digest") or {}
    changed = [split for split, digest in current["digest"].items() if saved_digests.get(split, digest) != digest]
    if changed:
        differences.append(f"the {' and '.join(changed)} images or their labels are others")
    return differences


# what loading a wrong state raises
LOAD_ERRORS = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, OverflowError)


def _misfit(reason: str, code: Exit) -> UserError:
    return UserError(
        f"the checkpoint does not fit this configuration: {' '.join(reason.split())[:300]}",
        code,
        fix="model, layer and data set must be those of the run that saved it",
    )
