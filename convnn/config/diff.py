"""Whether a run can be resumed with a configuration: the options that decide its metrics must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnn.config.active import active_options
from convnn.config.options import EARLIER_VALUES
from convnn.config.recorded import NO_EFFECT, value_text
from convnn.config.schema import RunConfig
from convnn.errors import Problem

# where it is computed, not what: these may change, and the run records that its metrics may not repeat exactly
MACHINE = (
    "runtime.device",
    "runtime.threads",
    "runtime.processes",
    "runtime.deterministic",
    "data.workers",
    "data.path",
)


def config_diff(recorded: Mapping[str, Any], config: RunConfig) -> list[Problem]:
    """Return a problem for each option that decides the metrics and differs; `recorded` holds active options by key."""
    active = active_options(config)
    recorded = {key: value for key, value in EARLIER_VALUES.items() if key in active} | dict(recorded)
    keys = sorted((recorded.keys() | active.keys()) - set(MACHINE))
    return [
        Problem(f"{key} differs: {_text(key, recorded)} before, {_text(key, active)} now", key=key)
        for key in keys
        if recorded.get(key) != active.get(key)
    ]


def _text(key: str, values: Mapping[str, Any]) -> str:
    return value_text(key, values.get(key, NO_EFFECT))[:200]
