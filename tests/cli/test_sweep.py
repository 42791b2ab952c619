"""`convnn sweep check`, called in this process."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def convnn(in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return in_process


def test_a_plan_is_shown_in_numbers_with_the_reasons(convnn):
    code, out, _ = convnn("sweep", "check", "n")
    assert code == 0 and "240 cells to train" in out and "16 cannot be trained" in out
    assert "\n\ncannot be trained:\n" in out and "\\n" not in out
    assert "9 neighbors need at least 9 candidates" in out and "and 11 more" in out
    assert "4 the same model as another" in convnn("sweep", "check", "branch_ratio", "--magnitude_type", "euclidean")[1]
    lines = convnn("sweep", "check", "k", "--all")[1].splitlines()
    assert sum("to train" in line for line in lines) == 102 + 1


def test_a_plan_as_json_has_a_row_for_each_cell(convnn):
    document = json.loads(convnn("sweep", "check", "n", "--json")[1])
    assert document["schema"] == "convnn/1" and document["sweep"] == "n"
    plan = document["plan"]
    assert (plan["cells"], plan["infeasible"], plan["same"], plan["trained"]) == (256, 16, 0, 0)
    assert plan["cost"]["flops"] > 1e18 and len(document["cells"]) == 256
    assert document["cells"][0]["state"] == "infeasible" and "candidates" in document["cells"][0]["reason"]
    assert document["cells"][4]["options"]["sampling.num_samples"] == 16


def test_a_preset_and_several_values_of_flags_are_a_sweep(convnn):
    words = ("--K", "1,4,9", "--lr", "1e-3,1e-4", "--seed", "0..2", "--epochs", "2", "--augment")
    document = json.loads(convnn("sweep", "check", "quickstart", *words, "--json")[1])
    assert document["plan"]["cells"] == 18 and document["sweep"] == "quickstart-K-lr"  # as `sweep run` names it
    assert {cell["seed"] for cell in document["cells"]} == {0, 1, 2}
    assert (
        json.loads(convnn("sweep", "check", "quickstart", "--K", "1,4", "--seeds", "2", "--json")[1])["plan"]["cells"]
        == 4
    )


def test_what_is_wrong_with_a_file_is_said_with_its_place(convnn, tmp_path):
    (tmp_path / "mine.toml").write_text("[axes]\nbrnch_ratio = [0, 1]\n[[derive]]\nwhen = 'K<'\nset = { K = 1 }\n")
    code, out, err = convnn("sweep", "check", "mine.toml")
    assert (code, out) == (2, "") and "2 problems" in err
    assert "Did you mean branch_ratio" in err and "derive 1.when" in err and "mine.toml" in err
    assert convnn("sweep", "check", "nothing")[0] == 2 and convnn("sweep", "check", "missing.toml")[0] == 2
    assert convnn("sweep", "check", "k", "--padding", "1")[0] == 2
