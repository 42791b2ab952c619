"""The layers once more, straight from the definition: one query at a time, in float64, with nothing of ours.

A map is (C, *sides); positions are tuples; a vector is a list of floats. Meant to be read beside the definition.
"""

import math
import statistics
from itertools import product

import torch
from torch import Tensor


def pad_map(x: Tensor, padding: int) -> dict[tuple[int, ...], list[float]]:
    """Features at every position of the padded map, row-major."""
    sides = x.shape[1:]
    room = {}
    for at in product(*(range(side + 2 * padding) for side in sides)):
        inner = tuple(i - padding for i in at)
        inside = all(0 <= i < side for i, side in zip(inner, sides, strict=True))
        room[at] = x[(slice(None), *inner)].tolist() if inside else [0.0] * x.shape[0]
    return room


def coordinates_of(at: tuple[int, ...], outer: list[int]) -> list[float]:
    ends = [-1.0 if side == 1 else -1 + 2 * i / (side - 1) for i, side in zip(at, outer, strict=True)]
    return ends[::-1]  # x, along the width, first


def queries_of(sides, padding: int) -> list[tuple[int, ...]]:
    return list(product(*(range(padding, padding + side) for side in sides)))


def grid(side: int, n: int, margin: int) -> list[int]:
    inside = list(range(side))[margin : side - margin] if side > 2 * margin else []
    if len(inside) < n:
        return inside
    return [margin] if n == 1 else [margin + math.floor(i * (side - 1 - 2 * margin) / (n - 1)) for i in range(n)]


def candidates_of(sides, padding: int, sampling_type: str, num_samples: int, sample_padding: int):
    """All or spatial candidates, as positions of the padded map."""
    if sampling_type == "all" or all(num_samples >= side for side in sides):
        return list(product(*(range(side + 2 * padding) for side in sides)))
    lines = [[padding + i for i in grid(side, num_samples, sample_padding)] for side in sides]
    return list(product(*lines))


def score(metric: str, a: list[float], b: list[float]) -> float:
    """Higher is nearer."""
    if metric == "euclidean":
        return -sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    length = math.hypot(*a) * math.hypot(*b)
    return sum(p * q for p, q in zip(a, b, strict=True)) / length if length else 0.0


def compared(features, outer, similarity_type: str, lambda_param: float):
    """Vectors that Col or Loc_Col similarity compares."""
    if similarity_type == "Col":
        return features
    values = [v for vector in features.values() for v in vector]
    s = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        at: [lambda_param * v / (s + 1e-6) for v in vector]
        + [(1 - lambda_param) * c for c in coordinates_of(at, outer)]
        for at, vector in features.items()
    }


def choose(queries, candidates, k: int, nearness) -> list[list[tuple[int, ...]]]:
    """Own position, then the best of the others; between equals the first candidate."""
    chosen = []
    for query in queries:
        others = sorted((at for at in candidates if at != query), key=lambda at: nearness(query, at), reverse=True)
        chosen.append([query, *others[: k - 1]])
    return chosen


def choose_places(queries, candidates, k: int) -> list[list[tuple[int, ...]]]:
    chosen = []
    for query in queries:
        apart = {at: [abs(a - b) for a, b in zip(at, query, strict=True)] for at in candidates if at != query}
        others = sorted(apart, key=lambda at: (max(apart[at]), sum(d * d for d in apart[at]), at))
        chosen.append(sorted([query, *others[: k - 1]]))
    return chosen


def neighbours(layer, x: Tensor, candidates) -> list[list[tuple[int, ...]]]:
    sides = x.shape[1:]
    outer = [side + 2 * layer.padding for side in sides]
    queries = queries_of(sides, layer.padding)
    if layer.similarity_type == "Loc":
        return choose_places(queries, candidates, layer.K)
    vectors = compared(pad_map(x, layer.padding), outer, layer.similarity_type, layer.lambda_param)
    return choose(queries, candidates, layer.K, lambda a, b: score(layer.magnitude_type, vectors[a], vectors[b]))


def convolved(layer, x: Tensor) -> dict[tuple[int, ...], Tensor]:
    """What Col or Loc_Col aggregation takes in, at every position of the padded map."""
    outer = [side + 2 * layer.padding for side in x.shape[1:]]
    located = layer.aggregation_type == "Loc_Col"
    return {
        at: torch.tensor(vector + (coordinates_of(at, outer) if located else []), dtype=torch.float64)
        for at, vector in pad_map(x, layer.padding).items()
    }


def unshuffle(x: Tensor, r: int) -> Tensor:
    """(B, C, *sides) -> (B, C*r^n, *sides/r), a value at a time."""
    batch, channels, *sides = x.shape
    n = len(sides)
    out = x.new_zeros(batch, channels * r**n, *(side // r for side in sides))
    for b, c, *at in product(*(range(size) for size in x.shape)):
        part = 0
        for i in at:
            part = part * r + i % r
        out[(b, c * r**n + part, *(i // r for i in at))] = x[(b, c, *at)]
    return out


def shuffle(x: Tensor, r: int) -> Tensor:
    """The inverse of `unshuffle`."""
    batch, channels, *sides = x.shape
    numbers = torch.arange(x.numel()).view(batch, channels // r ** len(sides), *(side * r for side in sides))
    where = unshuffle(numbers, r)
    out = torch.empty(x.numel(), dtype=x.dtype)
    out[where.flatten()] = x.flatten()
    return out.view(numbers.shape)


def forward(layer, x: Tensor, candidates=None) -> Tensor:
    """What a layer of ours should give with its own weights. (B, in, *sides) -> (B, out, *sides)"""
    x = x.detach().double()
    pattern, r = layer.shuffle_pattern, layer.shuffle_scale
    x = unshuffle(x, r) if "B" in pattern else x
    sides = x.shape[2:]
    sampling = layer.sampling
    options = (sampling.sampling_type, sampling.num_samples, sampling.sample_padding)
    pool = candidates if candidates is not None else candidates_of(sides, layer.padding, *options)
    one = attend if hasattr(layer, "query") else convolve
    out = torch.stack([one(layer, image, pool).mT.unflatten(1, tuple(sides)) for image in x])
    return shuffle(out, r) if pattern in ("A", "BA") else out


def convolve(layer, x: Tensor, candidates) -> Tensor:
    """-> (N, out)"""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    vectors = convolved(layer, x)
    rows = []
    for chosen in neighbours(layer, x, candidates):
        rows.append(bias + sum(weight[:, :, j] @ vectors[at] for j, at in enumerate(chosen)))
    return torch.stack(rows)


def attend(layer, x: Tensor, candidates) -> Tensor:
    """-> (N, out)"""
    named = {name: value.detach().double() for name, value in layer.named_parameters()}
    vectors = convolved(layer, x)
    query = {at: (named["query.weight"] @ v).tolist() for at, v in vectors.items()}
    key = {at: (named["key.weight"] @ v).tolist() for at, v in vectors.items()}
    value = {at: named["value.weight"] @ v for at, v in vectors.items()}

    def nearness(a, b) -> float:
        return score(layer.magnitude_type, query[a], key[b])

    rows = []
    for chosen in choose(queries_of(x.shape[1:], layer.padding), candidates, layer.K, nearness):
        share = torch.tensor([nearness(chosen[0], at) for at in chosen], dtype=torch.float64).softmax(0)
        mixed = named["depthwise.bias"].clone()
        for j, at in enumerate(chosen):
            mixed += named["depthwise.weight"][:, 0, j] * share[j] * value[at]
        rows.append(named["output.weight"] @ (named["pointwise.weight"][:, :, 0] @ mixed + named["pointwise.bias"]))
    return torch.stack(rows)
