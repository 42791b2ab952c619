"""The code path of a GPU without one: tensors that say they lie on one, and a guard against use of the host."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from convnn.layers.ops.custom_op import OPERATORS

DEVICE = torch.device("meta", 7)  # "meta" takes the path of a GPU; the index keeps its caches apart
READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero", "masked_select"}
MAKES = {"tensor", "as_tensor", "from_numpy", "unravel_index"}


class GpuPath(TorchFunctionMode):
    """Lets layers compute on CPU tensors as they do on a GPU: their device is `DEVICE`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__:
            return DEVICE
        if func is torch.Tensor.backward:
            with self:  # our backward functions run within it
                return torch.autograd.backward(args[0])
        args, kwargs = tree_map(lambda leaf: torch.device("cpu") if leaf == DEVICE else leaf, (args, kwargs or {}))
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    def __init__(self, uses):
        super().__init__()
        self.uses = uses

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in READS | MAKES:
            self.uses.append(name)
        elif name == "__setitem__" and not isinstance(args[2], torch.Tensor):
            if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(args[1])):
                self.uses.append("a number assigned to an index")  # is copied to the device first
        elif name in ("__getitem__", "__setitem__") and _has_booleans(args[1]):
            self.uses.append("an index of booleans")
        if func is torch.Tensor.backward:
            with self:
                return torch.autograd.backward(args[0])
        return func(*args, **(kwargs or {}))


def _has_booleans(index):
    return any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(index))


class _Operators(TorchDispatchMode):
    def __init__(self, uses):
        super().__init__()
        self.uses = uses

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in OPERATORS:
            with self:
                return OPERATORS[func].function(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        if any(isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" for leaf in leaves):
            self.uses.append(f"{func} on the cpu")
        return out


class HostUses:
    """Lists what a device would wait for: tensors of the CPU, copies from it, and values that the host reads."""

    def __init__(self):
        self.uses: list[str] = []
        self._modes = (_Functions(self.uses), _Operators(self.uses))

    def __enter__(self):
        for mode in self._modes:
            mode.__enter__()
        return self.uses

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)
