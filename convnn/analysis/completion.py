"""What a filter may go on with: keys, and values that some run has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from convnn.analysis import fields
from convnn.analysis.fields import RUN_FIELDS, Field
from convnn.config.options import BY_KEY, BY_NAME
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.metrics import known_metric_names
from convnn.runs.status import GLYPHS
from convnn.runs.summary import Summary


def keys(runs: Sequence[Summary]) -> list[str]:
    """Everything that a run can be asked for by a short name."""
    best = [f"best:{name}" for name in known_metric_names()]
    return list(dict.fromkeys([*RUN_FIELDS, *BY_NAME, *fields.metric_names(runs), *best]))


def complete(text: str, runs: Sequence[Summary], most: int = 50) -> list[str]:
    """The text with its last word completed: a key, or a value that some run has, the most frequent first."""
    match = re.search(r"""([\w.:]+)(!=|!~|>=|<=|=|>|<|~)(?:[^\s"'()]*,)?([^\s"'(),]*)$""", text)
    if match is None:
        start = re.split(r"[\s(]", text)[-1]
        has = "has:" if start.startswith("has:") else ""
        words = list(BY_NAME) if has else keys(runs)
        ends = "" if has else "="
        head = text[: len(text) - len(start)]
        return [f"{head}{has}{word}{ends}" for word in words if word.startswith(start.removeprefix(has))][:most]
    try:
        field = fields.get_field(match[1], fields.metric_names(runs))
    except UserError:
        return []
    seen = Counter(item for run in runs for item in _texts(field, run))
    fixed = BY_KEY[field.option_key].choices if field.option_key else tuple(GLYPHS) if field.kind == "status" else ()
    values = dict.fromkeys([value for value, _ in seen.most_common()] + list(fixed))
    head = text[: len(text) - len(match[3])]
    return [head + _quoted(value) for value in values if value.startswith(match[3])][:most]


def _quoted(value: str) -> str:
    mark = "'" if '"' in value else '"'
    return f"{mark}{value}{mark}" if re.search(r"""[\s()=<>!~,'"]""", value) or not value else value


def _texts(field: Field, run: Summary) -> Sequence[str]:
    value = field.get(run)
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return value if isinstance(value, tuple) else [field.text(run)] if value is not UNKNOWN else []
