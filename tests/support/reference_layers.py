"""The layers written from their definition, one query at a time in float64, without any code of the package.

A map is (C, *sides); a position is a tuple of indices; a vector is a list of floats.
"""

import math
import statistics
from itertools import product

import torch
from torch import Tensor

Position = tuple[int, ...]


def padded_sides(sides, padding: int) -> list[int]:
    return [side + 2 * padding for side in sides]


def pad_map(x: Tensor, padding: int) -> dict[Position, list[float]]:
    """Features at every position of the padded map, row-major."""
    sides = x.shape[1:]
    features = {}
    for position in product(*map(range, padded_sides(sides, padding))):
        inner = tuple(i - padding for i in position)
        is_inside = all(0 <= i < side for i, side in zip(inner, sides, strict=True))
        features[position] = x[(slice(None), *inner)].tolist() if is_inside else [0.0] * x.shape[0]
    return features


def coordinates_of(position: Position, outer: list[int]) -> list[float]:
    """Coordinates from -1 to 1, x (along the width) first."""
    values = [-1.0 if side == 1 else -1 + 2 * i / (side - 1) for i, side in zip(position, outer, strict=True)]
    return values[::-1]


def queries_of(sides, padding: int) -> list[Position]:
    return list(product(*(range(padding, padding + side) for side in sides)))


def grid_line(side: int, n: int, margin: int) -> list[int]:
    inside = list(range(side))[margin : side - margin] if side > 2 * margin else []
    if len(inside) < n:
        return inside
    if n == 1:
        return [margin]
    return [margin + math.floor(i * (side - 1 - 2 * margin) / (n - 1)) for i in range(n)]


def candidates_of(sides, padding: int, sampling_type: str, num_samples: int, sample_padding: int) -> list[Position]:
    """All or spatial candidates, as positions of the padded map."""
    if sampling_type == "all" or all(num_samples >= side for side in sides):
        return list(product(*map(range, padded_sides(sides, padding))))
    return list(product(*([padding + i for i in grid_line(side, num_samples, sample_padding)] for side in sides)))


def similarity(metric: str, a: list[float], b: list[float]) -> float:
    if metric == "euclidean":
        return -sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    norms = math.hypot(*a) * math.hypot(*b)
    return sum(p * q for p, q in zip(a, b, strict=True)) / norms if norms else 0.0


def compared_vectors(features, outer, similarity_type: str, lambda_param: float) -> dict[Position, list[float]]:
    """The vectors that Col or Loc_Col similarity compares."""
    if similarity_type == "Col":
        return features
    values = [v for vector in features.values() for v in vector]
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        position: [lambda_param * v / (std + 1e-6) for v in vector]
        + [(1 - lambda_param) * c for c in coordinates_of(position, outer)]
        for position, vector in features.items()
    }


def nearest(queries, candidates, k: int, score) -> list[list[Position]]:
    """Each query's own position, then the best of the others; the earlier candidate where scores are equal."""
    neighbors = []
    for query in queries:
        others = (position for position in candidates if position != query)
        ranked = sorted(others, key=lambda position: score(query, position), reverse=True)
        neighbors.append([query, *ranked[: k - 1]])
    return neighbors


def nearest_by_location(queries, candidates, k: int) -> list[list[Position]]:
    """By Chebyshev distance, then Euclidean distance, then order; in ascending order."""
    neighbors = []
    for query in queries:
        distances = {
            position: [abs(a - b) for a, b in zip(position, query, strict=True)]
            for position in candidates
            if position != query
        }
        ranked = sorted(distances, key=lambda p: (max(distances[p]), sum(d * d for d in distances[p]), p))
        neighbors.append(sorted([query, *ranked[: k - 1]]))
    return neighbors


def neighbors_of(layer, x: Tensor, candidates) -> list[list[Position]]:
    sides = x.shape[1:]
    outer = padded_sides(sides, layer.padding)
    queries = queries_of(sides, layer.padding)
    if layer.similarity_type == "Loc":
        return nearest_by_location(queries, candidates, layer.K)
    vectors = compared_vectors(pad_map(x, layer.padding), outer, layer.similarity_type, layer.lambda_param)
    return nearest(queries, candidates, layer.K, lambda a, b: similarity(layer.magnitude_type, vectors[a], vectors[b]))


def aggregated_vectors(layer, x: Tensor) -> dict[Position, Tensor]:
    """The vectors that Col or Loc_Col aggregation takes, at every position of the padded map."""
    outer = padded_sides(x.shape[1:], layer.padding)
    has_coordinates = layer.aggregation_type == "Loc_Col"
    return {
        position: torch.tensor(
            vector + (coordinates_of(position, outer) if has_coordinates else []), dtype=torch.float64
        )
        for position, vector in pad_map(x, layer.padding).items()
    }


def unshuffle(x: Tensor, r: int) -> Tensor:
    """(B, C, *sides) -> (B, C*r^n, *sides/r), a value at a time."""
    batch, channels, *sides = x.shape
    n = len(sides)
    out = x.new_zeros(batch, channels * r**n, *(side // r for side in sides))
    for b, c, *position in product(*(range(size) for size in x.shape)):
        part = 0
        for i in position:
            part = part * r + i % r
        out[(b, c * r**n + part, *(i // r for i in position))] = x[(b, c, *position)]
    return out


def shuffle(x: Tensor, r: int) -> Tensor:
    """The inverse of `unshuffle`."""
    batch, channels, *sides = x.shape
    numbers = torch.arange(x.numel()).view(batch, channels // r ** len(sides), *(side * r for side in sides))
    destinations = unshuffle(numbers, r)
    out = torch.empty(x.numel(), dtype=x.dtype)
    out[destinations.flatten()] = x.flatten()
    return out.view(numbers.shape)


def forward(layer, x: Tensor, candidates=None) -> Tensor:
    """The output of a ConvNN or ConvNNAttention layer with its own weights. (B, in, *sides) -> (B, out, *sides)"""
    x = x.detach().double()
    pattern, r = layer.shuffle_pattern, layer.shuffle_scale
    x = unshuffle(x, r) if "B" in pattern else x
    sides = x.shape[2:]
    sampling = layer.sampling
    options = (sampling.sampling_type, sampling.num_samples, sampling.sample_padding)
    pool = candidates if candidates is not None else candidates_of(sides, layer.padding, *options)
    forward_image = attend if hasattr(layer, "query") else convolve
    out = torch.stack([forward_image(layer, image, pool).mT.unflatten(1, tuple(sides)) for image in x])
    return shuffle(out, r) if pattern in ("A", "BA") else out


def convolve(layer, x: Tensor, candidates) -> Tensor:
    """(C, *sides) -> (N, out)"""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    vectors = aggregated_vectors(layer, x)
    rows = []
    for neighbors in neighbors_of(layer, x, candidates):
        rows.append(bias + sum(weight[:, :, slot] @ vectors[position] for slot, position in enumerate(neighbors)))
    return torch.stack(rows)


def attend(layer, x: Tensor, candidates) -> Tensor:
    """(C, *sides) -> (N, out)"""
    parameters = {name: value.detach().double() for name, value in layer.named_parameters()}
    vectors = aggregated_vectors(layer, x)
    query = {position: (parameters["query.weight"] @ vector).tolist() for position, vector in vectors.items()}
    key = {position: (parameters["key.weight"] @ vector).tolist() for position, vector in vectors.items()}
    value = {position: parameters["value.weight"] @ vector for position, vector in vectors.items()}

    def score(a, b) -> float:
        return similarity(layer.magnitude_type, query[a], key[b])

    rows = []
    for neighbors in nearest(queries_of(x.shape[1:], layer.padding), candidates, layer.K, score):
        scores = torch.tensor([score(neighbors[0], position) for position in neighbors], dtype=torch.float64)
        attention = scores.softmax(0)
        mixed = parameters["depthwise.bias"].clone()
        for slot, position in enumerate(neighbors):
            mixed += parameters["depthwise.weight"][:, 0, slot] * attention[slot] * value[position]
        pointwise = parameters["pointwise.weight"][:, :, 0] @ mixed + parameters["pointwise.bias"]
        rows.append(parameters["output.weight"] @ pointwise)
    return torch.stack(rows)
