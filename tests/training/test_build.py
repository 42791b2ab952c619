"""Building from the configuration: the optimizer is torch's own, without the hooks that import its compiler."""

from __future__ import annotations

import pytest
import torch
from support import training

from convnn.training import build, device

METHODS = ("add_param_group", "load_state_dict", "state_dict", "zero_grad", "step")


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_the_hooks_of_this_version_of_torch_are_the_known_ones(kind):
    bare = build.without_compiler_hooks(kind)
    for name in METHODS:
        assert name in vars(bare), f"torch {torch.__version__} wraps {name} differently: update build.COMPILER_HOOKS"
    assert not [name for name in METHODS if hasattr(vars(bare)[name], "__wrapped__") and name != "step"]
    assert not hasattr(vars(bare)["step"].__wrapped__, "__wrapped__")  # within torch.no_grad


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_steps_without_the_hooks_are_the_same_bit_for_bit(kind):
    weights = []
    for class_ in (kind, build.without_compiler_hooks(kind)):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = class_([parameter], lr=0.1, weight_decay=0.01, fused=True)
        for _ in range(3):
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        weights.append(parameter.detach().clone())
    assert torch.equal(*weights)


def test_an_optimizer_with_other_wrappers_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(build, "COMPILER_HOOKS", ())
    bare = build.without_compiler_hooks(torch.optim.SGD)
    assert all(getattr(bare, name) is getattr(torch.optim.SGD, name) for name in METHODS)


@pytest.mark.parametrize(
    ("device_type", "options", "fused"),
    [
        ("mps", {}, True),
        ("mps", {"use_amp": True}, True),
        ("mps", {"use_amp": True, "amp_dtype": "fp16"}, False),
        ("cuda", {"use_amp": True, "amp_dtype": "fp16"}, True),
        ("cpu", {}, True),
        ("xpu", {}, False),
    ],
)
def test_a_fused_step_is_taken_where_it_honors_the_scaler(device_type, options, fused):
    config = training.config(**options | {"device": device_type if device_type in ("mps", "cuda") else "cpu"})
    assert build.is_fused(config, torch.device(device_type)) is fused


def test_mixed_precision_on_mps_needs_no_scaler_unless_fp16_is_chosen():
    mps = torch.device("mps")
    assert device.amp_dtype(training.config(use_amp=True), mps) is torch.bfloat16
    assert device.amp_dtype(training.config(use_amp=True, amp_dtype="fp16", device="mps"), mps) is torch.float16


@pytest.mark.parametrize(
    ("device_type", "capability", "matmul", "products"),
    [
        ("cuda", (9, 0), "auto", "tf32"),
        ("cuda", (9, 0), "fp32", "fp32"),
        ("cuda", (7, 5), "tf32", "fp32"),  # before Ampere
        ("cpu", None, "auto", "fp32"),
        ("mps", None, "tf32", "fp32"),
    ],
)
def test_products_are_in_tf32_on_cards_that_have_it_unless_declined(
    device_type, capability, matmul, products, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert device.float32_products(training.config(matmul=matmul), torch.device(device_type)) == products


@pytest.mark.parametrize(("name", "processes", "current"), [("cuda:1", 1, [1]), ("cuda", 1, [0]), ("cuda", 2, [])])
def test_the_card_of_a_run_is_the_current_one(monkeypatch, name, processes, current):
    """torch asks the current card about captures, which takes memory of it; several processes choose when they join."""
    selected = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    device.configure_torch(training.config(device=name, processes=processes), torch.device(name))
    assert selected == current


def test_every_size_of_a_batch_is_compiled_for_itself(monkeypatch):
    """A smaller last batch must not replace the graph of the full ones by one with symbolic sizes."""
    from torch._dynamo import config as dynamo

    graphs = []

    def backend(graph, inputs):
        graphs.append([size for x in inputs for size in x.shape])
        return graph.forward

    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile_model(model, backend=backend, **options))
    torch.compiler.reset()
    model = build.compiled(training.config(use_compiled=True), torch.nn.Linear(3, 2))
    batches = [8, 5, 8, 3, 8, *range(9, 20)]
    for batch in batches:
        model(torch.ones(batch, 3))
    torch.compiler.reset()
    assert len(graphs) == len(set(batches)) <= dynamo.recompile_limit
    assert all(isinstance(size, int) for sizes in graphs for size in sizes)


@pytest.mark.parametrize(
    ("kind", "options", "preferred"),
    [
        ("cuda", {}, True),
        ("cuda", {"matmul": "fp32"}, False),
        ("cuda", {"matmul": "fp32", "use_amp": True}, True),
        ("cpu", {"use_amp": True}, False),
    ],
)
def test_convolutions_are_channels_last_where_tensor_cores_compute_them(monkeypatch, kind, options, preferred):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=None: (9, 0))
    assert device.prefers_channels_last(training.config(**options), torch.device(kind)) == preferred


def test_copies_on_the_host_are_contiguous_and_of_their_own():
    weights = {"a": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "step": torch.tensor(3.0)}
    for copies in (device.host_copies(weights), device.clones(weights)):
        assert all(torch.equal(copies[name], value) for name, value in weights.items())
        assert not {value.data_ptr() for value in copies.values()} & {value.data_ptr() for value in weights.values()}
    assert device.host_copies(weights)["a"].is_contiguous()
