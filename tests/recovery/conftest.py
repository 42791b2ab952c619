"""`make test` runs a seeded sample of these suites; `-m "torture or not torture"` runs all and counts what survived."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if "torture" not in config.option.markexpr:
        return
    tried, survived = Counter(), Counter()
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.partition("[")[0].rpartition("::")[2].removeprefix("test_").replace("_", " ")
            tried[name] += 1
            survived[name] += outcome == "passed"
    width = max(map(len, tried), default=0)
    terminalreporter.write_line(f"{'':{width}}  tried  survived")
    for name in tried:
        terminalreporter.write_line(f"{name:{width}}  {tried[name]:5}  {survived[name]:8}")
    terminalreporter.write_line(f"{'all':{width}}  {tried.total():5}  {survived.total():8}")
