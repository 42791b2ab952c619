"""A configuration as TOML text, and back."""

from __future__ import annotations

from typing import Any

import tomli_w

from convnn.config.options import OPTIONS, value_at
from convnn.config.schema import RunConfig


def text(config: RunConfig, about: str = "", *, whole: bool = False) -> str:
    """A configuration as a preset's text: what differs from the defaults, or all of it."""
    tables: dict[str, Any] = {"about": about} if about else {}
    for option in OPTIONS:
        value = value_at(config, option.key)
        if option.key == "output.dir" or (whole and option.section == "output"):
            continue  # where one run is written, and whether it is only evaluated, is no part of it
        if whole or value != option.default:
            plain = "none" if value is None else list(value) if isinstance(value, tuple) else value
            tables.setdefault(option.section, {})[option.field] = plain
    return tomli_w.dumps(tables)
