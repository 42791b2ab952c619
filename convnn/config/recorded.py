"""The configuration of a run that exists, as its file has it: nothing is refused, and what is not told is unknown."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple, cast

from convnn.config.active import active_options, inactive_options
from convnn.config.options import BY_KEY, OPTIONS, SECTIONS, Value
from convnn.config.schema import LAYERS, RunConfig

SEED = "training.seed"
_APART = ("run", "checkpoint", "output")  # they change no figure


class Unknown(Enum):
    """The value of an option that a run's file does not tell."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
Maybe = Value | Literal[Unknown.UNKNOWN]

_DEFAULTS: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
for _option in OPTIONS:
    _DEFAULTS[_option.section][_option.field] = _option.default


class Settings(dict[str, dict[str, Any]]):
    """Values by section and key. Runs that have the same ones may share one."""

    def value(self, key: str) -> Maybe:
        """The value of an option, UNKNOWN where it is not told."""
        section, _, field = key.partition(".")
        return _plain(self.get(section, {}).get(field, UNKNOWN))

    def lenient(self) -> RunConfig:
        """These values where they are told, else defaults, in the shape of a configuration: unchecked."""
        sections = {name: SimpleNamespace(**{**_DEFAULTS[name], **self.get(name, {})}) for name in SECTIONS}
        sections["layer"].type = str(sections["layer"].type)
        return cast(RunConfig, SimpleNamespace(**sections))

    @property
    def inactive(self) -> dict[str, str]:
        """The options without effect here, by key, and why; none where the layer is not ours, for who knows."""
        return self._derived.inactive

    @property
    def active(self) -> dict[str, Maybe]:
        """The options that decide the numbers, by key."""
        return {key: self.value(key) for key in self._derived.keys}

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that are the same model and options but for the seed: repeats of each other."""
        return self._derived.key

    @cached_property
    def _derived(self) -> _Derived:
        """Found once for all runs that differ in the seed alone: of thousands of runs there are few such kinds."""
        kind = tuple(
            (name, key, type(value), value)
            for name, table in self.items()
            if name not in _APART
            for key, value in table.items()
            if key != "seed"
        )
        try:
            found = _kinds.get(kind)
        except TypeError:  # a value that our schema has no option for
            return self._derive()
        if found is None:
            if len(_kinds) >= MOST_KINDS:
                _kinds.clear()
            found = _kinds[kind] = self._derive()
        return found

    def _derive(self) -> _Derived:
        config = self.lenient()
        known_layer = self.value("layer.type") in (*LAYERS, UNKNOWN)
        inactive = inactive_options(config) if known_layer else {}
        told = active_options(config) if known_layer else (o.key for o in OPTIONS if o.section not in _APART)
        keys = tuple(told)
        key = tuple((key, shown(key, self.value(key))) for key in keys if key != SEED)
        return _Derived(inactive, keys, key)


class _Derived(NamedTuple):
    inactive: dict[str, str]
    keys: tuple[str, ...]
    key: tuple[tuple[str, str], ...]


MOST_KINDS = 10_000
_kinds: dict[tuple[Any, ...], _Derived] = {}


def _plain(value: Any) -> Maybe:
    """What an option may be as it is, and anything else that a file can hold as text."""
    if value is UNKNOWN or value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return str(value)


def shown(key: str, value: Any) -> str:
    """The value of an option as a person would type it; "?" where it is unknown."""
    if value is UNKNOWN:
        return "?"
    option = BY_KEY.get(key)
    if option is None or not (value is None or isinstance(value, bool | int | float | str | tuple)):
        return str(value)
    if option.kind == "float" and type(value) is int:
        value = float(value)
    return option.text(value)
