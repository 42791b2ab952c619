"""A sweep as the text of a sweep file, with the values of its base and of flags in it: it needs no other file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from convnn.config.options import BY_KEY
from convnn.config.recorded import SEED
from convnn.config.schema import section_tables
from convnn.errors import UserError
from convnn.files import write_atomic
from convnn.sweeps.axes import LABEL, Axis, Point, find_option
from convnn.sweeps.expression import Expression
from convnn.sweeps.file import Block, Derivation, Sweep

_LIST = re.compile(r"\[\n((?:[^\n\[\]{}]+,\n)+) *\]")  # of plain values, a line each, as tomli_w writes it


def dump_sweep(sweep: Sweep) -> str:
    """Return the text of a sweep file with the same cells; two sweeps with the same text are the same sweep."""
    base: dict[str, Any] = {}
    if sweep.base is not None:
        base |= sweep.base.values
    varied = {key for axis in sweep.axes for key in axis.option_keys}
    values = {key: value for key, value in base.items() if key not in varied and is_sweepable(key)}
    values |= sweep.values
    seeds: list[Any] = [*(sweep.seeds or ())] or [base.get(SEED, BY_KEY[SEED].default)]
    document: dict[str, Any] = {
        "about": sweep.about,
        "name": sweep.template or "",
        "seeds": seeds,
        "same": "train" if sweep.trains_same else "",
        "set": _tables(values),
        "axes": _axes(sweep.axes, is_searched=sweep.search is not None),
        "search": sweep.search and sweep.search.json(),
        "derive": [_derivation(derivation) for derivation in sweep.derivations],
        "skip": [{"when": skip.text} for skip in sweep.skips],
        "block": [_block(block) for block in sweep.blocks],
        "slurm": dict(sweep.slurm or {}),
    }
    text = tomli_w.dumps({key: value for key, value in document.items() if value})
    return _LIST.sub(lambda match: f"[{', '.join(line.strip(' ,') for line in match[1].splitlines())}]", text)


def save_sweep(path: Path, sweep: Sweep) -> None:
    """Write a sweep as a new file. Raises UserError where the file exists, and OSError."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists", fix="choose another name")
    write_atomic(path, dump_sweep(sweep))


def same_cells(sweep: Sweep, other_sweep: Sweep) -> bool:
    """Return whether two sweeps have the same cells, wherever they are trained."""
    return dump_sweep(replace(sweep, slurm=None)) == dump_sweep(replace(other_sweep, slurm=None))


def is_sweepable(key: str) -> bool:
    """Return whether all cells have the value of an option that a preset sets: it belongs to no single run."""
    return key not in (SEED, "run.name") and not key.startswith("output.")


def _tables(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return section_tables({key: _value(values[key]) for key in sorted(values)})


def _value(value: Any) -> Any:
    if isinstance(value, Expression):
        return value.text
    return "none" if value is None else value


def _axes(axes: Sequence[Axis], *, is_searched: bool = False) -> dict[str, Any]:
    """Return the axes by name; in a search the points of a range have an order, so it stays a range."""
    tables = {axis.name: dict(axis.range) for axis in axes if is_searched and axis.range is not None}
    intervals = {
        axis.name: {"min": axis.interval.low, "max": axis.interval.high, "log": axis.interval.log}
        for axis in axes
        if axis.interval is not None
    }
    points = {axis.name: [_point(axis, point) for point in axis.points] for axis in axes}
    return points | tables | intervals


def _point(axis: Axis, point: Point) -> Any:
    if axis.is_variable:
        return point.variables[axis.name]
    if find_option(axis.name) is not None:
        (value,) = point.options.values()
        return _value(value)
    return {LABEL: point.label, **_tables(point.options)}


def _derivation(derivation: Derivation) -> dict[str, Any]:
    document = {"when": derivation.when.text, "set": _tables(derivation.values)}
    return {key: value for key, value in document.items() if value}


def _block(block: Block) -> dict[str, Any]:
    document = {"id": block.id, "set": _tables(block.values), "axes": _axes(block.axes)}
    return {key: value for key, value in document.items() if value}
