"""What the layers of a model choose on a fixed batch of evaluation images, taken after an epoch.

It changes nothing in the training: no random numbers are drawn, and no gradient of a parameter is kept.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from convnn.config.active import effective_value
from convnn.config.schema import RunConfig
from convnn.data.loaders import Normalize
from convnn.data.splits import derive_seed
from convnn.errors import UserError
from convnn.events import LayerStatistics
from convnn.layer_table import unshuffle_scale
from convnn.layers.neighbor_layer import NeighborLayer
from convnn.layers.neighbor_record import NeighborRecord, record_neighbors
from convnn.layers.neighbor_statistics import (
    Branching,
    branch_parameters,
    mix_norms,
    neighbor_statistics,
    neighbors_overlap,
    record_activations,
    sampled_queries,
)
from convnn.models.architectures import slots
from convnn.training.build import LossFn
from convnn.training.device import autocast

if TYPE_CHECKING:
    from convnn.data import LoadedDataset

IMAGES = 16  # of the fixed batch; no more than are trained on at once
QUERIES = 64  # at most, of each image, whose neighbors are kept for the overlap
MOST_NEIGHBORS = 4096  # of the queries of an image in a layer: every checkpoint holds them
COST_SHARE = 0.01  # of the time of an epoch that statistics may take
NORMS = ("activation", "weight", "gradient")  # of each branch


@dataclass
class StatisticsState:
    """What a resumed run needs to go on with the statistics."""

    next_epoch: int = 1  # the epoch after which they are taken next
    neighbors: dict[str, Tensor] = field(default_factory=dict)  # by slot, of its sampled queries: (B or 1, Q, K) int32

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        neighbors = {
            name: {"shape": list(index.shape), "int32": base64.b64encode(index.numpy().tobytes()).decode()}
            for name, index in self.neighbors.items()
        }
        return {"next_epoch": self.next_epoch, "neighbors": neighbors}

    @classmethod
    def from_state_dict(cls, values: Mapping[str, Any]) -> StatisticsState:
        """Return the saved state. Raises KeyError, TypeError or ValueError where it is none."""
        neighbors = {}
        for name, saved in values["neighbors"].items():
            index = np.frombuffer(base64.b64decode(saved["int32"]), np.int32).reshape(saved["shape"])
            neighbors[name] = torch.from_numpy(index.copy())
        if type(values["next_epoch"]) is not int:
            raise ValueError("the epoch of the next statistics of layers is no number")
        return cls(values["next_epoch"], neighbors)


class ObservedLayer(NamedTuple):
    """The layer in a slot."""

    neighbors: str | None  # the name of the module that chooses neighbors
    branching: Branching | None
    pixels: int  # of the image that a position covers along each side


class LayerObserver:
    """Takes the statistics of the layers of a model."""

    def __init__(
        self,
        config: RunConfig,
        data: LoadedDataset,
        model: nn.Module,
        loss_fn: LossFn,
        device: torch.device,
        amp: torch.dtype | None,
    ) -> None:
        self.config, self.data, self.model = config, data, model
        self.loss_fn, self.device, self.amp = loss_fn, device, amp
        self._batch: tuple[Tensor, Tensor] | None = None

    @cached_property
    def layers(self) -> dict[str, ObservedLayer]:
        """The observed layers by slot; found when they are first needed, since steps need no data set."""
        return observed_layers(self.config, self.model, self.data.image_size)

    @cached_property
    def branching(self) -> dict[str, Branching]:
        return {slot: layer.branching for slot, layer in self.layers.items() if layer.branching}

    def due(self, state: StatisticsState, epoch: int, *, is_last: bool) -> bool:
        """Return whether statistics are taken after an epoch: the first, every n-th, and the last one."""
        if not self.layers or not self.config.run.neighbor_stats:
            return False
        return is_last or epoch >= state.next_epoch

    def take(
        self, state: StatisticsState, *, epoch: int, step: int, epoch_seconds: float, loss_scale: float
    ) -> tuple[LayerStatistics, StatisticsState]:
        """Return the statistics of the layers and the state after them; the model is left in evaluation mode.

        Gradients are computed from a loss that is `loss_scale` times as large, as those of float16 may vanish.
        """
        if self._batch is None:
            self._batch = self._fixed_batch()
        start = time.perf_counter()
        x, y = self._batch
        self.model.eval()
        with ExitStack() as contexts:
            contexts.enter_context(torch.inference_mode(mode=not self.branching))
            records = contexts.enter_context(record_neighbors(self.model))
            activations = contexts.enter_context(record_activations(self.branching))
            contexts.enter_context(autocast(self.device, self.amp))
            logits = self.model(x)
        values: dict[tuple[str, str], Tensor] = {}
        neighbors = {}
        for slot, layer in self.layers.items():
            if layer.neighbors is None:
                continue
            record = records[layer.neighbors]
            rows = sampled_queries(record, max(1, min(QUERIES, MOST_NEIGHBORS // record.index.shape[2])))
            taken = self._neighbor_statistics(record, layer)
            before = state.neighbors.get(slot)
            if before is not None and before.shape == (len(record.index), len(rows), record.index.shape[2]):
                taken["neighbors_overlap"] = neighbors_overlap(record, rows, before.to(self.device))
            neighbors[slot] = record.index[:, rows].int().cpu()
            values |= {(slot, name): value for name, value in taken.items()}
        if self.branching:
            loss = loss_scale * self.loss_fn(logits, y).mean()
            values |= self._branch_norms(activations, loss, loss_scale)
        layers: dict[str, dict[str, float]] = {slot: {} for slot in self.layers}
        numbers = torch.stack([value.float() for value in values.values()]).tolist()  # syncs with the device once
        for (slot, name), number in zip(values, numbers, strict=True):
            if math.isfinite(number):
                layers[slot][name] = number
        for slot in self.branching:
            layers[slot] |= branch_shares(layers[slot])
        seconds = time.perf_counter() - start
        every = max(1, math.ceil(seconds / (COST_SHARE * max(epoch_seconds, 1e-9))))
        event = LayerStatistics(
            epoch=epoch, step=step, layers=layers, images=len(x), every=every, seconds=round(seconds, 6)
        )
        return event, StatisticsState(epoch + every, neighbors)

    def _neighbor_statistics(self, record: NeighborRecord, layer: ObservedLayer) -> dict[str, Tensor]:
        assert layer.neighbors is not None
        module = self.model.get_submodule(layer.neighbors)
        assert isinstance(module, NeighborLayer)
        pool, window = module.pool(record.sides, self.device), effective_value(self.config, "layer.kernel_size")
        return neighbor_statistics(record, pool, window=window, pixels=layer.pixels)

    def _branch_norms(
        self, activations: Mapping[str, tuple[Tensor, Tensor]], loss: Tensor, loss_scale: float
    ) -> dict[tuple[str, str], Tensor]:
        """Return the norms of each branch by slot and "first_weight", "second_gradient" and so on."""
        branches = {slot: branch_parameters(layer) for slot, layer in self.branching.items()}
        parameters = [parameter for both in branches.values() for branch in both for parameter in branch]
        gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True))
        values = {}
        for slot, both in branches.items():
            norms = {
                "activation": activations[slot],
                "weight": mix_norms(self.branching[slot]),
                "gradient": [
                    nn.utils.get_total_norm([gradients[p].float() for p in branch]).to(self.device) / loss_scale
                    for branch in both
                ],
            }
            for name in NORMS:
                values[slot, f"first_{name}"], values[slot, f"second_{name}"] = norms[name]
        return values

    def _fixed_batch(self) -> tuple[Tensor, Tensor]:
        """Return images of the evaluation split and their labels, always the same ones: (B, C, H, W), (B,)."""
        loader = self.data.val or self.data.test
        assert loader is not None
        training = self.config.training
        size = min(IMAGES, -(-training.batch_size // (training.accumulate * self.config.runtime.processes)))
        generator = torch.Generator().manual_seed(derive_seed("layer statistics", training.seed, 0))
        images, labels = [], []
        for number in torch.randperm(loader.num_images, generator=generator).tolist():
            try:
                image, label = loader.image(number)
            except UserError:  # it cannot be read, which its loader has warned of
                continue
            images.append(image)
            labels.append(label)
            if len(images) == size:
                break
        normalize = Normalize((self.data.mean, self.data.std), 0.0, self.device)
        return normalize(torch.stack(images).to(self.device)), torch.tensor(labels, device=self.device)


def observed_layers(config: RunConfig, model: nn.Module, image_size: tuple[int, int]) -> dict[str, ObservedLayer]:
    layers = {}
    for slot in slots(config.model.name, config.model.width, image_size):
        modules = dict(model.get_submodule(slot.name).named_modules(prefix=slot.name))
        neighbors = next((name for name, module in modules.items() if isinstance(module, NeighborLayer)), None)
        branching = next((module for module in modules.values() if isinstance(module, Branching)), None)
        if neighbors is not None or branching is not None:
            scale = unshuffle_scale(config.layer.shuffle_pattern, config.layer.shuffle_scale)
            layers[slot.name] = ObservedLayer(neighbors, branching, slot.patch * scale)
    return layers


def branch_shares(values: Mapping[str, float]) -> dict[str, float]:
    """Return the share of the first branch in the sum of each norm, in percent, where it is defined."""
    shares = {}
    for name in NORMS:
        first, second = values.get(f"first_{name}", math.nan), values.get(f"second_{name}", math.nan)
        if first + second > 0:
            shares[f"branch_{name}"] = 100 * first / (first + second)
    return shares
