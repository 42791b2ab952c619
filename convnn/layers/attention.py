"""Attention over nearest neighbors (ConvNN_Attn): hard selection of K positions, soft weights among them.

M. Kang and J. Farias, "Attention Via Convolutional Nearest Neighbors", arXiv 2511.14137.

    B  batch     N   positions of the map            K  neighbors
    C  channels  N'  positions of the padded map     d  projected channels: C, or C + n with coordinates
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnn.layers.neighbor_layer import NeighborLayer
from convnn.layers.ops.attend import attend, draw_keep, split_projections
from convnn.layers.ops.half_precision import autocast_dtype, linear
from convnn.layers.ops.nearest import nearest_keys
from convnn.layers.ops.tiles import as_map, as_rows, pad_rows
from convnn.layers.sampling import Sampling


# fmt: off
def attention_definition(layer: "_ConvNNAttention", x: Tensor) -> Tensor:
    """Compute the layer at its defaults without padding and dropout, written plainly; tests compare the layer with it.

    (B, C, *sides) -> (B, out, *sides)
    """
    rows = x.flatten(2).mT                                                          # (B, N, C)
    queries, keys, values = layer.query(rows), layer.key(rows), layer.value(rows)   # (B, N, d)
    scores = F.normalize(queries, dim=2) @ F.normalize(keys, dim=2).mT              # (B, N, N)
    selection = scores.detach().clone()
    selection.diagonal(dim1=1, dim2=2).fill_(torch.inf)                             # itself first
    index = selection.topk(layer.K, dim=2).indices                                  # (B, N, K)
    attention = scores.gather(2, index).softmax(2)                                  # (B, N, K)
    neighbors = values[torch.arange(len(rows))[:, None, None], index]               # (B, N, K, d)
    weight = layer.get_parameter("depthwise.weight")[:, 0]                          # (d, K)
    bias = layer.get_parameter("depthwise.bias")                                    # (d,)
    mixed = torch.einsum("bnk,bnkd,dk->bdn", attention, neighbors, weight) + bias[:, None]
    return layer.output(layer.pointwise(mixed).mT).mT.unflatten(2, x.shape[2:])
# fmt: on


class _SlotConv(nn.Conv1d):
    """Depthwise convolution over the K slots, initialized to their sum."""

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class AttentionDropout(nn.Module):
    """What dropout with probability p multiplies the attention weights with. (B, N, K) -> (B, N, K) or None"""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, index: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return the factors of the neighbors at `index`; None where nothing is dropped."""
        return draw_keep(index.shape, dtype, self.p, index.device) if self.training else None

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _ConvNNAttention(NeighborLayer):
    """See `ConvNNAttention2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        K: int = 9,
        padding: int = 1,
        magnitude_type: str = "cosine",
        aggregation_type: str = "Col",
        attention_dropout: float = 0.1,
        shuffle_pattern: str = "NA",
        shuffle_scale: int = 0,
        sampling_type: str = "all",
        num_samples: int = -1,
        sample_padding: int = 0,
    ) -> None:
        sampling = Sampling(sampling_type, num_samples, sample_padding)
        super().__init__(
            in_channels,
            out_channels,
            K,
            padding,
            magnitude_type,
            aggregation_type,
            shuffle_pattern,
            shuffle_scale,
            sampling,
        )
        self.require(0 <= attention_dropout < 1, f"attention_dropout is {attention_dropout}: must be in [0, 1)")
        self.dropout = AttentionDropout(attention_dropout)
        channels = self.gathered_channels
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.depthwise = _SlotConv(channels, channels, K, groups=channels)
        self.pointwise = nn.Conv1d(channels, self.inner_out, 1)
        self.output = nn.Linear(self.inner_out, self.inner_out, bias=False)

    def compute(self, x: Tensor) -> Tensor:
        sides, padding = x.shape[2:], self.padding
        self.check_candidates(sides)
        dtype = autocast_dtype(x)
        # the projections have no bias: those of the padding are zero, and are only computed where it has coordinates
        source = as_rows(x).to(dtype)  # (B, N, C)
        if self.coords:
            source = pad_rows(source, sides, padding, dtype, coords=True)  # (B, N', d)
        weight = torch.cat([part.weight for part in (self.query, self.key, self.value)])  # (3 d, d): one product
        projections = linear(source, weight)  # (B, N or N', 3 d)
        queries, keys, _ = split_projections(projections.detach(), sides, padding)
        pool = self.pool(sides, x.device)
        index = nearest_keys(queries, keys, pool, sides, padding, self.K, self.magnitude_type)
        self.report_neighbors(sides, index, partial(self.neighbor_scores, queries, keys, sides))
        keep = self.dropout(index, dtype)  # (B, N, K)
        depthwise = self.depthwise
        mixed, _ = attend(
            projections, index, keep, depthwise.weight, depthwise.bias, sides, padding, self.magnitude_type
        )
        mixed = linear(mixed, self.pointwise.weight.squeeze(2), self.pointwise.bias)  # (B, N, out)
        return as_map(linear(mixed, self.output.weight), sides)


class ConvNNAttention1d(_ConvNNAttention):
    """Attention of each position of a sequence over its K nearest positions. (B, in, L) -> (B, out, L)

    Options, defaults and errors are those of `ConvNNAttention2d`.
    """

    dims = 1


class ConvNNAttention2d(_ConvNNAttention):
    """Attention of each position of a map over its K nearest positions. (B, in, H, W) -> (B, out, H, W)

    A position's query is compared with the candidates' keys.

    Args:
        K: neighbors of a position, itself included.
        padding: pixels of zeros around the map; they are candidates too.
        magnitude_type: "cosine" or "euclidean" similarity of query and key.
        aggregation_type: "Col" projects features, "Loc_Col" features and coordinates.
        attention_dropout: probability with which an attention weight is dropped in training.
        shuffle_pattern, shuffle_scale: see `shuffled_layer`; patterns A and B change H and W.
        sampling_type: candidates: "all" positions, "random" ones, or a "spatial" grid.
        num_samples: random candidates, or the side of the grid.
        sample_padding: margin around the grid in pixels.

    Raises:
        ValueError: an option is out of range; or, when called, a map has fewer than K candidates or sides that
            `shuffle_scale` does not divide.

    Source: arXiv 2511.14137.
    """

    dims = 2
