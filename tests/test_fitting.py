"""Whether training fits what is free is said before it starts, with the accumulation that would."""

from __future__ import annotations

import training
from commands import convnn

from convnn import fitting, machine
from convnn.events import Warned

SIZE, CLASSES = (32, 32), 10
BIG = training.config(width=1.0, resize=32, batch_size=256, layer="ConvNN")
WORDS = ["--model", "resnet18", "--layer", "ConvNN_Attn", "--dataset", "digits", "--batch_size", "100000"]


def test_nothing_is_said_where_it_fits_or_where_nobody_tells_what_is_free():
    need = fitting.forecast(BIG, SIZE, CLASSES)
    assert fitting.shortage(BIG, SIZE, CLASSES, need) is None
    assert fitting.shortage(BIG, SIZE, CLASSES, None) is None


def test_a_shortage_names_an_accumulation_that_fits():
    need = fitting.forecast(BIG, SIZE, CLASSES)
    parts = fitting.accumulation(BIG, SIZE, CLASSES, need - 1)
    assert parts is not None and fitting.forecast(BIG, SIZE, CLASSES, parts) <= fitting.ROOM * (need - 1)
    assert f"--accumulate {parts} " in (fitting.shortage(BIG, SIZE, CLASSES, need - 1) or "")


def test_where_no_accumulation_fits_that_is_said():
    assert "no accumulation fits" in (fitting.shortage(BIG, SIZE, CLASSES, 10_000_000) or "")


def test_a_dry_run_warns(tmp_path):
    said = convnn("run", *WORDS, "--dry-run", cwd=tmp_path).err
    assert "training is expected to take" in said and "--accumulate" in said


def test_a_run_warns_before_its_first_step(monkeypatch):
    monkeypatch.setattr(machine, "free", lambda device: 10_000_000)
    from convnn.trainer import Trainer

    trainer = Trainer(training.config(num_epochs=1))
    events = trainer.run()
    first = [next(events) for _ in range(2)]
    assert isinstance(first[1], Warned) and "training is expected to take" in first[1].message
