"""Summaries of runs made for tests, without files."""

from __future__ import annotations

from typing import Any

from convnn.config.options import BY_NAME, OPTIONS
from convnn.config.recorded import Settings
from convnn.metrics import Best
from convnn.runs.summary import MetricSummary, Summary


def run(
    name: str,
    *,
    test_top1: tuple[float, float] = (),
    status: str = "done",
    tags: Any = (),
    source: str | None = None,
    digest: str | None = None,
    epoch: int = 2,
    **options: Any,
) -> Summary:
    """A run at its defaults except for `options`, by flag name; test_top1 is (last, best). No layer: nothing known."""
    sections = Settings()
    if options.get("layer", "ConvNN") is not None:
        for option in OPTIONS:
            if option.section != "output":
                sections.setdefault(option.section, {})[option.field] = option.default
        sections["run"]["tags"] = list(tags)
        for flag, value in options.items():
            sections[BY_NAME[flag].section][BY_NAME[flag].field] = value
    return Summary(
        name=name,
        path=f"/runs/{name}",
        status=status,
        started="2026-11-01T12:00:00.000Z",
        finished=None if status == "running" else "2026-11-01T13:00:00.000Z",
        config=sections,
        epoch=epoch if test_top1 else 0,
        best=Best("test_top1", test_top1[1], 1) if test_top1 else None,
        digest=digest or name,
        metrics={"test_top1": MetricSummary(test_top1[0], test_top1[1], 1)} if test_top1 else {},
        source=source,
        not_launchable_reason=None,
        tags=tuple(tags),
    )
