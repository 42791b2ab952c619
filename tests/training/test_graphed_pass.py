"""A pass that is recorded and replayed computes what the pass does; where it cannot, it runs as it is."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from support import training

from convnn.training import graphed_pass
from convnn.training.graphed_pass import MOST_FLOPS, STEPS_BEFORE_REPLAY, GraphedPass, pays, record_cuda_graph
from convnn.training.shared_update import TrainedTensors
from convnn.training.trainer import Trainer
from tui.screens.setup import timing_probe


def record_on_cpu(model: torch.nn.Module, fault: str = ""):
    """Return what records a pass on the CPU as a graph does: its tensors are those that every replay writes."""

    def record(function, device):
        buffers = [buffer.clone() for buffer in model.buffers()]
        results, parameters = function(), TrainedTensors(model).tensors
        gradients = [parameter.grad for parameter in parameters]
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)  # recording runs nothing
        if fault == "refused":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

        def replay():
            if fault == "random numbers of the recording":
                torch.manual_seed(0)
            for parameter in parameters:
                parameter.grad = None
            computed = [*function(), *(parameter.grad for parameter in parameters)]
            for static, value in zip([*results, *gradients], computed, strict=True):
                if static is not None and fault != "batch of the recording":
                    static.copy_(value)

        return replay, results

    return record


def trained(steps: int, *, graphed: bool, fault: str = "") -> tuple[Trainer, list[float]]:
    """A trainer after some steps, of which every third has a smaller batch, and their losses."""
    options = {"model": "vgg11", "resize": 32, "batch_size": 8, "limit": 20}  # with dropout and a shared update
    trainer = Trainer.from_config(training.config(**options))
    if graphed:
        model = trainer.state.model
        run_pass = lambda x, y: trainer._run_pass(x, y, len(y))  # noqa: E731
        trainer.graphed_pass = GraphedPass(run_pass, model, 8, record_on_cpu(model, fault))
    trainer.state.model.train()
    batches = [batch for _ in range(steps) for batch in trainer.state.train_loader.epoch(1)][:steps]
    losses = []
    for index, (x, y) in enumerate(batches):
        torch.manual_seed(index)
        losses.append(trainer.train_step(x, y)[0].item())
    return trainer, losses


@pytest.fixture(scope="module")
def undisturbed():
    return trained(6, graphed=False)


@pytest.mark.parametrize("fault", ["", "refused", "random numbers of the recording", "batch of the recording"])
def test_training_is_the_same_with_a_graph_or_where_it_is_turned_off(undisturbed, monkeypatch, fault):
    monkeypatch.setattr(graphed_pass, "WARM_UP_STEPS", 1)
    trainer, losses = trained(6, graphed=True, fault=fault)
    plain, plain_losses = undisturbed
    assert losses == plain_losses
    for name, value in plain.state.model.state_dict().items():
        assert torch.equal(trainer.state.model.state_dict()[name], value), name
    assert trainer.state.meters.state_dict() == plain.state.meters.state_dict()
    assert (trainer.graphed_pass.problem is None, trainer.graphed_pass._replay is not None) == (not fault, not fault)
    (warning, *_) = [*trainer._graph_warning(), None]
    assert ("kernel by kernel" in warning.message and trainer.graphed_pass is None) if fault else warning is None


@pytest.mark.parametrize("graphed", [False, True])
def test_the_time_of_a_step_is_that_of_a_replay(graphed):
    trainer = Trainer.from_config(training.config(batch_size=4, limit=24))
    if graphed:
        run_pass = partial(trainer._run_pass, batch_size=4)
        trainer.graphed_pass = GraphedPass(run_pass, trainer.state.model, 4, record_on_cpu(trainer.state.model))
    left_out = STEPS_BEFORE_REPLAY if graphed else timing_probe.WARM_UP_STEPS
    assert timing_probe._measure(trainer)["steps"] == len(trainer.state.train_loader) - left_out


def test_a_capture_that_fails_leaves_the_stream_and_the_generator_as_they_were(monkeypatch):
    """As torch fails: the end of the capture raises, too, before the stream is the former one again."""
    cuda = SimpleNamespace(stream="the one of training", state="drawing")

    @contextmanager
    def failing_graph(graph, stream, capture_error_mode):
        cuda.stream, cuda.state = stream, "capturing"
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    generator = SimpleNamespace(
        clone_state=lambda: cuda.state, graphsafe_set_state=lambda state: setattr(cuda, "state", state)
    )
    stand_ins = {
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "Stream": lambda device: "the one of the capture",
        "current_stream": lambda: cuda.stream,
        "set_stream": lambda stream: setattr(cuda, "stream", stream),
        "device": lambda device: nullcontext(),
        "graph": failing_graph,
        "default_generators": (None, generator),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    with pytest.raises(RuntimeError, match="previous error"):
        record_cuda_graph(lambda: [torch.zeros(2).item()], torch.device("cuda:1"))
    assert (cuda.stream, cuda.state) == ("the one of training", "drawing")


@pytest.mark.parametrize(
    ("kind", "flops", "options", "expected"),
    [
        ("cuda", 1e6, {}, True),
        ("cuda", 1e6, {"use_amp": True}, True),
        ("cuda", 1e6, {"use_amp": True, "amp_dtype": "fp16"}, False),
        ("cuda", 1e6, {"cuda_graph": "off"}, False),
        ("cuda", 1e6, {"use_compiled": True}, False),
        ("cuda", 1e6, {"deterministic": True}, False),
        ("cuda", 1e6, {"accumulate": 2}, False),
        ("cuda", MOST_FLOPS, {}, False),
        ("cpu", 1e6, {}, False),
    ],
)
def test_a_graph_is_for_small_steps_on_cuda(kind, flops, options, expected):
    assert pays(training.config(device=kind, **options), torch.device(kind), lambda: flops) == expected
