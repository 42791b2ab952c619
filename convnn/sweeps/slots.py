"""The slots of this machine: a GPU each, or without one an equal share of the CPU's threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnn import hardware
from convnn.errors import UserError
from convnn.sweeps.claims import Claim, try_claim
from convnn.text import plural

SLOTS = "slots"  # folder of a queue with a file for each slot, which holds the identifier of the last entry there


def short_host_name() -> str:
    """Return the name of this machine, as files of slots begin with it."""
    return hardware.host_name().partition(".")[0][:60]


@dataclass(frozen=True)
class Slot:
    """A place for one run: what its process gets to see of the machine."""

    name: str  # "gpu0", "cpu1"
    threads: int  # of computation on the CPU
    gpu: str | None = None  # index or UUID, as CUDA_VISIBLE_DEVICES takes it

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process: thread pools that are larger than their share wait for each other."""
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpu is None:
            return variables
        return {**variables, "CUDA_VISIBLE_DEVICES": self.gpu}

    def claim(self, folder: Path) -> Claim | None:
        """Take the slot by its file in `folder`; None while a process of any worker of this machine holds it."""
        return try_claim(folder / self.file_name)

    @classmethod
    def join(cls, slots: Sequence[Slot]) -> Slot:
        """Return some slots as one, for a run of a process a GPU."""
        gpus = [slot.gpu for slot in slots if slot.gpu is not None]
        name = "+".join(slot.name for slot in slots)
        return cls(name, sum(slot.threads for slot in slots), ",".join(gpus) or None)

    @property
    def file_name(self) -> str:
        """The name of its file in a queue, which runs of several machines may share: "host-gpu0"."""
        return f"{short_host_name()}-{self.name}"

    @property
    def is_free(self) -> bool:
        """Whether no process computes on its GPU; a share of the CPU is always free."""
        return self.gpu is None or not hardware.gpu_in_use(self.gpu)


def machine_slots(count: int | None = None, threads: int | None = None) -> list[Slot]:
    """Return the slots of this machine: `count` of them, by default one a GPU or one for the whole CPU.

    `threads` is what each gets, by default an equal share of those this process may use. Raises UserError where there
    are fewer GPUs than `count`.
    """
    available = hardware.available_cpus()
    gpus = hardware.visible_gpus()
    if count is not None and gpus and count > len(gpus):
        message = f"--slots is {count}: this machine has {plural(len(gpus), 'GPU')}"
        raise UserError(message, fix="give one slot a GPU, or fewer")
    slots = count or len(gpus) or 1
    share = threads or max(1, available // slots)
    if gpus:
        return [Slot(f"gpu{index}", share, gpu) for index, gpu in enumerate(gpus[:slots])]
    return [Slot(f"cpu{index}", share) for index in range(slots)]
