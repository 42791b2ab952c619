"""Two processes compute what one computes: the same batches, masks and statistics, and each the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from support import process_group
from support.process_group import CASES, Steps, normalized, wide_batch

from convnn.data.share import BatchShare
from convnn.training.process_group import ALONE


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What rank 0 of two processes computes, all of it with one start of the second."""
    with process_group.two_processes(str(tmp_path_factory.mktemp("store") / "store")) as group:
        steps: dict[str, Steps] = {name: process_group.trained(options, group) for name, options in CASES.items()}
        resumed = process_group.resumed(CASES["Branching_Attn"], group)
        bf16 = process_group.steps_in_bf16(group)
        norms = [normalized(wide_batch(), rows, group) for rows in (slice(0, 4), slice(0, 7))]
        dist.barrier()
    return steps, resumed, norms, bf16


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(results, name):
    losses, norms, weights, metrics, predictions = results[0][name]
    expected_losses, expected_norms, expected_weights, expected_metrics, expected = process_group.trained(CASES[name])
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    assert norms == pytest.approx(expected_norms, rel=1e-6)
    assert weights.keys() == expected_weights.keys()
    for key, value in weights.items():
        # a bias before BatchNorm has no gradient but for rounding: it is compared with the length of a step
        scale = max(1e-3, expected_weights[key].double().abs().max().item())
        assert (value - expected_weights[key]).double().abs().max() <= 1e-8 * scale, key
    assert metrics.keys() == expected_metrics.keys()
    assert metrics == pytest.approx(expected_metrics, rel=1e-4)  # evaluated in float32
    assert predictions.labels.tolist() == expected.labels.tolist()  # in the order of the split
    assert predictions.probabilities == pytest.approx(expected.probabilities, abs=2**-10)  # a unit in the last place


def test_a_resumed_trainer_goes_on_bit_for_bit(results):
    undisturbed, resumed = results[1]
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_two_processes_take_the_steps_of_one_in_bf16(results):
    losses, norms = results[3]
    expected_losses, expected_norms = process_group.steps_in_bf16(ALONE)
    # bf16 has 8 bits, and each process rounds the gradients of its rows
    assert losses == pytest.approx(expected_losses, rel=2e-2)
    assert norms == pytest.approx(expected_norms, rel=5e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batch_norm_over_processes_is_that_of_torch_on_cuda(tmp_path):
    second = process_group.second_process_on_cuda
    with process_group.two_processes(str(tmp_path / "store"), second) as group:
        x = wide_batch().cuda()
        own, expected = (normalized(x, slice(0, 4), group, by_torch=by_torch) for by_torch in (False, True))
        dist.barrier()
    for value, expected_value in zip(own, expected, strict=True):
        # float32 rounds values of 1000 by 3e-5, and there are sums of 112 of them
        torch.testing.assert_close(value, expected_value, rtol=1e-3, atol=5e-2)


def test_batch_norm_over_processes_loses_nothing_to_a_large_mean(results):
    expected = normalized(wide_batch(torch.float64), slice(0, 7), ALONE)
    for rows, result in zip((slice(0, 4), slice(0, 7)), results[2], strict=True):  # the second process has none left
        y, grad, weight_grad, bias_grad, mean, var = result
        # float32 rounds values of 1000 by 3e-5
        torch.testing.assert_close(y.double(), expected[0][rows], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(grad.double(), expected[1][rows], rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(weight_grad.double(), expected[2], rtol=1e-3, atol=5e-2)  # sums of 112 of them
        torch.testing.assert_close(bias_grad.double(), expected[3], rtol=1e-3, atol=5e-2)
        torch.testing.assert_close(mean.double(), expected[4], rtol=1e-6, atol=0)
        torch.testing.assert_close(var.double(), expected[5], rtol=1e-4, atol=0)


@pytest.mark.parametrize(("batch_size", "micro_batches"), [(8, 1), (7, 3), (5, 5), (2, 4), (1, 1)])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_a_batch_are_the_shares_of_its_micro_batches(batch_size, micro_batches, processes):
    shares = [BatchShare(rank, processes, micro_batches).rows(batch_size) for rank in range(processes)]
    assert sorted(torch.cat(shares).tolist()) == list(range(batch_size))
    count = min(micro_batches, batch_size)
    whole = torch.arange(batch_size).tensor_split(count)
    for index, parts in enumerate(zip(*(share.tensor_split(count) for share in shares), strict=True)):
        assert torch.cat(parts).tolist() == whole[index].tolist()
