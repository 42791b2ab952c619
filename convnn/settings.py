"""The configuration of a run that exists, as its file has it: nothing is refused, and what is not told is unknown."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final, Literal, cast

from convnn.config import LAYERS, RunConfig
from convnn.effects import effective, no_effect
from convnn.options import BY_PLACE, OPTIONS, SECTIONS, Value

SEED = "training.seed"
_APART = ("run", "checkpoint", "output")  # they change no figure


class Unknown(Enum):
    """The value of an option that a run's file does not tell."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
Maybe = Value | Literal[Unknown.UNKNOWN]

_DEFAULTS: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
for _option in OPTIONS:
    _DEFAULTS[_option.section][_option.key] = _option.default


class Settings(dict[str, dict[str, Any]]):
    """Values by section and key. Runs that have the same ones may share one."""

    def value(self, place: str) -> Maybe:
        """The value of an option, UNKNOWN where it is not told."""
        section, _, key = place.partition(".")
        return _plain(self.get(section, {}).get(key, UNKNOWN))

    def lenient(self) -> RunConfig:
        """These values where they are told, else defaults, in the shape of a configuration: unchecked."""
        sections = {name: SimpleNamespace(**{**_DEFAULTS[name], **self.get(name, {})}) for name in SECTIONS}
        sections["layer"].type = str(sections["layer"].type)
        return cast(RunConfig, SimpleNamespace(**sections))

    @cached_property
    def silent(self) -> dict[str, str]:
        """The options without effect here, by place, and why; none where the layer is not ours, for who knows."""
        return no_effect(self.lenient()) if self._known_layer else {}

    @cached_property
    def effective(self) -> dict[str, Maybe]:
        """The options that decide the numbers, by place."""
        places = (
            effective(self.lenient()) if self._known_layer else (o.place for o in OPTIONS if o.section not in _APART)
        )
        return {place: self.value(place) for place in places}

    @property
    def _known_layer(self) -> bool:
        return self.value("layer.type") in (*LAYERS, UNKNOWN)

    @cached_property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that are the same model and options but for the seed: repeats of each other."""
        return tuple((place, shown(place, value)) for place, value in self.effective.items() if place != SEED)


def _plain(value: Any) -> Maybe:
    """What an option may be as it is, and anything else that a file can hold as text."""
    if value is UNKNOWN or value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return str(value)


def shown(place: str, value: Any) -> str:
    """The value of an option as a person would type it; "?" where it is unknown."""
    if value is UNKNOWN:
        return "?"
    option = BY_PLACE.get(place)
    if option is None or not (value is None or isinstance(value, bool | int | float | str | tuple)):
        return str(value)
    if option.kind == "float" and type(value) is int:
        value = float(value)
    return option.text(value)
