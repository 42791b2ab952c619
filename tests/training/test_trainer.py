"""The trainer: what a configuration says is what is computed, and the same again for the same seed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support import training
from torch.nn import functional as F

from convnn.events import Epoch, Finished, Started, Step
from convnn.training import build
from convnn.training.evaluation import evaluate, finished
from convnn.training.state import finite
from convnn.training.trainer import Trainer, step_seed


def prepared(**options) -> Trainer:
    trainer = Trainer(training.config(**options))
    trainer.prepare()
    return trainer


def one_step(trainer: Trainer, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of a step, by parameter; eval mode keeps BatchNorm out of it."""
    trainer.model.eval()
    trainer._step(x, y)
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def test_events_come_in_order_and_end_with_finished():
    told = [event for event in Trainer(training.config()).run() if event is not None]
    assert isinstance(told[0], Started)
    assert isinstance(told[-1], Finished) and told[-1].outcome == "done"
    assert [event.epoch for event in told if isinstance(event, Epoch)] == [1, 2]
    assert next(event for event in told if isinstance(event, Step)).step == 1
    assert told[0].parameters == sum(p.numel() for p in prepared().model.parameters())


def test_the_global_generator_does_not_matter():
    def digest(junk: int) -> list[dict[str, float]]:
        found = []
        for event in Trainer(training.config(training.RICH, use_amp=False, num_epochs=1)).run():
            torch.manual_seed(junk)  # as if somebody else drew between two steps
            if isinstance(event, Epoch):
                found.append({k: v for k, v in event.metrics.items() if not k.endswith(("_s", "_bytes"))})
        return found

    assert digest(1) == digest(2)


def test_seeds_differ_by_epoch_and_step():
    seeds = {step_seed(seed, epoch, step) for seed in (0, 1) for epoch in range(30) for step in range(30)}
    assert len(seeds) == 2 * 30 * 30
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_loss_and_scores_are_those_of_an_independent_computation():
    trainer = prepared(layer="ConvNN")
    figures = finished(evaluate(trainer.model, trainer.data.test, trainer.losses, trainer.device, None, "test", seed=0))
    trainer.model.eval()
    with torch.no_grad():
        parts = [(trainer.model(x), y) for x, y in trainer.data.test.epoch(0)]
    logits, y = torch.cat([p[0] for p in parts]).double(), torch.cat([p[1] for p in parts])
    order = logits.argsort(dim=1, descending=True)
    right = [100 * (order[:, :k] == y[:, None]).any(1).double().mean().item() for k in (1, 5)]
    loss = -(logits.softmax(1)[torch.arange(len(y)), y].log()).mean().item()
    assert (figures["test_top1"], figures["test_top5"]) == pytest.approx(right)
    assert figures["test_loss"] == pytest.approx(loss, rel=1e-6)  # ours sums float32 losses in float64


def test_accumulation_is_the_whole_batch():
    whole, parts = prepared(clip_grad_norm=0), prepared(clip_grad_norm=0, accumulate=3)
    parts.model.load_state_dict(whole.model.state_dict())
    x, y = next(whole.train.epoch(1))
    expected, found = one_step(whole, x, y), one_step(parts, x, y)
    assert len(x) % 3  # parts of different sizes
    for name in expected:  # to the rounding of sums in another order
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_mse_is_against_one_hot_targets():
    losses = build.losses(training.config(criterion="MSE"))
    logits, y = torch.randn(7, 10), torch.arange(7)
    expected = F.mse_loss(logits, torch.eye(10)[y])
    torch.testing.assert_close(losses(logits, y).mean(), expected)


@pytest.mark.parametrize("limit", [0.01, 0])
def test_clipping_bounds_the_global_norm(limit):
    trainer = prepared(clip_grad_norm=limit)
    x, y = next(trainer.train.epoch(1))
    _, norm = trainer._step(x, y)
    after = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
    assert norm > 0.01
    torch.testing.assert_close(after, torch.tensor(limit) if limit else norm, rtol=1e-4, atol=0)


def test_a_rising_accuracy_never_cuts_the_rate():
    config = training.config(scheduler="plateau", lr=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = build.scheduler(config, optimizer)
    for epoch in range(50):
        optimizer.step()
        schedule.step(float(epoch))
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_plateau_cuts_after_five_epochs_without_a_better_figure():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = build.scheduler(training.config(scheduler="plateau"), optimizer)
    rates = []
    for _ in range(7):
        schedule.step(50.0)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:5] == [0.1] * 5  # the first of these is the figure that the five others do not beat
    assert rates[5] == pytest.approx(0.01)


def test_cosine_ends_at_zero_per_epoch():
    config = training.config(scheduler="cosine", num_epochs=4, lr=0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = build.scheduler(config, optimizer)
    for epoch in range(1, 5):
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi * epoch / 4)), abs=1e-9)


def test_bf16_computes_in_bf16_and_keeps_float32_weights():
    seen = []
    trainer = prepared(use_amp=True)
    trainer.model.register_forward_hook(lambda module, x, out: seen.append(out.dtype))
    trainer._step(*next(trainer.train.epoch(1)))
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert not trainer.scaler.is_enabled()


def test_what_is_tried_before_the_first_step_leaves_no_trace():
    plain, tried = prepared(), prepared(use_amp=True)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, tried.model.state_dict()[name]), name
    assert any("bf16" in warning for warning in tried.warnings)


def test_weights_that_are_not_finite_are_found():
    model = copy.deepcopy(prepared().model)
    assert finite(model)
    next(model.parameters()).data.view(-1)[3] = math.nan
    assert not finite(model)


def test_training_time_leaves_out_preparation_and_evaluation():
    trainer = Trainer(training.config(num_epochs=1))
    assert trainer.clock.seconds() == 0
    stream = trainer.run()
    next(stream)
    assert trainer.clock.seconds() == 0 and not trainer.clock.running
    for event in stream:
        if isinstance(event, Epoch):
            assert not trainer.clock.running


def test_compilation_happens_and_is_counted():
    trainer = Trainer(training.config(model="vgg11", resize=32, limit=20, batch_size=8, use_compiled=True))
    started = trainer.prepare()
    assert started.compile == {"mode": "default", "graphs": 1, "breaks": 0}
    loss, norm = trainer._step(*next(trainer.train.epoch(1)))
    assert loss.isfinite() and norm > 0


def kept_for_backward(mode: str) -> int:
    """Bytes of tensors that a forward pass keeps, beside the weights; cut as inductor would, without its C++."""
    options = training.SMALL | {"model": "vgg11", "resize": 32, "limit": 40, "batch_size": 32}
    neighbours = {"layer": "Branching", "K": 4, "sampling_type": "spatial", "num_samples": 4}
    config = training.config(options | neighbours, use_compiled=True, compile_mode=mode)
    trainer = prepared(**(options | neighbours))
    build.compiled(config, trainer.model)  # sets what the mode means
    torch._dynamo.reset()
    network = torch.compile(trainer.model, backend="aot_eager_decomp_partition").train()
    weights = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(next(trainer.train.epoch(1))[0])  # held on to: an address must not be used twice
    assert out.requires_grad
    return sum(held.values())


def test_reduce_memory_keeps_less_for_the_backward_pass():
    default, reduced = kept_for_backward("default"), kept_for_backward("reduce-memory")
    assert 0 < reduced < 0.7 * default  # the budget is half of what may be computed again
    assert kept_for_backward("default") == default  # and it is set back
