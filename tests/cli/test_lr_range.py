"""`convnn lr-range`: what it prints of a ramp, that it writes nothing, and what it refuses."""

from __future__ import annotations

import json

import pytest
from support import killing, training

from convnn.training import lr_range

NETWORK = [word for word in killing.arguments(training.SMALL) if word not in ("--num_epochs", "2")]
RAMP = ["--steps", "20", "--min_lr", "1e-4", "--max_lr", "1e-1"]


@pytest.fixture
def command(in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: in_process("lr-range", *words)


def test_the_document_holds_the_ramp_and_nothing_is_written(command, tmp_path):
    code, out, _ = command(*NETWORK, *RAMP, "--json")
    document = json.loads(out)
    assert code == 0 and list(tmp_path.iterdir()) == []
    assert document["lr"] == pytest.approx(lr_range.ramp(1e-4, 1e-1, 20)[: len(document["lr"])])
    assert document["smoothed_loss"] == pytest.approx(list(lr_range.smooth(document["loss"], 20)))
    assert (document["suggestion"] is None) != (document["reason"] is None)


def test_what_a_preset_says_of_epochs_and_evaluation_is_left_out(command, tmp_path):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "p.toml").write_text("[training]\nearly_stop = 3\nema_decay = 0.9\nnum_epochs = 1\n")
    code, out, err = command("p", *NETWORK, *RAMP)
    assert code == 0 and "smoothed" in out and " lr" in out and "suggestion" in out
    assert "early_stop" not in err


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("--min_lr", "0"), "--min_lr"),
        (("--max_lr", "nan"), "--max_lr"),
        (("--max_lr", "inf"), "--max_lr"),
        (("--min_lr", "0.1", "--max_lr", "0.1"), "--min_lr"),
        (("--steps", "3"), "--steps"),
        (("--num_epochs", "3"), "--num_epochs"),
    ],
)
def test_a_wrong_ramp_is_refused_before_torch_is_loaded(command, words, flag):
    code, _, err = command("quickstart", *words)
    assert code == 2 and flag in err and "loading" not in err


def test_ctrl_c_ends_it_with_130(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("convnn.training.trainer.Trainer.train_step", interrupted)
    assert command(*NETWORK, *RAMP)[:2] == (130, "")
