"""The configuration of an existing run as its file holds it: nothing is refused, and what is missing is unknown."""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

from convnn.config.active import UNCOUNTED, inactive_options
from convnn.config.options import BY_KEY, EARLIER_VALUES, OPTIONS, SECTIONS, Value
from convnn.config.schema import LAYERS, RunConfig, Section

SEED, DATA_PATH = "training.seed", "data.path"
CACHE_SIZE = 10_000  # configurations that differ in more than the seed


class Unknown(Enum):
    """The value of an option that a run's file does not hold."""

    UNKNOWN = None


class NoEffect(Enum):
    """The value of an option that changes nothing in a configuration."""

    NO_EFFECT = "no effect"


UNKNOWN: Final = Unknown.UNKNOWN
NO_EFFECT: Final = NoEffect.NO_EFFECT
Maybe = Value | Literal[Unknown.UNKNOWN]


class Settings(dict[str, dict[str, Any]]):
    """Values by section and key. Runs that have the same ones may share one."""

    def value(self, key: str) -> Maybe:
        """Return the value of an option, UNKNOWN where the file does not hold it."""
        section, _, field = key.partition(".")
        return _plain(self.get(section, {}).get(field, EARLIER_VALUES.get(key, UNKNOWN)))

    def lenient(self) -> RunConfig:
        """Return these values over the defaults as an unchecked configuration."""
        sections: dict[str, Any] = {}
        for name in SECTIONS:
            section: type[Section] = RunConfig.model_fields[name].annotation  # type: ignore[assignment]
            known = {field: value for field, value in self.get(name, {}).items() if field in section.model_fields}
            sections[name] = section.model_construct(**known)
        return RunConfig.model_construct(**sections)

    @property
    def inactive(self) -> dict[str, str]:
        """The options without effect here, by key, and why; none where the layer is unknown to this version."""
        return self._derived.inactive

    @property
    def active(self) -> dict[str, Maybe]:
        """The options that decide the metrics, by key."""
        return {key: self.value(key) for key in self._derived.keys}

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Equal for runs that differ in nothing but the seed: repeats of each other."""
        return self._derived.key

    @property
    def pathless_key(self) -> tuple[tuple[str, str], ...]:
        """The key without the path of the data, at which runs may have read the same."""
        return self._derived.pathless_key

    @cached_property
    def _derived(self) -> _Derived:
        """Shared by the runs that differ in the seed alone: thousands of runs have few configurations."""
        without_seed = tuple(
            (name, key, type(value), value)
            for name, table in self.items()
            if name not in UNCOUNTED
            for key, value in table.items()
            if key != "seed"
        )
        try:
            derived = _cache.get(without_seed)
        except TypeError:  # a value that is not hashable, which no option of the schema takes
            return self._derive()
        if derived is None:
            if len(_cache) >= CACHE_SIZE:
                _cache.clear()
            derived = _cache[without_seed] = self._derive()
        return derived

    def _derive(self) -> _Derived:
        inactive: dict[str, str] = {}
        if self.value("layer.type") in (*LAYERS, UNKNOWN):
            inactive = inactive_options(self.lenient())
        keys = tuple(o.key for o in OPTIONS if o.section not in UNCOUNTED and o.key not in inactive)
        key = tuple((key, value_text(key, self.value(key))) for key in keys if key != SEED)
        pathless_key = tuple(pair for pair in key if pair[0] != DATA_PATH)
        return _Derived(inactive, keys, key, pathless_key)


class _Derived(NamedTuple):
    inactive: dict[str, str]
    keys: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    pathless_key: tuple[tuple[str, str], ...]


_cache: dict[tuple[Any, ...], _Derived] = {}


def _plain(value: Any) -> Maybe:
    """Return a value that an option can have as it is, and anything else that a file can hold as text."""
    if value is UNKNOWN or value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return str(value)


def value_text(key: str, value: Any) -> str:
    """Return the value of an option as a person would type it; "?" where it is unknown, "no effect" for NO_EFFECT."""
    if value is UNKNOWN:
        return "?"
    if value is NO_EFFECT:
        return str(NO_EFFECT.value)
    option = BY_KEY.get(key)
    if option is None or not (value is None or isinstance(value, bool | int | float | str | tuple)):
        return str(value)
    if option.kind == "float" and type(value) is int:
        value = float(value)
    return option.text(value)
