"""The rows of bad_inputs.toml, for every reader of settings to be driven by."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from convnn.config.options import BY_KEY

ROWS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


@dataclass(frozen=True)
class Refused:
    """Values by key that must be refused with `key`, in a message that holds `words`."""

    values: dict[str, Any]
    key: str
    words: tuple[str, ...]

    @property
    def toml(self) -> str:
        tables: dict[str, dict[str, Any]] = {}
        for key, value in self.values.items():
            section, _, field = key.partition(".")
            tables.setdefault(section, {})[field] = value
        return tomli_w.dumps(tables)

    @property
    def words_typed(self) -> dict[str, str]:
        """The values as a person would type them, by key."""
        return {key: _typed(value) for key, value in self.values.items()}

    @property
    def argv(self) -> list[str]:
        arguments: list[str] = []
        for key, word in self.words_typed.items():
            option = BY_KEY[key]
            if option.kind == "bool" and word in ("true", "false"):
                arguments.append(option.flag if word == "true" else option.off_flag)
            else:
                arguments += [option.flag, word]
        return arguments

    def __str__(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.values.items())


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


FIELDS = [Refused({row["key"]: row["value"]}, row["key"], tuple(row["words"])) for row in ROWS["field"]]
RULES = [Refused(row["set"], row["key"], tuple(row["words"])) for row in ROWS["rule"]]
PRESETS = ROWS["preset"]
LINES = ROWS["line"]
