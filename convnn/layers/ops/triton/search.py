"""Search for neighbors without a matrix of scores: see `convnn.layers.ops.nearest` for what is computed.

    B  batch      N  queries     M  candidates
    C  channels   k  neighbors, the query itself included

Products are float32's, in their sum of three TF32 products where tensor cores help: rounding to TF32 would change two
of five neighbors in images of three channels. Equal scores go to the lower column of the candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from convnn.layers.ops.triton.launch import Launch

MIN_CHANNELS = 16  # of products on tensor cores; with fewer they would multiply mostly zeros
MAX_COUNT = 32  # neighbors for which what is best so far stays in registers
TOLERANCE = 2e-5  # of scores, over the largest possible one: float32 products of up to 1,000 channels, in another order


class Tiles(NamedTuple):
    """Queries of a program, candidates and channels of a tile, and warps."""

    queries: int
    candidates: int
    channels: int
    warps: int


def search_tiles(candidates: int, channels: int) -> Tiles:
    """Return the tiles of a search; not of the batch, so that an image has the same neighbors alone."""
    width = 64 if candidates > 32 else 32
    if channels < MIN_CHANNELS:
        return Tiles(16, width, 16, 1)  # 1.7 ms of a batch of 256 maps of 32x32 on an H200; (32, 64, 16, 4) takes 4.1
    return Tiles(64, width, 32 if channels % 32 == 0 else 16, 4)


def launch_search(
    queries: Tensor,
    candidates: Tensor,
    penalty: Tensor | None,
    own_column: Tensor,
    own_position: Tensor,
    position: Tensor,
    k: int,
    tiles: Tiles | None = None,
) -> Tensor:
    """Positions of each query and of its k - 1 best other candidates. (B, N, C), (B, M, C), (B, M) -> (B, N, k)

    Args:
        penalty: twice what is subtracted from a candidate's scores.
        own_column: (N,) among the candidates, M or more for a query that is none of them.
        own_position: (N,) positions of the queries, and `position`, (M,), of the candidates, in the index's type.
    """
    from convnn.layers.ops.triton.kernels.search import search_kernel

    batch, length, channels = queries.shape
    count = candidates.shape[1]
    index = position.new_empty(batch, length, k)
    block_queries, block_candidates, block_channels, warps = tiles or search_tiles(count, channels)
    blocks = -(-length // block_queries)
    search_kernel[(batch * blocks,)](
        queries,
        candidates,
        queries if penalty is None else penalty,  # not read
        own_column,
        own_position,
        position,
        index,
        blocks,
        length,
        count,
        channels,
        HAS_PENALTY=penalty is not None,
        COUNT=k - 1,
        SLOTS=max(2, 1 << (k - 2).bit_length()),
        TENSOR_CORES=channels >= MIN_CHANNELS,
        BQ=block_queries,
        BC=block_candidates,
        BD=block_channels,
        num_warps=warps,
    )
    return index


def _launch(
    queries: Tensor,
    candidates: Tensor,
    penalty: Tensor | None,
    own_column: Tensor,
    own_position: Tensor,
    position: Tensor,
    k: int,
) -> Tensor:
    return launch_search(queries, candidates, penalty, own_column, own_position, position, k)


def _fake(queries, candidates, penalty, own_column, own_position, position, k):  # type: ignore[no-untyped-def]
    return position.new_empty(*queries.shape[:2], k)


search = Launch("search", _launch, _fake)


def agree(index: Tensor, expected: Tensor, queries: Tensor, candidates: Tensor, metric: str, position: Tensor) -> bool:
    """Return whether two searches found equally good neighbors: other ones are right where scores tie.

    (t, N, k) twice, then operands of `search`.
    """
    ascending = index.sort(dim=-1).values
    is_repeated = (ascending[..., 1:] == ascending[..., :-1]).any()
    is_other = ~torch.isin(index[..., 1:], position).all()  # no candidate: indexing with it would end the CUDA context
    if not torch.equal(index[..., 0], expected[..., 0]) or bool(is_repeated | is_other):
        return False
    is_different = index != expected
    image, row, _ = is_different.nonzero(as_tuple=True)
    if not len(image):
        return True
    columns = torch.zeros(int(position.max()) + 1, dtype=torch.int64, device=position.device)
    columns[position.long()] = torch.arange(len(position), device=position.device)
    query, scores = queries[image, row].double(), []
    for chosen in (index, expected):
        candidate = candidates[image, columns[chosen[is_different].long()]].double()
        pairs = (query - candidate).square() if metric == "euclidean" else query * candidate
        scores.append(pairs.sum(1))
    query_norm, norm = (rows.double().square().sum(2).nan_to_num().amax().sqrt() for rows in (queries, candidates))
    largest = (norm * (query_norm + norm)).clamp_min(1e-30)
    return bool((scores[0] - scores[1]).nan_to_num().abs().amax() <= TOLERANCE * largest)
