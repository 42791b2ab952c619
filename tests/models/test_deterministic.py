"""No model uses an operation that torch refuses on CUDA when only deterministic algorithms are allowed."""

import os
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convnn.config.schema import LAYERS, RunConfig
from convnn.training import build, device

ONLY_FOR_MAPS = {"nllloss"}  # its one-dimensional form, which cross entropy calls, is deterministic


def normalized(name):
    return name.replace("_", "").lower()


def refused_operations():
    """What torch's documentation lists, in the spelling of its operators without underscores."""
    text = torch.use_deterministic_algorithms.__doc__ or ""
    refused = text.partition("will throw a\n    :class:`RuntimeError` when ``mode=True``")[2].partition("In addition")[
        0
    ]
    names = {normalized(name.rpartition(".")[2]) for name in re.findall(r"\* :\w+:`([\w.]+)`", refused)}
    return names - ONLY_FOR_MAPS - {"scatterreduce", "resize", "put"}  # refused for arguments that are not used


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(normalized(func.name().partition("::")[2].partition(".")[0]).removesuffix("backward"))
        return func(*args, **(kwargs or {}))


def test_the_list_is_read():
    assert {"adaptiveavgpool2d", "histc", "maxunpool2d", "bincount"} <= refused_operations()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("model", "side"), [("vgg11", 32), ("vgg11", 64), ("vgg11", 96), ("resnet18", 12)])
def test_a_step_uses_no_refused_operation(model, side, layer):
    config = RunConfig.model_validate({"model": {"name": model, "width": 0.0625}, "layer": {"type": layer}})
    network = build.model(config, 10)
    with Operations() as operations:
        loss = build.loss_fn(config)(network(torch.randn(2, 3, side, side)), torch.tensor([1, 2])).mean()
        loss.backward()
    assert "convolution" in operations.names or layer in ("ConvNN", "ConvNN_Attn")
    assert not operations.names & refused_operations()


def test_a_deterministic_run_fills_no_buffer_and_has_what_cublas_needs():
    config = RunConfig.model_validate({"runtime": {"deterministic": True, "threads": torch.get_num_threads()}})
    device.configure_torch(config, torch.device("cpu"))
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    finally:
        device.configure_torch(RunConfig(), torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
