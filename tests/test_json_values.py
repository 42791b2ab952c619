"""Values in JSON documents: whatever a configuration file of a person holds has one spelling."""

from __future__ import annotations

import json
import math
import tomllib

import pytest
from support.runs import epoch, new

from convnn.cli.output import write_json
from convnn.events import Finished, Started, Step
from convnn.json_values import json_value

EVERYTHING = f"""
nan = nan
infinities = [inf, -inf]
moment = 2026-11-22T16:15:00+01:00
local = 2026-11-22T16:15:00
day = 2026-11-22
hour = 16:15:00
large = 0x{"f" * 5000}
nested = {{ x = [1, 2.5, true, "text"] }}
"""


def test_every_value_of_toml_has_a_spelling_in_json():
    value = json.loads(json.dumps(json_value(tomllib.loads(EVERYTHING)), allow_nan=False))
    assert value.pop("large").startswith("0xfff")
    assert value == {
        "nan": "NaN",
        "infinities": ["Infinity", "-Infinity"],
        "moment": "2026-11-22T15:15:00.000Z",
        "local": "2026-11-22T16:15:00",
        "day": "2026-11-22",
        "hour": "16:15:00",
        "nested": {"x": [1, 2.5, True, "text"]},
    }


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", object(), {1: None}, 10**5000],
    ids=["nan", "inf", "surrogate", "object", "keys", "large"],
)
def test_a_document_is_written_whatever_it_holds(value, capsys):
    write_json({"value": value})
    assert json.loads(capsys.readouterr().out)["schema"] == "convnn/1"


@pytest.mark.parametrize("words", [("--lr", "nan"), ("--noise", "inf"), ("--weight_decay=-inf",)], ids=" ".join)
def test_a_refused_number_that_is_not_finite_is_json(words, in_process):
    code, out, _ = in_process("run", *words, "--json")
    assert code == 2
    assert json.loads(out)["error"]["problems"][0]["value"] in ("NaN", "Infinity", "-Infinity")


ODD_VALUES = """
about = 2026-11-22
[layer]
K = nan
type = 2026-11-22T16:15:00+01:00
[optimizer]
lr = inf
[training]
seed = -inf
num_epochs = 16:15:00
"\\u001b[2J" = [2026-11-22, nan]
"""
COMMANDS = [
    "runs",
    "runs --group K",
    "runs --group repeats --unfinished",
    "show @last",
    "compare @1 @2",
    "table --rows K --cols lr --unfinished",
    "export @1 @2",
    "export @1 --steps",
    "presets",
    "presets check odd",
    "summary odd",
    "resume @last",
    "evaluate @last",
    "run odd --dry-run",
    "verify-resume odd",
    "queue",
    "import nothing",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_prints_one_document_whatever_the_files_hold(line, in_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "odd.toml").write_text(ODD_VALUES)
    for index in (1, 2):
        events = Step(epoch=1, step=1, loss=math.nan), epoch(1, math.nan), epoch(2, -math.inf)
        run = new(tmp_path / "runs", Started(), *events, Finished(outcome="done"))
        (run.path / "config.toml").write_text(ODD_VALUES.replace("K = nan", f"K = {index}"))
    for _ in range(2):  # the second reads the cache of summaries
        _, out, err = in_process(*line.split(), "--json")
        document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert document["schema"] == "convnn/1", err
