"""Attention over nearest neighbours: hard selection of K, soft weights among them.

M. Kang and J. Farias, "Attention Via Convolutional Nearest Neighbors", arXiv 2511.14137.
B batch, N positions of the map, N' of the padded one, d channels projected, K neighbours.
"""

from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from convnn.layers.neighbor_layer import NeighbourLayer, working_dtype
from convnn.layers.ops.attend import pair_scores, weigh
from convnn.layers.ops.half_precision import linear
from convnn.layers.ops.nearest import nearest_keys
from convnn.layers.ops.tiles import as_map, as_rows, interior_rows, pad_rows
from convnn.layers.sampling import Sampling


class _Slots(nn.Conv1d):
    """Depthwise convolution over the K slots that begins as their plain sum."""

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _ConvNNAttention(NeighbourLayer):
    """See `ConvNNAttention2d`; `dims` is the number of sides of a map."""

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
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(self.wide, self.wide, bias=False)
        self.key = nn.Linear(self.wide, self.wide, bias=False)
        self.value = nn.Linear(self.wide, self.wide, bias=False)
        self.depthwise = _Slots(self.wide, self.wide, K, groups=self.wide)
        self.pointwise = nn.Conv1d(self.wide, self.inner_out, 1)
        self.output = nn.Linear(self.inner_out, self.inner_out, bias=False)

    def compute(self, x: Tensor) -> Tensor:
        sides, padding = x.shape[2:], self.padding
        self.check(sides)
        dtype = working_dtype(x)
        source = as_rows(x).to(dtype)  # the projections have no bias: those of the pad are zero and are not computed
        if self.coords:
            source = pad_rows(source, sides, padding, dtype, coords=True)  # one copy, kept for all three
        queries, keys, values = (linear(source, part.weight) for part in (self.query, self.key, self.value))
        queries = interior_rows(queries, sides, padding, prod(sides))
        pool = self.pool(sides, x.device)
        index = nearest_keys(queries.detach(), keys.detach(), pool, sides, padding, self.K, self.magnitude_type)
        share = pair_scores(queries, keys, index, sides, padding, self.magnitude_type).softmax(2)
        share = F.dropout(share, self.attention_dropout, self.training)
        mixed = weigh(values, share, index, self.depthwise.weight, self.depthwise.bias, sides, padding)
        mixed = linear(mixed, self.pointwise.weight[:, :, 0], self.pointwise.bias)
        return as_map(linear(mixed, self.output.weight), sides)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, attention_dropout={self.attention_dropout}"


class ConvNNAttention1d(_ConvNNAttention):
    """Attention of each position of a sequence over the K positions it finds nearest. (B, in, L) -> (B, out, L)

    Options, defaults and errors are those of `ConvNNAttention2d`.
    """

    dims = 1


class ConvNNAttention2d(_ConvNNAttention):
    """Attention of each position of a map over the K positions it finds nearest. (B, in, H, W) -> (B, out, H, W)

    A position's query is compared with the candidates' keys; K counts the position itself, `padding` and
    `sample_padding` are in pixels. Patterns A and B change H and W. Raises ValueError for an option out of range, and
    when called on a map whose pool holds fewer than K positions or whose sides `shuffle_scale` does not divide.
    Source: arXiv 2511.14137.
    """

    dims = 2
