"""Whether a run may go on under a configuration: what decides the figures has to be as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnn.config.active import active_options
from convnn.config.options import BY_KEY
from convnn.config.schema import RunConfig
from convnn.errors import Problem

# where it is computed, not what: may change, and is recorded as not exact where the figures may show it
MACHINE = ("runtime.device", "runtime.threads", "runtime.deterministic", "data.workers", "data.path")


def config_diff(before: Mapping[str, Any], now: RunConfig) -> list[Problem]:
    """What decides the figures and is not as it was; `before` is by key, without what had no effect."""
    after = active_options(now)
    keys = sorted((before.keys() | after.keys()) - set(MACHINE))
    return [
        Problem(f"{key} was {_shown(key, before)}, now it is {_shown(key, after)}", key=key)
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _shown(key: str, values: Mapping[str, Any]) -> str:
    if key not in values:
        return "without effect"
    option = BY_KEY.get(key)
    return str(option.text(values[key]) if option else values[key])[:200]
