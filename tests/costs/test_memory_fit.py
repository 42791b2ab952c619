"""Whether training fits what is free is said before it starts, with the accumulation that would."""

from __future__ import annotations

from support import training
from support.processes import convnn

from convnn.costs import memory_fit
from convnn.events import Warned
from convnn.training import device as training_device

SIZE, CLASSES = (32, 32), 10
OPTIONS = training.SMALL | {"width": 1.0, "resize": 32, "batch_size": 256, "layer": "ConvNN"}
BIG = training.config(OPTIONS)
WORDS = ["--model", "resnet18", "--layer", "ConvNN_Attn", "--dataset", "digits", "--batch_size", "100000"]


def test_nothing_is_said_where_it_fits_or_where_nobody_tells_what_is_free():
    need = memory_fit.forecast(BIG, SIZE, CLASSES)
    assert memory_fit.shortage(BIG, SIZE, CLASSES, need) is None
    assert memory_fit.shortage(BIG, SIZE, CLASSES, None) is None


def test_processes_share_the_activations_of_a_batch_and_each_has_the_weights():
    on_cpu, on_gpus = (
        [memory_fit.forecast(training.config(OPTIONS, device=device, processes=n), SIZE, CLASSES) for n in (1, 2)]
        for device in ("cpu", "cuda")
    )
    assert on_gpus[1] < on_gpus[0] < 2 * on_gpus[1]  # on each GPU
    assert on_cpu[0] < on_cpu[1] < 2 * on_cpu[0]  # in one memory


def test_a_shortage_names_an_accumulation_that_fits():
    need = memory_fit.forecast(BIG, SIZE, CLASSES)
    parts = memory_fit.accumulation(BIG, SIZE, CLASSES, need - 1)
    assert parts is not None and memory_fit.forecast(BIG, SIZE, CLASSES, parts) <= memory_fit.USABLE * (need - 1)
    assert f"--accumulate {parts} " in (memory_fit.shortage(BIG, SIZE, CLASSES, need - 1) or "")


def test_where_no_accumulation_fits_that_is_said():
    assert "no accumulation fits" in (memory_fit.shortage(BIG, SIZE, CLASSES, 10_000_000) or "")


def test_a_dry_run_warns(tmp_path):
    warning = convnn("run", *WORDS, "--dry-run", cwd=tmp_path).err
    assert "training is expected to take" in warning and "--accumulate" in warning


def test_a_run_warns_before_its_first_step(monkeypatch):
    monkeypatch.setattr(training_device, "free_memory", lambda device: 10_000_000)
    from convnn.training.trainer import Trainer

    trainer = Trainer.from_config(training.config(num_epochs=1))
    events = trainer.run()
    first = [next(events) for _ in range(2)]
    assert isinstance(first[1], Warned) and "training is expected to take" in first[1].message
