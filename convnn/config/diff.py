"""Whether a run may go on under a configuration: what decides the figures has to be as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnn.config.active import effective
from convnn.config.options import BY_PLACE
from convnn.config.schema import RunConfig
from convnn.errors import Problem
from convnn.text import escaped

# where it is computed, not what: may change, and is recorded as not exact where the figures may show it
MACHINE = ("runtime.device", "runtime.threads", "runtime.deterministic", "data.workers", "data.path")


def differences(before: Mapping[str, Any], now: RunConfig) -> list[Problem]:
    """What decides the figures and is not as it was; `before` is by place, without what had no effect."""
    after = effective(now)
    places = sorted((before.keys() | after.keys()) - set(MACHINE))
    return [
        Problem(f"{escaped(place)} was {_shown(place, before)}, now it is {_shown(place, after)}", key=escaped(place))
        for place in places
        if before.get(place) != after.get(place)
    ]


def _shown(place: str, values: Mapping[str, Any]) -> str:
    if place not in values:
        return "without effect"
    option = BY_PLACE.get(place)
    return escaped(option.text(values[place]) if option else values[place])[:200]
