"""The plain implementation that ours is compared with: scores of all pairs, K copies of the neighbors, then Conv1d.

Pad; normalize; `bmm` of all padded queries with all padded positions; clamp; diagonal set to the best; `topk(K)`;
expand to K copies and gather; `conv1d` with stride K; crop. It follows that description and is not tuned.

    B  batch     M  positions of the padded map     K  neighbors
    C  channels  S  candidates
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnn.models import architectures


def scores(queries: Tensor, candidates: Tensor, metric: str) -> Tensor:
    """Cosine, or squared distance, of every pair. (B, C, M), (B, C, S) -> (B, M, S)"""
    if metric == "cosine":
        products = torch.bmm(F.normalize(queries, dim=1).transpose(1, 2), F.normalize(candidates, dim=1))
        return products.clamp(-1, 1)
    left, right = (queries**2).sum(1).unsqueeze(2), (candidates**2).sum(1).unsqueeze(1)
    return (left + right - 2 * torch.bmm(queries.transpose(1, 2), candidates)).clamp(min=0)


def gather_copies(rows: Tensor, index: Tensor) -> Tensor:
    """The K neighbors of each position side by side. (B, C, M), (B, M, K) -> (B, C, M * K)"""
    channels, K = rows.shape[1], index.shape[2]
    expanded = rows.unsqueeze(3).expand(-1, -1, -1, K).contiguous()
    return expanded.gather(2, index.unsqueeze(1).expand(-1, channels, -1, -1)).flatten(2)


def crop(rows: Tensor, sides: Sequence[int], padding: int) -> Tensor:
    """The interior of the padded map of these sides. (B, C, M) -> (B, C, H, W)"""
    height, width = sides
    padded = rows.unflatten(2, (height + 2 * padding, width + 2 * padding))
    return padded[:, :, padding : padding + height, padding : padding + width]


class ConvNN2d(nn.Conv1d):
    """Convolution over the K nearest positions. (B, in, H, W) -> (B, out, H, W)

    Loc compares the pixels' squared distances, whatever the metric, and orders the K chosen by position.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        K: int = 9,
        padding: int = 1,
        magnitude_type: str = "cosine",
        similarity_type: str = "Col",
        sampling_type: str = "all",
        num_samples: int = -1,
    ) -> None:
        super().__init__(in_channels, out_channels, K, stride=K)
        self.K, self.pad = K, padding
        self.by_location = similarity_type == "Loc"
        self.metric = "euclidean" if self.by_location else magnitude_type
        self.sampling_type, self.num_samples = sampling_type, num_samples

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.pad,) * 4)
        rows = padded.flatten(2)
        compared = pixels(padded) if self.by_location else rows
        index = self.nearest(compared, None if self.sampling_type == "all" else self.pool(x.shape[2:], x.device))
        if self.by_location:
            index = index.sort(2).values
        return crop(super().forward(gather_copies(rows, index)), x.shape[2:], self.pad)

    def nearest(self, rows: Tensor, pool: Tensor | None) -> Tensor:
        """The K nearest of every position, itself first. (B, C, M), (S,) -> (B, M, K)"""
        higher_is_nearer = self.metric == "cosine"
        best = torch.inf if higher_is_nearer else -torch.inf
        if pool is None:
            all_scores = scores(rows, rows, self.metric)
            all_scores.diagonal(dim1=1, dim2=2).fill_(best)
            return all_scores.topk(self.K, dim=2, largest=higher_is_nearer).indices
        pool_scores = scores(rows, rows[:, :, pool], self.metric)
        pool_scores[
            :, pool, torch.arange(len(pool), device=pool.device)
        ] = -best  # a position is its own neighbor already
        nearest = pool[pool_scores.topk(self.K - 1, dim=2, largest=higher_is_nearer).indices]
        own = torch.arange(rows.shape[2], device=pool.device).view(1, -1, 1).expand(len(rows), -1, -1)
        return torch.cat((own, nearest), dim=2)

    def pool(self, sides: Sequence[int], device: torch.device) -> Tensor:
        """Positions of the padded map that may be chosen: some at random, or a grid. -> (S,)"""
        height, width = sides
        if self.sampling_type == "random":
            return torch.randperm((height + 2 * self.pad) * (width + 2 * self.pad), device=device)[: self.num_samples]
        if self.num_samples >= max(sides):
            return torch.arange((height + 2 * self.pad) * (width + 2 * self.pad), device=device)
        steps = torch.arange(self.num_samples, device=device)
        down, right = (
            self.pad + (steps * (side - 1) // max(1, self.num_samples - 1) if side > self.num_samples else steps[:side])
            for side in sides
        )
        return (down.unsqueeze(1) * (width + 2 * self.pad) + right).flatten()


def pixels(padded: Tensor) -> Tensor:
    """Row and column of every position, for each image. (B, C, H, W) -> (B, 2, M)"""
    lines = [torch.arange(side, dtype=padded.dtype, device=padded.device) for side in padded.shape[2:]]
    return torch.stack(torch.meshgrid(lines, indexing="ij")).flatten(1).expand(len(padded), -1, -1)


class ConvNNAttention2d(nn.Module):
    """Attention over the K nearest positions. (B, in, H, W) -> (B, out, H, W)"""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        K: int = 9,
        padding: int = 1,
        magnitude_type: str = "cosine",
        attention_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.K, self.pad, self.metric, self.attention_dropout = K, padding, magnitude_type, attention_dropout
        self.query, self.key, self.value = (nn.Linear(in_channels, in_channels, bias=False) for _ in range(3))
        self.depthwise = nn.Conv1d(in_channels, in_channels, K, stride=K, groups=in_channels)
        self.pointwise = nn.Conv1d(in_channels, out_channels, 1)
        self.output = nn.Linear(out_channels, out_channels, bias=False)
        nn.init.ones_(self.depthwise.weight)
        nn.init.zeros_(self.depthwise.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.pad(x, (self.pad,) * 4).flatten(2).transpose(1, 2)  # (B, M, C)
        queries, keys, values = (part(rows).transpose(1, 2) for part in (self.query, self.key, self.value))
        higher_is_nearer = self.metric == "cosine"
        all_scores = scores(queries, keys, self.metric)
        own = all_scores.diagonal(dim1=1, dim2=2).clone().unsqueeze(2)
        all_scores.diagonal(dim1=1, dim2=2).fill_(torch.inf if higher_is_nearer else -torch.inf)
        top, index = all_scores.topk(self.K, dim=2, largest=higher_is_nearer)
        top = torch.cat((own, top[:, :, 1:]), dim=2)
        attention = F.dropout((top if higher_is_nearer else -top).softmax(2), self.attention_dropout, self.training)
        mixed = self.depthwise(gather_copies(values, index) * attention.flatten(1).unsqueeze(1))
        out = self.output(self.pointwise(mixed).transpose(1, 2)).transpose(1, 2)
        return crop(out, x.shape[2:], self.pad)


class Branching2d(nn.Module):
    """ConvNN and Conv2d side by side, then a 1x1 convolution. (B, in, H, W) -> (B, out, H, W)"""

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__()
        first_channels = round(out_channels * 0.5)
        self.first = ConvNN2d(in_channels, first_channels, **options)
        self.second = nn.Conv2d(in_channels, out_channels - first_channels, 3, padding="same")
        self.mix = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.cat((self.first(x), self.second(x)), dim=1))


class PooledLinear(nn.Linear):
    """Adaptive average pool to 7x7, and the linear layer as written. (B, C, H, W) -> (B, out)"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.adaptive_avg_pool2d(x, architectures.POOLED).flatten(1))


def vgg11(conv: Callable[[int, int], nn.Module], num_classes: int, width: float = 1.0) -> nn.Sequential:
    """VGG11 with the parameter names of ours."""
    model = nn.Sequential()
    for number, channels in enumerate(architectures.stages("vgg11", width), start=1):
        stage = nn.Sequential()
        for i, (in_channels, out_channels) in enumerate(channels, start=1):
            stage.add_module(f"conv{i}", conv(in_channels, out_channels))
            stage.add_module(f"norm{i}", nn.BatchNorm2d(out_channels))
            stage.add_module(f"relu{i}", nn.ReLU(inplace=True))
        stage.add_module("pool", nn.MaxPool2d(2))
        model.add_module(f"stage{number}", stage)
    hidden = architectures.scaled(architectures.HIDDEN, width)
    classifier = [PooledLinear(out_channels * architectures.POOLED**2, hidden), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    classifier += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(hidden, num_classes)]
    model.add_module("head", nn.Sequential(*classifier))
    return model


class Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """PIL images made from uint8 (N, 3, H, W), through torchvision's transforms of a training set."""

    def __init__(self, pixels: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        from torchvision import transforms

        self.images = [transforms.functional.to_pil_image(image) for image in pixels]
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(tuple(pixels.shape[2:]), padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]
