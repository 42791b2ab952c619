"""The pool of candidates: grids, draws, and too few of them."""

import pytest
import torch
from support import reference_layers as reference

from convnn.layers import ConvNN1d, ConvNN2d, ConvNNAttention2d
from convnn.layers.sampling import Sampling

CPU = torch.device("cpu")


def line(side: int, n: int, margin: int) -> list[int]:
    return Sampling("spatial", n, margin).pool((side,), 0, True, CPU).tolist()


def test_grid_lines_of_the_definition():
    assert line(32, 8, 0) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert line(16, 5, 2) == [2, 4, 7, 10, 13]


@pytest.mark.parametrize("sides", [(7,), (1,), (6, 9), (8, 3)])
@pytest.mark.parametrize("padding", [0, 2])
def test_spatial_pools_equal_their_reference(sides, padding):
    for n in range(1, 10):
        for margin in range(6):
            sampling = Sampling("spatial", n, margin)
            expected = reference.candidates_of(sides, padding, "spatial", n, margin)
            assert sampling.pool_size(sides, padding) == len(expected)
            pool = sampling.pool(sides, padding, True, CPU)
            if pool is not None:
                outer = [side + 2 * padding for side in sides]
                positions = torch.stack(torch.unravel_index(pool, outer), 1).tolist()
                assert [tuple(position) for position in positions] == expected


def test_the_pool_grows_from_49_to_100_between_7_and_8_on_an_8x8_map():
    assert [Sampling("spatial", n).pool_size((8, 8), 1) for n in (7, 8)] == [49, 100]


def test_random_draws_are_new_in_training_and_come_from_the_global_generator():
    sampling = Sampling("random", 20)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(sampling.pool((8, 8), 1, False, CPU))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert all(len(set(draw.tolist())) == 20 and draw.min() >= 0 and draw.max() < 100 for draw in draws)


def test_the_draw_of_evaluation_is_fixed_and_leaves_the_generator_alone():
    sampling = Sampling("random", 20)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = sampling.pool((8, 8), 1, True, CPU)
    torch.manual_seed(5)
    assert torch.equal(sampling.pool((8, 8), 1, True, CPU), first)
    torch.manual_seed(0)
    sampling.pool((8, 8), 1, True, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(first.tolist())) == 20
    assert first.min() >= 0 and first.max() < 100


def test_fixed_draws_cover_a_map_evenly():
    counts = torch.zeros(400)
    for n in range(20, 60):
        counts[Sampling("random", n).pool((20, 20), 0, True, CPU)] += 1
    assert counts.max() <= 15  # mean 4, binomial: a draw that favoured places would pass this by far
    assert (counts > 0).float().mean() > 0.9


@pytest.mark.parametrize("make", [ConvNN2d, ConvNNAttention2d])
def test_random_with_as_many_samples_as_positions_is_all(make):
    layer = make(2, 3, sampling_type="random", num_samples=36).eval()
    every = make(2, 3).eval()
    every.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(layer(x), every(x))


@pytest.mark.parametrize("make", [ConvNN2d, ConvNNAttention2d])
def test_a_pool_smaller_than_K_names_both_numbers_the_layer_and_the_map(make):
    for options, count in (
        ({"padding": 0}, 16),
        ({"sampling_type": "spatial", "num_samples": 3}, 9),
        ({"sampling_type": "random", "num_samples": 5}, 5),
        ({"sampling_type": "spatial", "num_samples": 3, "sample_padding": 2}, 0),
    ):
        with pytest.raises(ValueError, match=rf"{make.__name__}: K = 20 .* 20 candidates, got {count} .* 4x4 map"):
            make(1, 1, K=20, **options)(torch.zeros(1, 1, 4, 4))


def test_a_pool_of_exactly_K_is_enough_for_queries_in_it_and_outside_it():
    layer = ConvNN1d(2, 2, K=4, sampling_type="spatial", num_samples=4)
    assert layer(torch.randn(1, 2, 9)).shape == (1, 2, 9)
