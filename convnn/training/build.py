"""Build the objects that the sections of a configuration describe; each module is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from convnn.config.active import inactive_options
from convnn.config.schema import RunConfig
from convnn.data import DataOptions, LoadedDataset, Normalization, open_data
from convnn.data.share import WHOLE_BATCH, BatchShare
from convnn.layer_table import LayerKind, layer_kind
from convnn.models.architectures import architecture
from convnn.presets.rules import GRAPH_MODES
from convnn.training.shared_update import TrainedTensors, apply_after_step, is_shared, share_updates

Conv = Callable[[int, int], nn.Module]
LossFn = Callable[[Tensor, Tensor], Tensor]
Scheduler = torch.optim.lr_scheduler.LRScheduler | torch.optim.lr_scheduler.ReduceLROnPlateau

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
PLATEAU_EPOCHS = 5  # epochs without a better metric after which plateau cuts the learning rate
COMPILER_HOOKS = (  # what torch wraps around the methods of an optimizer
    "_disable_dynamo.<locals>.inner",
    "_use_grad_for_differentiable.<locals>._use_grad",
    "Optimizer.profile_hook_step.<locals>.wrapper",  # around step once an optimizer of the class was made
)
FUSED_DEVICES = ("cpu", "cuda", "mps", "meta")  # meta: tensors without data, with which a step is counted
BATCH_SIZES = 32  # for which a model is compiled at most: full, last and micro-batches of three splits
MEMORY_BUDGET = 0.5  # share of the activations that reduce-memory keeps; the rest is computed again


def conv(config: RunConfig) -> Conv:
    """Return the factory of the layer in every slot: (in_channels, out_channels) -> module."""
    slot_bias = architecture(config.model.name).family.slot_bias
    return _layer_factory(layer_kind(config.layer.type), config, bias=slot_bias)


def _layer_factory(kind: LayerKind, config: RunConfig, *, bias: bool = True) -> Conv:
    layer_class = resolve_name(kind.class_path)
    branches = [_layer_factory(layer_kind(name), config) for name in kind.branches or ()]
    arguments = {**kind.constants, **kind.option_values(config, bias=bias)}
    return lambda in_channels, out_channels: layer_class(in_channels, out_channels, *branches, **arguments)


def model(config: RunConfig, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Return the network with the configured layer in every slot, drawn from torch's global generator."""
    name, width = config.model.name, config.model.width
    model_class = resolve_name(architecture(name).family.class_path)
    network: nn.Module = model_class(name, conv(config), num_classes=num_classes, in_channels=in_channels, width=width)
    return network


def compiled(config: RunConfig, model: nn.Module) -> nn.Module:
    """Return the model wrapped by `torch.compile`, or as it is where the configuration does not compile.

    The parameters are shared and nothing is compiled yet.

    Every size of a batch has a graph of its own: with symbolic sizes, the smaller last batch of an epoch would replace
    the graph of the full ones by a slower one that serves both.
    """
    if not config.runtime.compile:
        return model
    from torch._dynamo import config as dynamo
    from torch._functorch import config as functorch

    from convnn.layers.ops.flops import register_flops

    register_flops()
    mode = config.runtime.compile_mode
    functorch.activation_memory_budget = MEMORY_BUDGET if mode == "reduce-memory" else 1.0
    dynamo.recompile_limit = max(dynamo.recompile_limit, BATCH_SIZES)
    compiler_mode = None if mode in ("default", "reduce-memory") else mode
    return torch.compile(model, mode=compiler_mode, dynamic=False)  # type: ignore[return-value]


def captures_graphs(config: RunConfig) -> bool:
    """Return whether the compiled model runs as CUDA graphs, which overwrite the tensors that they return."""
    return config.runtime.compile and config.runtime.compile_mode in GRAPH_MODES


def loss_fn(config: RunConfig, label_smoothing: float = 0.0) -> LossFn:
    """Return the loss of each image, in float32 at least: logits (B, classes), targets (B,) -> (B,).

    Smoothed labels are for training with cross-entropy alone, so that evaluated losses compare between runs.
    """
    if config.training.criterion == "MSE":
        return lambda logits, y: (wide(logits) - F.one_hot(y, logits.shape[1])).square().mean(dim=1)
    return lambda logits, y: F.cross_entropy(wide(logits), y, reduction="none", label_smoothing=label_smoothing)


def wide(x: Tensor) -> Tensor:
    """Return x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def optimizer(config: RunConfig, model: nn.Module, image_size: tuple[int, int] | None = None) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters, fused where the device has it.

    Weights that have the same gradient on images of (H, W) pixels share it, and its state, from here on.
    """
    section = config.optimizer
    fused = is_fused(config, next(model.parameters()).device)
    options: dict[str, Any] = {"lr": section.lr, "weight_decay": section.weight_decay, "fused": fused}
    if section.name == "sgd":
        options["momentum"] = section.momentum
    if image_size is not None and is_shared(config, image_size):
        share_updates(model)
    optimizer = without_compiler_hooks(OPTIMIZERS[section.name])(TrainedTensors(model).tensors, **options)
    apply_after_step(optimizer, model)
    return optimizer


def is_fused(config: RunConfig, device: torch.device) -> bool:
    """Return whether the optimizer updates all parameters in one call.

    On mps torch before 2.14 refuses gradients that a scaler has scaled, or applies them where they overflowed.
    """
    scales_gradient = config.runtime.amp and config.runtime.amp_dtype == "fp16"
    return device.type in FUSED_DEVICES and not (device.type == "mps" and scales_gradient)


def clip_in_step(optimizer: torch.optim.Optimizer, norm: Tensor, limit: float) -> None:
    """Let the next step of a fused optimizer divide the gradient so that its norm is at most the limit.

    It is what `clip_grad_norm_` multiplies with, but for rounding. torch's gradient scaler sets the same attribute.
    """
    optimizer.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0).float()  # type: ignore[attr-defined]


def without_compiler_hooks(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return the same optimizer without the wrappers that torch needs for compiled and for differentiable steps.

    Their first call imports the compiler: over a second of the start of every run, and a step here is neither. A method
    whose wrappers are not the known ones, as in another version of torch, is left as it is.
    """
    methods: dict[str, Any] = {}
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad", "step"):
        method = getattr(kind, name)
        wrapped = unwrap(method, stop=lambda function: _qualname(function) not in COMPILER_HOOKS)
        if wrapped is not method:
            methods[name] = torch.no_grad()(wrapped) if name == "step" else wrapped
    return type(kind.__name__, (kind,), methods)


def _qualname(function: Any) -> str:
    return function.__code__.co_qualname if hasattr(function, "__code__") else ""


def scheduler(config: RunConfig, optimizer: torch.optim.Optimizer) -> Scheduler | None:
    """Return the learning rate schedule after the warmup, stepped once an epoch; plateau takes the accuracy in %."""
    from torch.optim import lr_scheduler as schedules

    section = config.scheduler
    if section.name == "step":
        return schedules.StepLR(optimizer, section.step, section.gamma)
    if section.name == "cosine":
        return schedules.CosineAnnealingLR(optimizer, max(1, config.training.num_epochs - section.warmup_epochs))
    if section.name == "plateau":
        return schedules.ReduceLROnPlateau(
            optimizer, mode="max", factor=section.gamma, patience=PLATEAU_EPOCHS - 1, threshold=0
        )
    return None


def averaged_model(config: RunConfig, model: nn.Module) -> AveragedModel | None:
    """Return the exponential moving average of weights and buffers, on the device of the model; None without one."""
    decay = config.training.ema_decay
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def data_path(config: RunConfig) -> str | None:
    """Return the absolute path of the data set; None for one that comes with the package."""
    if "data.path" in inactive_options(config):
        return None
    return str(Path(config.data.path).expanduser().absolute())


def data(
    config: RunConfig,
    on: torch.device,
    *,
    splits: tuple[str, ...] = ("train", "test"),
    normalization: Normalization | None = None,
    split_seed: int | None = None,
    share: BatchShare = WHOLE_BATCH,
) -> LoadedDataset:
    """Open the data set on the device. Raises UserError when it is missing or damaged.

    `split_seed` is `training.seed` by default; the other arguments are those of `DataOptions`.
    """
    section = config.data
    options = DataOptions(
        resize=section.resize,
        limit=section.limit,
        val_share=section.val_share,
        augment=section.augment,
        noise=section.noise,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        split_seed=config.training.seed if split_seed is None else split_seed,
        device=on,
        workers=section.workers,
        drop_last=config.training.drop_last,
        splits=splits,
        normalization=normalization,
        share=share,
    )
    return open_data(section.dataset, section.path, options)
