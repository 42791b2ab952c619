"""The forward and backward pass of a training step as one CUDA graph, which launches all of its kernels at once.

It is for small models, whose kernels end before the host has launched the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from convnn.config.schema import RunConfig
from convnn.training.shared_update import TrainedTensors

WARM_UP_STEPS = 3  # without the graph: caches are filled and kernels tuned, outside of its memory
STEPS_BEFORE_REPLAY = WARM_UP_STEPS + 1  # the last of which records the graph
MOST_FLOPS = 1e11  # of a step: on an H200 one of 2.5e11 takes as long to launch as to compute
TOLERANCE = 1e-2  # relative; the order of atomic additions, not another computation

# (x, y) -> tensors on the device; it leaves the gradients in the parameters
Pass = Callable[[Tensor, Tensor], Sequence[Tensor]]
# records the kernels of a function on a device without running them -> what runs them, and the tensors they write
Record = Callable[[Callable[[], Sequence[Tensor]], torch.device], tuple[Callable[[], None], Sequence[Tensor]]]


def pays(config: RunConfig, device: torch.device, flops: Callable[[], float]) -> bool:
    """Return whether a run uses a graph: on CUDA, where its steps are small. `flops()` are forward, of an image.

    A compiled model has graphs of its own, the scale of fp16, micro-batches and other processes need the host within a
    step, and deterministic runs compute every step in the same way.
    """
    runtime, training = config.runtime, config.training
    divides = training.accumulate > 1 or runtime.processes > 1
    fits = not (divides or runtime.compile or runtime.deterministic or runtime.amp_dtype == "fp16")
    is_on = device.type == "cuda" and runtime.cuda_graph == "auto" and fits
    return is_on and 3 * flops() * training.batch_size < MOST_FLOPS


def record_cuda_graph(
    function: Callable[[], Sequence[Tensor]], device: torch.device
) -> tuple[Callable[[], None], Sequence[Tensor]]:
    """Record the kernels of a function as a CUDA graph. Raises RuntimeError where one cannot be recorded.

    torch's own stream for captures lies on the device that was the current one when the process first recorded.
    """
    graph, stream, generator = torch.cuda.CUDAGraph(), torch.cuda.Stream(device), _generator(device)
    state = generator.clone_state()
    with torch.cuda.device(device):
        current_stream = torch.cuda.current_stream()
        try:
            # other threads may use the device meanwhile, such as to pin the next batch
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                results = function()
        except RuntimeError:
            # a capture that fails leaves its stream as the current one, and the generator in a state of capture, in
            # which the next dropout would raise
            torch.cuda.set_stream(current_stream)
            generator.graphsafe_set_state(state)
            raise
    return graph.replay, results


class GraphedPass:
    """A pass that is recorded after some steps and replayed from then on, for batches of one size.

    Before it is used, its results are compared with those of the pass itself, at a step where both compute the same.
    Where they differ, or where it cannot be recorded, `problem` says so and the pass runs as it is.
    """

    def __init__(self, run_pass: Pass, model: nn.Module, batch_size: int, record: Record = record_cuda_graph) -> None:
        self.run_pass, self.batch_size, self._record = run_pass, batch_size, record
        self._parameters, self._buffers = TrainedTensors(model).tensors, list(model.buffers())
        self._steps = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None  # of the graph, as are the next two
        self._results: Sequence[Tensor] = ()
        self._gradients: list[Tensor | None] = []
        self.problem: str | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Return what the pass does. The results and the gradients are valid until the next call."""
        if len(y) != self.batch_size or self.problem is not None:
            return self.run_pass(x, y)
        self._steps += 1
        if self._replay is not None:
            self._run_graph(self._replay, x, y)
            return self._results
        if self._steps <= WARM_UP_STEPS:
            return self.run_pass(x, y)
        return self._try_graph(x, y)

    def _run_graph(self, replay: Callable[[], None], x: Tensor, y: Tensor) -> None:
        assert self._inputs is not None
        for buffer, batch in zip(self._inputs, (x, y), strict=True):
            buffer.copy_(batch)
        replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def _try_graph(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Run the pass, and the graph of it on the same batch from the same random numbers; keep what the pass did."""
        generator = _generator(x.device)
        before = generator.get_state()
        results = self.run_pass(x, y)
        gradients = [parameter.grad for parameter in self._parameters]
        buffers, after = [buffer.clone() for buffer in self._buffers], generator.get_state()
        try:
            for parameter in self._parameters:
                parameter.grad = None
            generator.manual_seed(0)  # a graph that kept the numbers of its recording would differ
            x_buffer, y_buffer = torch.zeros_like(x), torch.zeros_like(y)  # as one that kept its batch would
            replay, self._results = self._record(lambda: self.run_pass(x_buffer, y_buffer), x.device)
            self._inputs = x_buffer, y_buffer
            self._gradients = [parameter.grad for parameter in self._parameters]
            generator.set_state(before)
            self._run_graph(replay, x, y)
            if _agree([*results, *gradients], [*self._results, *self._gradients]):
                self._replay = replay
            else:
                self.problem = "the CUDA graph of a step computes something else than the step"
        except RuntimeError as error:
            self.problem = f"no CUDA graph of a step can be recorded ({str(error).splitlines()[0]})"
        if self._replay is None:
            self._inputs, self._results, self._gradients = None, (), []
        generator.set_state(after)
        for buffer, value in zip(self._buffers, buffers, strict=True):
            buffer.copy_(value)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return results


def _generator(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    generator: torch.Generator = torch.cuda.default_generators[index]
    return generator


def _agree(expected: Sequence[Tensor | None], computed: Sequence[Tensor | None]) -> bool:
    """Return whether tensors are the same up to the rounding of their sums. Syncs with the device."""
    if [value is None for value in expected] != [value is None for value in computed]:
        return False
    pairs = [(a.float(), b.float()) for a, b in zip(expected, computed, strict=True) if a is not None and b is not None]
    differences = torch.stack([(a - b).norm() for a, b in pairs])
    return bool(differences.norm() <= TOLERANCE * torch.stack([a.norm() for a, _ in pairs]).norm())
