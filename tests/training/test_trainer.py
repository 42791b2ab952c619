"""The trainer: what a configuration says is what is computed, and the same again for the same seed."""

from __future__ import annotations

import copy
import math
from collections import Counter
from itertools import islice

import pytest
import torch
from support import training
from torch.nn import functional as F

from convnn.config.options import BY_KEY
from convnn.events import Epoch, Finished, Started, Step
from convnn.layers import ConvNN2d, ConvNNAttention2d
from convnn.layers.ops import flops
from convnn.layers.ops.custom_op import OPERATORS
from convnn.training import build
from convnn.training.evaluation import run_through
from convnn.training.meters import DataLoadingShare, Stopwatch
from convnn.training.schedule import Schedule
from convnn.training.state import is_finite
from convnn.training.step_seed import step_seed
from convnn.training.trainer import Trainer


def build_trainer(**options) -> Trainer:
    return Trainer.from_config(training.config(**options))


def one_step(trainer: Trainer, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of a step, by parameter; eval mode keeps BatchNorm out of it."""
    trainer.state.model.eval()
    trainer.train_step(x, y)
    return {name: p.grad.clone() for name, p in trainer.state.model.named_parameters() if p.grad is not None}


def test_events_come_in_order_and_end_with_finished():
    trainer = build_trainer()
    events = [event for event in trainer.run() if event is not None]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished) and events[-1].outcome == "done"
    assert [event.epoch for event in events if isinstance(event, Epoch)] == [1, 2]
    assert next(event for event in events if isinstance(event, Step)).step == 1
    assert events[0].parameters == sum(p.numel() for p in trainer.state.model.parameters())


def test_steps_are_logged_twice_a_second_where_an_epoch_is_shorter_than_that(monkeypatch):
    trainer = build_trainer(num_epochs=8)
    seconds = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds) / 20)  # 0.05 s between two looks at the clock
    steps = [event.step for event in trainer.run() if isinstance(event, Step)]
    assert len(steps) > 2 and steps[-1] > steps[1] > len(trainer.state.train_loader)


def test_the_global_generator_does_not_matter():
    def digest(junk: int) -> list[dict[str, float]]:
        epochs = []
        for event in Trainer.from_config(training.config(training.RICH, layer="Branching_Attn", num_epochs=1)).run():
            torch.manual_seed(junk)  # as if somebody else drew between two steps
            if isinstance(event, Epoch):
                epochs.append({k: v for k, v in event.metrics.items() if not k.endswith(("_s", "_bytes"))})
        return epochs

    assert digest(1) == digest(2)


def test_seeds_differ_by_epoch_and_step():
    seeds = {step_seed(seed, epoch, step) for seed in (0, 1) for epoch in range(30) for step in range(30)}
    assert len(seeds) == 2 * 30 * 30
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_loss_and_scores_are_those_of_an_independent_computation():
    trainer = build_trainer(layer="ConvNN")
    model, test_loader = trainer.state.model, trainer.state.data.test
    metrics = run_through(trainer.evaluator.evaluate(model, test_loader, "test"))
    model.eval()
    with torch.no_grad():
        batches = [(model(x), y) for x, y in test_loader.epoch(0)]
    logits, y = torch.cat([batch[0] for batch in batches]).double(), torch.cat([batch[1] for batch in batches])
    order = logits.argsort(dim=1, descending=True)
    right = [100 * (order[:, :k] == y[:, None]).any(1).double().mean().item() for k in (1, 5)]
    loss = -(logits.softmax(1)[torch.arange(len(y)), y].log()).mean().item()
    assert (metrics["test_top1"], metrics["test_top5"]) == pytest.approx(right)
    assert metrics["test_loss"] == pytest.approx(loss, rel=1e-6)  # ours sums float32 losses in float64


def test_accumulation_is_the_whole_batch():
    whole, parts = build_trainer(clip_grad_norm=0), build_trainer(clip_grad_norm=0, accumulate=3)
    parts.state.model.load_state_dict(whole.state.model.state_dict())
    x, y = next(whole.state.train_loader.epoch(1))
    expected, gradients = one_step(whole, x, y), one_step(parts, x, y)
    assert len(x) % 3  # parts of different sizes
    for name in expected:  # to the rounding of sums in another order
        torch.testing.assert_close(gradients[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batch_norm_sees_micro_batches(accumulate):
    trainer = build_trainer(accumulate=accumulate)
    trainer.state.model.train()
    trainer.train_step(*next(trainer.state.train_loader.epoch(1)))
    norms = [module for module in trainer.state.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and {int(norm.num_batches_tracked) for norm in norms} == {accumulate}
    assert "BatchNorm" in BY_KEY["training.accumulate"].help


class GraphMemory(torch.nn.Module):
    """Overwrites at every call what an earlier call and its backward pass allocated, as a captured CUDA graph does."""

    def __init__(self, model):
        super().__init__()
        self.model, self.own_memory = model, None

    def forward(self, x):
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if self.own_memory is None:
            self.own_memory = {gradient.data_ptr() for gradient in gradients}
        for gradient in gradients:
            if gradient.data_ptr() not in self.own_memory:
                gradient.fill_(math.nan)
        return self.model(x)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_accumulation_outlives_the_memory_of_cuda_graphs(mode):
    options = {"clip_grad_norm": 0, "accumulate": 3}
    eager, compiled = build_trainer(**options), build_trainer(use_compiled=True, compile_mode=mode, **options)
    compiled.parallel_model = GraphMemory(compiled.state.model)
    x, y = next(eager.state.train_loader.epoch(1))
    for _ in range(2):
        expected, gradients = one_step(eager, x, y), one_step(compiled, x, y)
        for name in expected:
            torch.testing.assert_close(gradients[name], expected[name])


def test_mse_is_against_one_hot_targets():
    loss_fn = build.loss_fn(training.config(criterion="MSE"))
    logits, y = torch.randn(7, 10), torch.arange(7)
    expected = F.mse_loss(logits, torch.eye(10)[y])
    torch.testing.assert_close(loss_fn(logits, y).mean(), expected)


@pytest.mark.parametrize("limit", [0.01, 0])
def test_clipping_bounds_the_global_norm(limit):
    trainer = build_trainer(clip_grad_norm=limit)
    x, y = next(trainer.state.train_loader.epoch(1))
    _, norm = trainer.train_step(x, y)
    after = torch.stack([p.grad.norm() for p in trainer.state.model.parameters()]).norm()
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


@pytest.mark.parametrize(
    ("scheduler", "after"),
    [("none", [1, 1, 1]), ("step", [1, 0.1, 0.01]), ("cosine", [1, 0.75, 0.25]), ("plateau", [1, 1, 1])],
)
def test_the_rate_rises_linearly_before_the_schedule(scheduler, after):
    config = training.config(scheduler=scheduler, lr_step=1, warmup_epochs=3, num_epochs=6, lr=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, rates = Schedule(config, optimizer), []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(50.0)
    assert rates[:3] == pytest.approx([0.025, 0.05, 0.075])
    assert rates[3] == 0.1 and rates[4:] == pytest.approx([0.1 * factor for factor in after[1:]])


def test_smoothed_labels_are_for_training_alone():
    trainer = build_trainer(label_smoothing=0.2)
    logits, y = torch.randn(4, 10), torch.arange(4)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2, reduction="none")(logits, y)
    torch.testing.assert_close(trainer.training_loss_fn(logits, y), expected)
    torch.testing.assert_close(trainer.loss_fn(logits, y), torch.nn.CrossEntropyLoss(reduction="none")(logits, y))


def test_the_moving_average_is_that_of_weights_and_buffers_after_each_step():
    trainer = build_trainer(ema=0.75)
    expected: dict[str, torch.Tensor] = {}
    for batch in trainer.state.train_loader.epoch(1):
        trainer.train_step(*batch)
        for name, value in trainer.state.model.state_dict().items():
            if value.is_floating_point():
                expected[name] = 0.75 * expected[name] + 0.25 * value if name in expected else value.clone()
    average = trainer.state.ema.module.state_dict()
    assert any("running_var" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(average[name], value)


def test_recalibrated_statistics_are_those_of_update_bn_and_change_no_step():
    plain, recalibrated = build_trainer(num_epochs=2), build_trainer(num_epochs=2, bn_recalibrate=2)
    metrics = [[event.metrics for event in t.run() if isinstance(event, Epoch)] for t in (plain, recalibrated)]
    assert [m["train_loss"] for m in metrics[0]] == [m["train_loss"] for m in metrics[1]]
    assert [m["test_loss"] for m in metrics[0]] != [m["test_loss"] for m in metrics[1]]
    expected, state = copy.deepcopy(plain.state.model), recalibrated.state
    torch.optim.swa_utils.update_bn(islice(state.train_loader.epoch(0), 2), expected)
    for name, value in expected.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(state.model.state_dict()[name], value)


def test_bf16_computes_in_bf16_and_keeps_float32_weights():
    dtypes = set()
    trainer = build_trainer(use_amp=True)
    trainer.state.model.register_forward_hook(lambda module, x, out: dtypes.add(out.dtype))
    trainer.train_step(*next(trainer.state.train_loader.epoch(1)))
    assert dtypes == {torch.bfloat16}
    assert {p.dtype for p in trainer.state.model.parameters()} == {torch.float32}
    assert not trainer.state.scaler.is_enabled()


def test_the_preflight_leaves_no_trace():
    trainer = build_trainer(use_amp=True)
    before = copy.deepcopy(trainer.state.model.state_dict())
    events = trainer.run()
    assert isinstance(next(events), Started)
    assert "bf16" in next(events).message
    for name, value in trainer.state.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in trainer.state.model.parameters())


def test_weights_that_are_not_finite_are_found():
    model = build_trainer().state.model
    assert is_finite(model)
    next(model.parameters()).data.view(-1)[3] = math.nan
    assert not is_finite(model)


def test_training_time_leaves_out_preparation_and_evaluation():
    trainer = build_trainer(num_epochs=1)
    stream = trainer.run()
    next(stream)
    assert trainer.state.epoch_timer.seconds() == 0 and not trainer.state.epoch_timer.running
    for event in stream:
        if isinstance(event, Epoch):
            assert not trainer.state.epoch_timer.running


def test_compilation_happens_and_is_counted():
    trainer = build_trainer(model="vgg11", resize=32, limit=20, batch_size=8, use_compiled=True)
    started = next(trainer.run())
    assert started.compile == {"mode": "default", "graphs": 1, "breaks": 0}
    assert all(tensor.grad is None for tensor in trainer.trained.tensors)
    loss, norm = trainer.train_step(*next(trainer.state.train_loader.epoch(1)))
    assert loss.isfinite() and norm > 0


def kept_for_backward(mode: str) -> int:
    """Bytes of tensors that a forward pass keeps, beside the weights; cut as inductor would, without its C++."""
    options = training.SMALL | {"model": "vgg11", "resize": 32, "limit": 40, "batch_size": 32}
    neighbours = {"layer": "Branching", "K": 4, "sampling_type": "spatial", "num_samples": 4}
    config = training.config(options | neighbours, use_compiled=True, compile_mode=mode)
    trainer = build_trainer(**(options | neighbours))
    build.compiled(config, trainer.state.model)  # sets what the mode means
    torch._dynamo.reset()
    first_layers = torch.nn.Sequential(*list(trainer.state.model.children())[:3])  # 4 of 8: more take longer to compile
    model = torch.compile(first_layers, backend="aot_eager_decomp_partition").train()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(next(trainer.state.train_loader.epoch(1))[0])  # kept alive: no address is used twice
    assert out.requires_grad
    return sum(saved.values())


def test_reduce_memory_keeps_less_for_the_backward_pass():
    reduced = kept_for_backward("reduce-memory")
    default = kept_for_backward("default")  # which sets back what the other mode has set
    assert 0 < reduced < 0.7 * default  # the budget is half of what may be computed again


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_an_optimizer_that_clips_takes_the_step_of_clipped_gradients(name, limit):
    weights = []
    for in_step in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 4)
        optimizer = build.optimizer(training.config(optimizer=name, lr=0.1), model)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 5)).square().sum().backward()
            gradients = [parameter.grad for parameter in model.parameters()]
            if in_step:
                build.clip_in_step(optimizer, torch.nn.utils.get_total_norm(gradients), limit)
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_reduce_memory_searches_once_per_layer():
    from functorch.compile import min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    options = training.SMALL | {"model": "vgg11", "resize": 32, "limit": 8, "batch_size": 4, "layer": "ConvNN_Attn"}
    trainer = build_trainer(**options)
    build.compiled(training.config(options, use_compiled=True, compile_mode="reduce-memory"), trainer.state.model)
    calls: Counter[str] = Counter()

    def count(graph_module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        calls.update(str(node.target) for node in graph_module.graph.nodes)
        return graph_module

    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=count, partition_fn=min_cut_rematerialization_partition)
    model = torch.compile(trainer.state.model, backend=backend).train()
    model(next(trainer.state.train_loader.epoch(1))[0]).sum().backward()  # the backward graph is compiled when it runs
    assert calls["convnn.nearest_keys.default"] == calls["convnn.attend_backward.default"] == 8


def test_every_operator_has_flops():
    from torch.utils.flop_counter import FlopCounterMode

    of_layers = [
        operator for operator in OPERATORS.values() if operator.function.__module__.startswith("convnn.layers")
    ]
    assert {operator.name for operator in of_layers} == {f"convnn::{name}" for name in flops.FORMULAS}
    flops.register_flops()
    layer, convolution = ConvNNAttention2d(4, 6, K=3, padding=0), ConvNN2d(6, 5, K=3, padding=0)
    with FlopCounterMode(display=False) as counter:
        convolution(layer(torch.randn(2, 4, 5, 6))).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    positions, ops = 2 * 30, torch.ops.convnn
    assert counts[ops.nearest_keys] == 2 * positions * 30 * 4
    assert counts[ops.nearest_positions] == 2 * positions * 30 * 6
    assert counts[ops.attend_backward] == 2 * counts[ops.attend] == 2 * positions * 3 * (4 + 4) * 2
    assert counts[ops.aggregate_backward] == 2 * counts[ops.aggregate] == 2 * positions * 3 * 6 * 5 * 2


def test_the_peak_memory_is_of_this_run_and_without_what_was_there_before():
    """Whatever an earlier run in this process took, a small one reports less, of the size of its estimate."""
    peaks, estimates = [], []
    for width, batch in ((0.25, 128), (0.0625, 4)):
        trainer = build_trainer(model="vgg11", resize=32, width=width, batch_size=batch, limit=128, num_epochs=1)
        events = [event for event in trainer.run() if event is not None]
        estimates += [event.memory_bytes for event in events if isinstance(event, Started)]
        peaks += [event.metrics["peak_bytes"] for event in events if isinstance(event, Epoch)]
    assert peaks[1] < peaks[0]
    assert all(peak < 1.5 * estimate for peak, estimate in zip(peaks, estimates, strict=True))


def test_the_share_of_data_loading_is_that_of_the_training_time():
    timer = Stopwatch()
    share = DataLoadingShare(timer)
    with share:
        pass
    timer.set(3600.0)
    assert 0 < share.take() < 1
    timer.set(7200.0)
    assert share.take() == 0
    with share:
        pass
    timer.set(7200.0 + 1e-12)  # clocks may disagree
    assert share.take() == 100
