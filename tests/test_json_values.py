"""Values in JSON documents: whatever a configuration file of a person holds has one spelling."""

from __future__ import annotations

import json
import tomllib

import pytest

from convnn.cli.output import write_json
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
