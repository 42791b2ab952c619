"""Count what a training step launches and moves, without a GPU: the step runs on tensors without data.

An operator of torch counts once unless it only makes a view or reserves memory. Ours are opened, and their parts are
counted. An operator moves the bytes of its distinct inputs and of its results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import optimizer as torch_optimizer
from torch.utils import _foreach_utils as foreach
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu.bench import LAYERS, SIDE, config, configured_model, trainer_of
from convnn.config.schema import RunConfig
from convnn.layers.ops.custom_op import OPERATORS

BATCH = 256
META = torch.device("meta")
RESERVES = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "resize_", "set_")
WRITES_ONLY = ("fill_", "zero_", "copy_", "bernoulli_")  # their first argument is overwritten and not read
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
GATHERS = ("index_select", "gather", "index.Tensor")  # read no more of their source than they write


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that run while it is entered, the bytes that they move, and their FLOPs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.flops = 0
        self.largest = 0  # numbers of the largest tensor that an operator made

    @property
    def launches(self) -> int:
        return sum(self.calls.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in OPERATORS:
            with self:
                return OPERATORS[func].function(*args, **kwargs)
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if func in CONVOLUTIONS:
            out = tree_map_only(Tensor, lambda result: _as_cudnn(result, args), out)
        if func.namespace not in ("profiler", "prim") and not func.is_view:
            self._add(func, args, kwargs, out)
        return out

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        name = func.name().partition("::")[2]
        base = name.partition(".")[0]
        if base in RESERVES or base in ("detach", "alias", "_unsafe_view", "_reshape_alias", "lift_fresh"):
            return
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        read_only = {name: value for name, value in kwargs.items() if name != "out"}
        inputs = [leaf for leaf in tree_leaves((args, read_only)) if isinstance(leaf, Tensor)]
        if base in WRITES_ONLY:
            inputs = [leaf for leaf in inputs if all(leaf is not result for result in results)]
        written = sum(map(_num_bytes, results))
        read = sum(_num_bytes(leaf) for leaf in {id(leaf): leaf for leaf in inputs}.values())
        if name.startswith(GATHERS):
            read = min(read, 2 * written)
        if base == "scatter_":  # touches what the index names
            read = written = sum(_num_bytes(leaf) for leaf in inputs[1:])
        if func.overloadpacket in (torch.ops.aten._fused_adamw_, torch.ops.aten._foreach_mul_):
            written = read  # in place
        self.calls[name] += 1
        self.bytes[name] += read + written
        self.largest = max([self.largest, *(result.numel() for result in results)])
        # the formulas are of operators that return a new tensor
        packet = getattr(torch.ops.aten, base.rstrip("_"), None)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)


def _as_cudnn(result: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Lay a result of a convolution without data channels last, as cuDNN does where an input or the weight is."""
    inputs = [leaf for leaf in args if isinstance(leaf, Tensor) and leaf.dim() == 4]
    is_channels_last = any(leaf.is_contiguous(memory_format=torch.channels_last) for leaf in inputs)
    if result.device != META or result.dim() != 4 or not is_channels_last:
        return result
    return torch.empty_like(result, memory_format=torch.channels_last)


def _num_bytes(x: Tensor) -> int:
    """Bytes of the distinct numbers of a tensor, of which expanding repeats some."""
    numbers = 1
    for side, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= side if stride else 1
    return numbers * x.element_size()


@contextmanager
def meta_like_cuda() -> Iterator[None]:
    """Let torch choose for tensors without data the fused and the foreach functions that it chooses on CUDA."""
    dropout = F.dropout
    F.dropout = _fused_dropout
    modules = [torch_optimizer, foreach, torch.nn.utils.clip_grad, import_module("torch.optim.adam")]
    names = ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices")
    originals = [(module, name, getattr(module, name)) for module in modules for name in names if hasattr(module, name)]
    for module, name, function in originals:
        setattr(module, name, _with_meta(function))
    try:
        yield
    finally:
        F.dropout = dropout
        for module, name, function in originals:
            setattr(module, name, function)


def _fused_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, training)[0] if training and p else x


def _with_meta(function: Callable[[], list[str]]) -> Callable[[], list[str]]:
    return lambda: [*function(), "meta"]


def count_step(
    layer: str,
    batch: int = BATCH,
    make_model: Callable[[RunConfig], nn.Module] = configured_model,
    **options: Any,
) -> OperatorCounter:
    """Count a training step of VGG11, as it runs on CUDA in float32, after one that fills the caches."""
    settings = config(META, layer=layer, batch_size=batch, **options)
    with meta_like_cuda():
        trainer = trainer_of(settings, META, make_model)
        x = torch.empty(batch, 3, SIDE, SIDE, device=META)
        y = torch.empty(batch, dtype=torch.int64, device=META)
        trainer.train_step(x, y)
        with OperatorCounter() as counter:
            trainer.train_step(x, y)
    return counter


def count_layers(layers: Iterable[str] = LAYERS, batch: int = BATCH, **options: Any) -> dict[str, dict[str, Any]]:
    """Operators, GB and GFLOP of a training step, by layer."""
    results = {}
    for layer in layers:
        counter = count_step(layer, batch, **options)
        results[layer] = {
            "operators": counter.launches,
            "GB": round(sum(counter.bytes.values()) / 1e9, 2),
            "GFLOP": round(counter.flops / 1e9, 1),
            "largest tensor": counter.largest,
            "by operator": dict(counter.calls.most_common()),
        }
    return results
