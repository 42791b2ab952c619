"""The schema as rows: one `Option` per field, from which flags, form, help and tables are made."""

from __future__ import annotations

import math
import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from convnn.config.schema import LAYERS, RunConfig
from convnn.errors import Problem

Value = bool | int | float | str | tuple[str, ...] | None
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One thing a person can set."""

    key: str  # "layer.K": its TOML table and key
    flag: str  # "--K"
    kind: Literal["bool", "int", "float", "choice", "text", "words"]
    default: Value
    help: str
    choices: tuple[str, ...]
    optional: bool  # takes "none"
    lower: float | None
    upper: float | None
    open_lower: bool  # the bound itself is not allowed
    open_upper: bool
    pattern: str | None
    hint: str | None
    unit: str | None
    step: float | None
    layers: tuple[str, ...]
    when: dict[str, tuple[Any, ...]]

    @property
    def section(self) -> str:
        return self.key.partition(".")[0]

    @property
    def field(self) -> str:
        return self.key.partition(".")[2]

    @property
    def name(self) -> str:
        """The flag without its dashes: the name in args.txt and in filters."""
        return self.flag.removeprefix("--")

    @property
    def off_flag(self) -> str:
        """The opposite of an on/off flag."""
        return f"--no_{self.name}"

    def allowed(self) -> str:
        """What may be given, in words: "one of cosine, euclidean", "a whole number of at least 1"."""
        noun = {"int": "a whole number", "float": "a number", "bool": "true or false", "words": "a list of words"}
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        elif self.hint:
            words = self.hint if self.kind != "words" else "words without spaces or commas"
        else:
            words = noun.get(self.kind, "text") + self._range()
        return words + (", or none" if self.optional else "")

    def _range(self) -> str:
        low = None if self.lower is None else f"{'above' if self.open_lower else 'at least'} {self.lower:g}"
        high = (
            None
            if self.upper is None or self.upper > 2**31
            else f"{'below' if self.open_upper else 'at most'} {self.upper:g}"
        )
        return (
            " of " if self.kind in ("int", "float") and low and low.startswith("at") else " " if low or high else ""
        ) + " and ".join(part for part in (low, high) if part)

    def bounds(self) -> str:
        """The bounds, short: ">= 1", "0..1", "> 0"."""
        if self.lower is not None and self.upper is not None and self.upper < 2**31:
            return f"{self.lower:g}{'<' if self.open_lower else ''}..{'<' if self.open_upper else ''}{self.upper:g}"
        return "" if self.lower is None else f"{'>' if self.open_lower else '>='} {self.lower:g}"

    def parse(self, text: str) -> Value:
        """The value that a word on a command line or in a form stands for.

        Raises ValueError when it is not of this option's type; bounds and choices are the schema's to check.
        """
        if self.optional and text.lower() == "none":
            return None
        if self.kind == "bool":
            if text.lower() not in TRUE + FALSE:
                raise ValueError(text)
            return text.lower() in TRUE
        if self.kind == "int":
            if not re.fullmatch(r"[+-]?\d{1,19}", text.strip()):  # int() also takes "1_000" and other scripts' digits
                raise ValueError(text)
            return int(text)
        if self.kind == "float":
            if "_" in text:
                raise ValueError(text)
            return float(text)
        if self.kind == "words":
            return tuple(word for word in text.replace(",", " ").split() if word != "none")
        return text

    def text(self, value: Value) -> str:
        """A value as a person would type it: the inverse of `parse`."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(value)
        return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)

    def problem(self, value: Any) -> Problem:
        """The problem that `value` is not allowed here."""
        shown = "none" if value is None else repr(value) if isinstance(value, str) else _toml_word(value)
        fix, change = self._nearest(value)
        return Problem(
            f"{self.key} is {shown}: must be {self.allowed()}", key=self.key, value=value, fix=fix, change=change
        )

    def _nearest(self, value: Any) -> tuple[str, dict[str, Value]]:
        from difflib import get_close_matches

        best: Value = self.default
        if self.choices and isinstance(value, str):
            lowered = {choice.lower(): choice for choice in self.choices}
            close = get_close_matches(value.lower(), lowered, 1, 0.5)
            best = lowered[close[0]] if close else self.default
        elif self.kind in ("int", "float") and isinstance(value, int | float) and not isinstance(value, bool):
            best = self._inside(value)
        return f"use {self.flag} {self.text(best)}".rstrip(), {self.key: best}

    def _inside(self, value: float) -> Value:
        """The allowed value nearest to a number; the default where a bound itself is not allowed."""
        if not math.isfinite(value):
            return self.default
        if self.lower is not None and value <= self.lower:
            value, at_open = self.lower, self.open_lower
        elif self.upper is not None and value >= self.upper:
            value, at_open = self.upper, self.open_upper
        else:
            at_open = False
        if at_open:
            return self.default
        return int(value) if self.kind == "int" else float(value)


def _toml_word(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _rows() -> tuple[Option, ...]:
    return tuple(
        _row(f"{section}.{key}", field)
        for section, part in RunConfig.model_fields.items()
        for key, field in part.annotation.model_fields.items()  # type: ignore[union-attr]
    )


def _row(key: str, field: FieldInfo) -> Option:
    kind, choices, optional = _shape(field.annotation)
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    limits: dict[str, Any] = {}
    for item in field.metadata:
        limits |= {
            name: getattr(item, name)
            for name in ("gt", "ge", "lt", "le", "pattern")
            if getattr(item, name, None) is not None
        }
    return Option(
        key=key,
        flag=extra["flag"],
        kind=kind,
        default=field.default,
        help=field.description or "",
        choices=choices,
        optional=optional,
        lower=limits.get("gt", limits.get("ge")),
        upper=limits.get("lt", limits.get("le")),
        open_lower="gt" in limits,
        open_upper="lt" in limits,
        pattern=limits.get("pattern"),
        hint=extra["hint"],
        unit=extra["unit"],
        step=extra["step"] if extra["step"] else (1 if kind == "int" else None),
        layers=tuple(extra["layers"]),
        when=dict(extra["when"]),
    )


def _shape(annotation: Any) -> tuple[Any, tuple[str, ...], bool]:
    """Kind, choices and whether None is allowed, of a field's type."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = next(part for part in get_args(annotation) if part is not type(None))
        return *_shape(inner)[:2], True
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation), False
    if get_origin(annotation) is tuple:
        return "words", (), False
    return {bool: "bool", int: "int", float: "float", str: "text"}[annotation], (), False


OPTIONS = _rows()
BY_KEY = {option.key: option for option in OPTIONS}
BY_FLAG = {option.flag: option for option in OPTIONS} | {o.off_flag: o for o in OPTIONS if o.kind == "bool"}
BY_NAME = {option.name: option for option in OPTIONS}
SECTIONS = tuple(RunConfig.model_fields)


def value_at(config: RunConfig, key: str) -> Value:
    """The value of one option of a configuration."""
    section, _, field = key.partition(".")
    return getattr(getattr(config, section), field)


def effect_words(option: Option) -> str:
    """What the option has an effect on, for tables and help: "" when it always has one."""
    parts = []
    without = [layer for layer in LAYERS if layer not in option.layers]
    if without and len(without) < len(option.layers):
        parts.append("not with layer " + ", ".join(without))
    elif without:
        parts.append("layer " + ", ".join(option.layers))
    for key, values in option.when.items():
        other = BY_KEY[key]
        parts.append(
            f"{other.name} {' or '.join(other.text(value) for value in values)}" if other.kind != "bool" else other.flag
        )
    return "; ".join(parts)
