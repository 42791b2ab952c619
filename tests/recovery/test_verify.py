"""`convnn verify-resume` and `convnn doctor`: what they say is so."""

from __future__ import annotations

import json

import pytest
import torch
from support import killing, training
from support.processes import Command, convnn
from support.started import Started

from convnn.worker import checkpoint, doctor, resume_trial


def test_both_ways_agree_and_import_nothing_of_the_current_folder(tmp_path):
    """Neither the command nor its children: a person's random.py, or a stranger's rich.py."""
    for name in ("random", "rich", "typing", "pathlib", "json", "torch", "multiprocessing", "git"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')\nraise SystemExit('imported')\n")
    options = training.SMALL | {"limit": 20, "num_epochs": 30}
    ended = Started("verify-resume", *killing.arguments(options), "--json", cwd=tmp_path).wait()
    assert ended.code == 0, ended
    result = json.loads(ended.out)
    assert result["agree"] and len(result["kills"]) == 1 and result["differences"] == []
    assert list((tmp_path / "runs").iterdir()) == []
    assert not (tmp_path / "imported").exists()


def test_what_differs_is_named(tmp_path):
    first, _ = training.train(tmp_path, training.config(num_epochs=1))
    second, _ = training.train(tmp_path, training.config(num_epochs=1))
    assert list(resume_trial._differences(first, second)) == []
    saved = checkpoint.load_named(second.path, "last")
    name, weights = next((name, value) for name, value in saved.state.model.items() if value.is_floating_point())
    weights.view(-1)[0] = torch.nextafter(weights.view(-1)[0], torch.tensor(9.0))
    checkpoint.write(second.path, saved.step, saved.state)
    assert [difference.partition(":")[0] for difference in resume_trial._differences(first, second)] == [name]
    third, _ = training.train(tmp_path, training.config(num_epochs=1, seed=1))
    assert "of epoch 1" in next(resume_trial._differences(first, third))


def test_a_child_that_fails_is_said(tmp_path):
    ended = convnn("verify-resume", "--dataset", "folder", "--data_path", "nowhere", cwd=tmp_path)
    assert ended.code == 5 and "Traceback" not in ended.err


def test_the_storage_of_a_folder_is_tried(tmp_path):
    findings = {finding.name: finding for finding in doctor.storage(tmp_path / "runs")}
    assert set(findings) == {"rename", "sync", "lock", "free space"}
    assert all(finding.ok for finding in findings.values()), findings
    assert not (tmp_path / "runs").exists()  # it was not there
    (tmp_path / "runs").mkdir()
    assert all(finding.ok for finding in doctor.storage(tmp_path / "runs"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    [finding] = doctor.storage(tmp_path / "file" / "runs")
    assert finding.ok is False


@pytest.mark.torture
def test_the_doctor_finds_nothing_wrong_here(tmp_path):
    ended = Command(["doctor", "--deep", "--json"], tmp_path).wait(600)  # a minute, alone: it compiles and trains
    findings = {finding["name"]: finding for finding in json.loads(ended.out)["findings"]}
    assert ended.code == 0, findings
    assert {"versions", "device", "training", "amp", "compile", "lock", "data digits", "resume"} <= findings.keys()
    assert findings["resume"]["ok"] and findings["compile"]["ok"]
