"""The predictions of an evaluation, gathered on the device batch by batch and read once."""

from __future__ import annotations

import torch
from torch import Tensor

from convnn.predictions import Predictions, has_room, top_count
from convnn.training.process_group import ALONE, ProcessGroup


class PredictionMeter:
    """Labels, top classes and probabilities of the images of a split, as many as `predictions.safetensors` holds."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self._batches: list[list[Tensor]] = []
        self._sizes: list[int] = []  # of all batches, those without an image included

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Gather a batch: logits (B, C), targets (B,)."""
        num_classes = logits.shape[1]
        targets = targets.clone()  # those of a worker process hold a file open
        probabilities = logits.float().softmax(1).half()  # (B, C)
        top = logits.topk(top_count(self.num_images, num_classes), dim=1).indices  # (B, K)
        batch = [targets, top, probabilities.gather(1, top), probabilities.gather(1, targets[:, None])[:, 0]]
        self._sizes.append(len(targets))
        self._batches.append([*batch, probabilities] if has_room(self.num_images, num_classes) else batch)

    def add_none(self) -> None:
        """Count a batch of which this process has no image."""
        self._sizes.append(0)

    def predictions(
        self,
        num_classes: int,
        *,
        split: str,
        step: int,
        epoch: int | None,
        weights: str = "model",
        bn_recalibrate: int = 0,
        digest: str | None = None,
        order: Tensor | None = None,
        group: ProcessGroup = ALONE,
    ) -> Predictions | None:
        """Return what was gathered; None where a process has no image or an output is not finite. Syncs with the GPU.

        `order` (N,) holds the number of each image, where they were evaluated in another order than the split's; it is
        left out where some images could not be read. The processes of a group have the rows of a batch in their order.
        """
        if 0 in group.proceed(sum(self._sizes)):  # of a process without an image not even the shapes are known
            return None
        columns = [torch.cat(parts).cpu() for parts in zip(*self._batches, strict=True)]
        labels, top, *probabilities = columns if group.size == 1 else self._gather(columns, group)
        if not all(values.isfinite().all() for values in probabilities):
            return None
        arrays = [values.to(torch.int32).numpy().astype("uint32") for values in (labels, top)]
        arrays += [values.numpy() for values in probabilities]
        if order is not None and len(order) == len(arrays[0]):
            positions = order.argsort().numpy()
            arrays = [array[positions] for array in arrays]
        return Predictions(split, weights, epoch, step, bn_recalibrate, digest, num_classes, *arrays)

    def _gather(self, columns: list[Tensor], group: ProcessGroup) -> list[Tensor]:
        """Return columns of all images from those of the images of each process."""
        sizes = torch.zeros(len(self._sizes), group.size, dtype=torch.int64)  # of each batch, by process
        sizes[:, group.rank] = torch.tensor(self._sizes)
        ends = group.sum(sizes).flatten().cumsum(0).view_as(sizes)
        positions = [torch.arange(end - size, end) for end, size in zip(ends[:, group.rank], self._sizes, strict=True)]
        gathered = []
        for column in columns:
            rows = torch.zeros(int(ends[-1, -1]), *column.shape[1:], dtype=column.dtype)
            rows[torch.cat(positions)] = column
            # sums of halves are not defined on every backend
            gathered.append(group.sum(rows.float()).half() if rows.dtype is torch.half else group.sum(rows))
        return gathered
