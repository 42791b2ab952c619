"""A name says what a value is; words that only say that there is one are refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = frozenset(
    [
        "found",
        "told",
        "said",
        "each",
        "kept",
        "at",
        "here",
        "one",
        "other",
        "held",
        "looked",
        "seen",
        "given",
        "asked",
        "wanted",
        "begun",
        "shown",
        "passed",
        "how",
        "what",
    ]
)


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, attribute and parameter that a file binds."""
    operators = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("__"))
    operands = {argument for operator in operators for argument in operator.args.args}  # `other` is their custom
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg) and node not in operands:
            yield node.lineno, node.arg


@pytest.mark.parametrize("folder", ["convnn", "tui", "benchmarks", "scripts", "tests"])
def test_names_say_what_a_value_is(folder):
    vague = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in bound_names(ast.parse(path.read_text()))
        if name in WORDS
    ]
    assert not vague
