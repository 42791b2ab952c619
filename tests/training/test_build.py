"""Building from the configuration: the optimizer is torch's own, without the hooks that import its compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from convnn.training import build

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


def test_a_step_does_not_import_the_compiler():
    code = (
        "import sys, torch\n"
        "from convnn.training import build\n"
        "parameter = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = build.without_compiler_hooks(torch.optim.AdamW)([parameter], fused=True)\n"
        "optimizer.zero_grad(); parameter.sum().backward(); optimizer.step(); optimizer.state_dict()\n"
        "raise SystemExit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
