"""The schema as rows: one `Option` per field, from which flags, form, help and tables are made."""

from __future__ import annotations

import math
import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from convnn.config.schema import LAYERS, RunConfig, Section
from convnn.errors import Problem, nearest
from convnn.layer_table import layers_using

Value = bool | int | float | str | tuple[str, ...] | None
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NOUNS = {"int": "a whole number", "float": "a number", "bool": "true or false", "words": "a list of words"}
MAX_SHOWN_BOUND = 2**31  # a larger upper bound is a limit of the machine, not worth saying
MAX_INT = 2**63  # whole numbers are below it, as in TOML


@dataclass(frozen=True)
class Option:
    """One thing a person can set."""

    key: str  # "layer.K": its TOML table and field
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
    layers: tuple[str, ...]  # that it has an effect on
    when: dict[str, tuple[Any, ...]]  # values of other options that it needs

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
        return f"--no_{self.name}"

    def allowed(self, value: Any = None) -> str:
        """Return what the option takes, in words: "one of cosine, euclidean", "a whole number of at least 1".

        An upper bound that limits nobody is named where a refused value is beyond it.
        """
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        elif self.kind == "words" and self.hint:
            words = "words without spaces or commas"
        else:
            words = self.hint or f"{NOUNS.get(self.kind, 'text')} {self._range(value)}".rstrip()
        if self.optional:
            words += ", or none"
        return words

    def _range(self, value: Any) -> str:
        bounds = []
        if self.lower is not None:
            word = "above" if self.open_lower else "of at least"
            bounds.append(f"{word} {self.lower:g}")
        if self.upper is not None and (self.upper <= MAX_SHOWN_BOUND or _as_number(value) >= self.upper):
            word = "below" if self.open_upper else "at most"
            bounds.append(f"{word} {self.upper:g}")
        return " and ".join(bounds)

    def bounds(self) -> str:
        """Return the bounds, short: ">= 1", "0..1", "> 0"; "" without any."""
        if self.lower is None:
            return ""
        if self.upper is not None and self.upper < MAX_SHOWN_BOUND:
            dots = "<" * self.open_lower + ".." + "<" * self.open_upper
            return f"{self.lower:g}{dots}{self.upper:g}"
        sign = ">" if self.open_lower else ">="
        return f"{sign} {self.lower:g}"

    def parse(self, text: str) -> Value:
        """Return the value that a word on a command line or in a form stands for.

        Raises ValueError when it is not of this option's type; bounds and choices are left to `validate`.
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

    def validate(self, value: Any) -> Value:
        """Return a value as the schema holds it. Raises ValueError where the schema does not allow it."""
        section: type[Section] = RunConfig.model_fields[self.section].annotation  # type: ignore[assignment]
        return getattr(section.model_validate({self.field: value}), self.field)

    def text(self, value: Value) -> str:
        """Return a value as a person would type it: the inverse of `parse`."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, float) and float(f"{value:g}") == value:
            return f"{value:g}"
        return str(value)

    def flag_text(self, value: Value) -> str:
        """Return the flag that sets a value: "--K 9", "--no_augment"."""
        if self.kind == "bool":
            return self.flag if value else self.off_flag
        return f"{self.flag} {self.text(value)}"

    def problem(self, value: Any) -> Problem:
        """Return the problem that `value` is not allowed here, with the nearest value that is."""
        nearest_value, hint = self._nearest(value), ""
        if (first_value := self._first_of_several(value)) is not None:
            nearest_value, hint = first_value, "; a sweep takes several values: convnn sweep run --help"
        return Problem(
            f"{self.key} is {_shown(value)}: must be {self.allowed(value)}",
            key=self.key,
            value=value,
            fix=f"use {self.flag_text(nearest_value)}".rstrip() + hint,
            change={self.key: nearest_value},
        )

    def _first_of_several(self, value: Any) -> Value:
        """Return the first value of a text that lists several, as the flags of a sweep take them, or else None."""
        words = re.split(r",|\.\.", value) if isinstance(value, str) else []
        if len(words) < 2 or not (self.choices or self.kind in ("int", "float")):
            return None
        try:
            values = [self.validate(self.parse(word.strip())) for word in words]
        except ValueError:
            return None
        return values[0]

    def _nearest(self, value: Any) -> Value:
        if self.choices and isinstance(value, str):
            return nearest(value, self.choices, cutoff=0.5) or self.default
        if self.kind in ("int", "float") and not isinstance(value, bool):
            return self._inside(_as_number(value))
        if self.pattern is not None and isinstance(value, str):
            name = re.sub(r"[^A-Za-z0-9._+=-]+", "-", value).strip("-.")[:80]
            if re.fullmatch(self.pattern, name):
                return name
        return self.default

    def _inside(self, value: float) -> Value:
        """Return the allowed number nearest to `value`; the default where that is an open bound."""
        if not math.isfinite(value) or (self.kind == "int" and abs(value) >= MAX_INT):
            return self.default
        is_open = False
        if self.lower is not None and value <= self.lower:
            value, is_open = self.lower, self.open_lower
        elif self.upper is not None and value >= self.upper:
            value, is_open = self.upper, self.open_upper
        if is_open:
            return self.default
        return int(value) if self.kind == "int" else float(value)


def _as_number(value: Any) -> float:
    """Return a refused value as a number; NaN where it is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def _shown(value: Any) -> str:
    """Return a refused value as TOML would have it, and text from a person in quotes."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


def _rows() -> tuple[Option, ...]:
    return tuple(
        _row(f"{section}.{name}", field)
        for section, section_field in RunConfig.model_fields.items()
        for name, field in section_field.annotation.model_fields.items()  # type: ignore[union-attr]
    )


def _row(key: str, field: FieldInfo) -> Option:
    kind, choices, optional = _shape(field.annotation)
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    limits = {
        name: getattr(constraint, name)
        for constraint in field.metadata
        for name in ("gt", "ge", "lt", "le", "pattern")
        if getattr(constraint, name, None) is not None
    }
    step = extra["step"] or (1 if kind == "int" else None)
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
        step=step,
        layers=layers_using(key) or LAYERS,
        when=dict(extra["when"]),
    )


def _shape(annotation: Any) -> tuple[Any, tuple[str, ...], bool]:
    """Return kind, choices and whether None is allowed, of a field's type."""
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
EARLIER_VALUES: dict[str, Value] = {
    "training.drop_last": False,
    "training.label_smoothing": 0.0,
    "training.early_stop": None,
    "training.ema_decay": None,
    "training.bn_recalibrate": 0,
    "scheduler.warmup_epochs": 0,
    "runtime.matmul": "auto",
    "runtime.processes": 1,
    "runtime.cuda_graph": "auto",
    "run.neighbor_stats": False,
}
"""What runs did before they recorded these options."""


def nearest_option(name: str) -> str | None:
    """Return the key of the option that a person may have meant by a field or flag in the wrong table."""
    by_field = {option.field: option.key for option in OPTIONS}
    return (by_field | {option.name: option.key for option in OPTIONS}).get(name)


def value_at(config: RunConfig, key: str) -> Value:
    section, _, field = key.partition(".")
    return getattr(getattr(config, section), field)


def effect_words(option: Option) -> str:
    """Return the layers and options that this one needs to have an effect, for tables and help: "" for none."""
    needs = []
    without = [layer for layer in LAYERS if layer not in option.layers]
    if without and len(without) < len(option.layers):
        needs.append("not with layer " + ", ".join(without))
    elif without:
        needs.append("layer " + ", ".join(option.layers))
    for key, values in option.when.items():
        needed = BY_KEY[key]
        if needed.kind == "bool":
            needs.append(needed.flag)
        else:
            needs.append(f"{needed.name} {' or '.join(needed.text(value) for value in values)}")
    return "; ".join(needs)
