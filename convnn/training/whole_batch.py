"""BatchNorm and dropout over a whole batch, of which each of several processes has some rows.

B  rows of this process     C  channels     R  processes
"""

from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from convnn.layers.attention import AttentionDropout
from convnn.layers.ops.attend import draw_keep
from convnn.layers.ops.custom_op import operator
from convnn.training.build import wide
from convnn.training.process_group import BatchRows


class WholeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the rows of all processes, with the weights and the statistics of `norm`.

    It is `nn.SyncBatchNorm`, which refuses tensors of the CPU.
    """

    def __init__(self, norm: nn.BatchNorm2d, rows: BatchRows) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.rows = rows
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        if not self.training:
            return super().forward(x)
        count = self.rows.size * prod(x.shape[2:])
        if count == 1:
            raise ValueError(f"{type(self).__name__}: one value a channel in the whole batch has no variance")
        y, mean, var = whole_batch_norm(x, self.weight, self.bias, count, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), momentum)
        return y


class WholeBatchDropout(nn.Dropout):
    """Dropout whose mask is drawn for the rows of all processes, as one process would draw it."""

    def __init__(self, p: float, rows: BatchRows) -> None:
        super().__init__(p)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """(B, *) -> (B, *)"""
        if not self.training or self.p == 0:
            return x
        start, size = self.rows.start, self.rows.size
        scale = F.dropout(x.new_ones(size, *x.shape[1:]), self.p)  # the kernel that drops x itself in one process
        return x * scale[start : start + len(x)]


class WholeBatchAttentionDropout(AttentionDropout):
    """Dropout of attention weights whose factors are drawn for the rows of all processes."""

    def __init__(self, p: float, rows: BatchRows) -> None:
        super().__init__(p)
        self.rows = rows

    def forward(self, index: Tensor, dtype: torch.dtype) -> Tensor | None:
        """(B, N, K) -> (B, N, K)"""
        if not self.training:
            return None
        start, size = self.rows.start, self.rows.size
        keep = draw_keep((size, *index.shape[1:]), dtype, self.p, index.device)
        return None if keep is None else keep[start : start + len(index)]


def convert(model: nn.Module, rows: BatchRows) -> None:
    """Replace each BatchNorm and dropout of a model by one over the whole batch; names and tensors stay the same."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, WholeBatchNorm2d(child, rows))
            elif isinstance(child, nn.Dropout):
                setattr(module, name, WholeBatchDropout(child.p, rows))
            elif isinstance(child, AttentionDropout):
                setattr(module, name, WholeBatchAttentionDropout(child.p, rows))


@operator("convnn::whole_batch_norm")
def whole_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, count: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize by the moments of all processes, `count` values a channel. (B, C, H, W) -> the same, and (C,) twice

    Returns mean and variance (of the population) in float64. Each process measures its rows in two passes, and the
    moments are merged in float64 (Chan et al., 1983): nothing is lost where the mean is large beside the deviation.
    """
    moments = torch.zeros(dist.get_world_size(), 3, x.shape[1], dtype=torch.float64, device=x.device)
    if x.numel():
        own = moments[dist.get_rank()]
        own[0] = x.numel() // x.shape[1]
        own[2], own[1] = torch.var_mean(wide(x), (0, 2, 3), correction=0)
    dist.all_reduce(moments)  # a sum with zeros gathers them
    counts, means, variances = moments.unbind(1)  # (R, C) each
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return F.batch_norm(x, mean.to(weight.dtype), var.to(weight.dtype), weight, bias, eps=eps), mean, var


@operator("convnn::whole_batch_norm_backward")
def whole_batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, count: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x, and the parts of this process's rows of those by weight and bias. -> (B, C, H, W), (C,), (C,)"""
    wide_grad, centered = wide(grad), wide(x) - _per_channel(mean, x)
    scale = (var + eps).rsqrt()  # (C,)
    sums = torch.stack((wide_grad.sum((0, 2, 3)).double(), (wide_grad * centered).sum((0, 2, 3)).double() * scale))
    # copies, as the sums are added to in place; one each, as the outputs of an operator share no memory
    grad_bias, grad_weight = (own.to(weight.dtype, copy=True) for own in sums)
    dist.all_reduce(sums)
    mean_grad, mean_product = sums / count
    wide_grad = wide_grad - _per_channel(mean_grad, x) - centered.mul_(_per_channel(scale * mean_product, x))
    grad_x = torch.mul(wide_grad, _per_channel(scale * weight, x), out=torch.empty_like(x, dtype=wide_grad.dtype))
    return grad_x.to(x.dtype), grad_weight, grad_bias


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.to(torch.promote_types(x.dtype, torch.float32))[:, None, None]


@whole_batch_norm.register_fake
def _(x, weight, bias, count, eps):  # type: ignore[no-untyped-def]
    return torch.empty_like(x), *(weight.new_empty(x.shape[1], dtype=torch.float64) for _ in range(2))


@whole_batch_norm_backward.register_fake
def _(grad, x, weight, mean, var, count, eps):  # type: ignore[no-untyped-def]
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, _, ctx.count, ctx.eps = inputs
    ctx.save_for_backward(x, weight, *output[1:])


def _backward(ctx, grad, *unused):  # type: ignore[no-untyped-def]
    return *whole_batch_norm_backward(grad, *ctx.saved_tensors, ctx.count, ctx.eps), None, None


whole_batch_norm.register_autograd(_backward, _setup_context)
