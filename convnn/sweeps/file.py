"""The sweep file: what varies, what follows from it, what is left out, and how often it is repeated.

    about = "K against kernel size"               base = "published-branching"      a preset, by name or path
    name = "K{K}-{dataset}"                       seeds = [42]                      or 3: the seeds 0, 1 and 2
    [set]      options of all cells               [axes]    options and variables whose values are combined
    [[derive]] when, set                          [[skip]]  when
    [[block]]  id, set, axes                      same = "train"                    trains a model again for each cell
    [slurm]    options of sbatch, by its own names
    [search]   trials in place of every cell (`search.settings`); an axis may then be { min, max, log }

`when` is the filter language of runs, over options and variables; text that begins with "=" is arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from convnn.analysis.fields import Field, get_field
from convnn.analysis.filters import Filter, parse_filter
from convnn.config import toml
from convnn.config.command_line import command_flag, command_flag_problem
from convnn.config.fixes import in_file, in_sweep
from convnn.config.options import BY_KEY, BY_NAME, SECTIONS, Value
from convnn.config.recorded import SEED, UNKNOWN
from convnn.config.schema import SAFE_NAME
from convnn.errors import Problem, UserError, did_you_mean
from convnn.paths import typed_path
from convnn.presets import store
from convnn.presets.store import Preset
from convnn.sweeps.axes import (
    INTERVAL_KEYS,
    RANGE_KEYS,
    Axis,
    checked_value,
    find_option,
    flat_items,
    parse_axis,
    sweepable_option,
    unknown_option,
)
from convnn.sweeps.expression import Expression, ExpressionError, parse_expression
from convnn.sweeps.search.settings import Search, SearchReader
from convnn.sweeps.slurm_options import OptionValue, checked_options

KEYS = ("about", "base", "name", "seeds", "same", "set", "axes", "derive", "skip", "block", "search", "slurm")
MAX_SEEDS = 1000
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
T = TypeVar("T")


@dataclass(frozen=True)
class Derivation:
    """Options that follow from others: set in the cells that match `when`, in the order of the file."""

    when: Filter
    values: Mapping[str, Value | Expression]  # by option key


@dataclass(frozen=True)
class Block:
    """A part of a sweep with values and axes of its own, beside those of the whole sweep."""

    id: str
    values: Mapping[str, Value] = field(default_factory=dict)
    axes: Sequence[Axis] = ()


@dataclass(frozen=True)
class Sweep:
    """A sweep file as it was read; every value is one that its option can have."""

    name: str
    path: Path | None = None
    about: str = ""
    base: Preset | None = None
    template: str | None = None  # of the names of the runs
    seeds: Sequence[int] | None = None  # None: the seed of the base
    values: Mapping[str, Value] = field(default_factory=dict)
    axes: Sequence[Axis] = ()
    derivations: Sequence[Derivation] = ()
    skips: Sequence[Filter] = ()
    blocks: Sequence[Block] = ()
    trains_same: bool = False  # a model that another cell has is trained again
    slurm: Mapping[str, OptionValue] | None = None  # options of sbatch; they decide where it is trained, not what
    search: Search | None = None  # draws trials in place of every cell

    @property
    def parts(self) -> Sequence[Block]:
        """The blocks, or the sweep itself as its only one."""
        return self.blocks or (Block(""),)

    @property
    def all_axes(self) -> list[Axis]:
        return [*self.axes, *(axis for block in self.blocks for axis in block.axes)]

    @property
    def variables(self) -> set[str]:
        """The names of variables and of zipped axes."""
        return {name for axis in self.all_axes for point in axis.points for name in point.variables}


def read_sweep(path: Path) -> Sweep:
    """Return the sweep of a file. Raises UserError with everything that is wrong with it."""
    is_shipped = path.parent == shipped_folder()  # an installer may have made it a hard link
    return parse_sweep(toml.read_text(path, single_link=not is_shipped), path.stem, path)


def shipped_folder() -> Path:
    return store.folders()[-1] / "sweeps"


def shipped_sweeps() -> dict[str, Path]:
    return {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}


def find_sweep(name: str) -> Sweep:
    """Return the sweep of a file, of a shipped sweep, or of a preset, which is a sweep of one cell.

    Raises UserError with the nearest known name, and with everything that is wrong with the file.
    """
    if toml.is_path(name):
        return read_sweep(typed_path(name))
    shipped = shipped_sweeps()
    if name in shipped:
        return read_sweep(shipped[name])
    presets = store.listed()
    if name in presets:
        return parse_sweep(tomli_w.dumps({"base": name}), name)
    message = f"there is no sweep or preset {name or repr(name)}{did_you_mean(name, [*shipped, *presets])}"
    raise UserError(message, value=name, fix=f"give a file ending in .toml, or one of {', '.join(shipped)}")


def parse_sweep(text: str, name: str = "sweep", path: Path | None = None) -> Sweep:
    """Return the sweep of a text. Raises UserError with everything that is wrong with it."""
    file = str(path) if path else name
    reader = _Reader(toml.loads(text, file), name, path)
    sweep = reader.read()
    if reader.problems:
        raise UserError(in_sweep(problem, file) for problem in reader.problems)
    return sweep


class _Reader:
    """Reads the tables of one file and gathers what is wrong with them."""

    def __init__(self, tables: dict[str, Any], name: str, path: Path | None) -> None:
        self.tables, self.name, self.path = tables, name, path
        self.problems: list[Problem] = []
        self.used: set[str] = set()  # names in `when` and in arithmetic

    def read(self) -> Sweep:
        self._check_keys("", self.tables, KEYS)
        sweep = Sweep(
            self.name,
            self.path,
            about=self._text("about"),
            base=self._base(),
            seeds=self._seeds(),
            values=self._values("set", self.tables.get("set", {})),
            axes=self._axes("axes", self.tables.get("axes", {})),
            blocks=self._blocks(),
            trains_same=self._same(),
            slurm=self._slurm(),
            search=self._search(),
        )
        if sweep.search is not None:  # lists before tables, as TOML writes them: `sweep.toml` has the same order
            sweep = replace(sweep, axes=sorted(sweep.axes, key=lambda axis: not axis.is_categorical))
        self._check_overlaps(sweep)
        sweep = replace(
            sweep,
            derivations=[self._derivation(*item, sweep) for item in self._tables("derive", ("when", "set"))],
            skips=[
                self._filter(f"{place}.when", table.get("when"), sweep)
                for place, table in self._tables("skip", ("when",))
            ],
        )
        sweep = replace(sweep, template=self._template(sweep))
        self._check_variables(sweep)
        return sweep

    # -- keys ------------------------------------------------------------------------------------------------------

    def _check_keys(self, place: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key in known:
                continue
            full_key = f"{place}.{key}" if place else key
            if (flag := command_flag(key)) is not None:
                self.problems.append(command_flag_problem(full_key, flag))
                continue
            if not place and key in (*SECTIONS, *BY_NAME, *BY_KEY):
                message, fix = f"{key} does not stand at the top of a sweep file", "write it in [set], or in [axes]"
            else:
                message, fix = f"there is no key {full_key}{did_you_mean(key, known)}", f"use {', '.join(known)}"
            self.problems.append(Problem(message, key=full_key, fix=fix))

    def _fail(self, message: str, key: str, value: Any = None, fix: str | None = None) -> None:
        self.problems.append(Problem(message, key=key, value=value, fix=fix))

    def _try(self, read: Callable[..., T], *arguments: Any) -> T | None:
        """Return what a function returns; None where it raises, and what is wrong is gathered."""
        try:
            return read(*arguments)
        except UserError as error:
            self.problems += error.problems
        return None

    def _text(self, key: str) -> str:
        value = self.tables.get(key, "")
        if isinstance(value, str) and "\n" not in value:
            return value
        self._fail(f"{key} must be one line of text", key, value, f'write {key} = "..."')
        return ""

    def _tables(self, key: str, known: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the tables of an array of tables, each with its place: "derive 2"."""
        value = self.tables.get(key, [])
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self._fail(f"{key} is an array of tables", key, fix=f"write [[{key}]], with two brackets")
            return []
        places = [f"{key} {number}" for number in range(1, len(value) + 1)]
        for place, table in zip(places, value, strict=True):
            self._check_keys(place, table, known)
        return list(zip(places, value, strict=True))

    # -- values ----------------------------------------------------------------------------------------------------

    def _base(self) -> Preset | None:
        name = self._text("base")
        if not name:
            return None
        if self.path and name.endswith(".toml") and (beside := self.path.parent / name).is_file():
            name = str(beside)  # which is the name itself where that is absolute
        preset = self._try(store.read, name)
        if preset is not None:
            self.problems += preset.problems
            for key, value in preset.values.items():
                try:
                    BY_KEY[key].validate(value)
                except ValueError:
                    self.problems.append(in_file(BY_KEY[key].problem(value), str(preset.path)))
        return preset

    def _seeds(self) -> list[int] | None:
        value = self.tables.get("seeds")
        if value is None:
            return None
        fix = "write seeds = 3, or seeds = [0, 1, 2]"
        if isinstance(value, int) and not isinstance(value, bool):
            if 1 <= value <= MAX_SEEDS:
                return list(range(value))
            self._fail(f"seeds is {value}: must be from 1 to {MAX_SEEDS}, or a list", "seeds", value, fix)
            return None
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_SEEDS:
            self._fail(f"seeds is a whole number, or a list of at most {MAX_SEEDS} seeds", "seeds", value, fix)
            return None
        if any(isinstance(item, float) for item in value):
            self._fail(f"seeds is {value}: must be whole numbers", "seeds", value, fix)
            return None
        seeds = [seed for item in value if isinstance(seed := self._try(checked_value, BY_KEY[SEED], item), int)]
        if len(set(seeds)) < len(seeds):
            self._fail("seeds has a seed twice", "seeds", value, "write it once")
        return seeds

    def _same(self) -> bool:
        value = self.tables.get("same", "once")
        if value in ("once", "train"):
            return bool(value == "train")
        guess = did_you_mean(str(value), ["once", "train"])
        self._fail(f"same is {value!r}: must be once or train{guess}", "same", value, 'write same = "once"')
        return False

    def _slurm(self) -> dict[str, OptionValue] | None:
        table = self.tables.get("slurm")
        if table is None:
            return None
        if not isinstance(table, dict):
            self._fail("slurm must be a table", "slurm", table, "write [slurm] and options of sbatch")
            return None
        return self._try(checked_options, table)

    def _search(self) -> Search | None:
        if "search" not in self.tables:
            return None
        reader = SearchReader()
        search = reader.read(self.tables["search"])
        self.problems += reader.problems
        return search

    def _values(self, place: str, table: Any) -> dict[str, Value]:
        if not isinstance(table, dict):
            self._fail(f"{place} must be a table", place, table, f"write [{place}] and its keys")
            return {}
        values: dict[str, Value] = {}
        for key, value in flat_items(table):
            option = self._try(sweepable_option, key)
            if option is None:
                continue
            if option.key == SEED:
                self._fail("training.seed is set by seeds", key, value, "write seeds = [0, 1, 2], or seeds = 3")
            elif option.key in values:
                self._fail(f"{option.key} is set twice in {place}", key, value, "set it once")
            else:
                values[option.key] = self._try(checked_value, option, value)
        return values

    def _axes(self, place: str, table: Any) -> list[Axis]:
        if not isinstance(table, dict):
            self._fail(f"{place} must be a table", place, table, f"write [{place}] and its keys")
            return []
        axes: list[Axis] = []
        for key, value in table.items():
            items = [(key, value)]
            if isinstance(value, dict) and key in SECTIONS:
                items = [(f"{key}.{name}", item) for name, item in value.items()]
            elif isinstance(value, dict) and not value.keys() & {*RANGE_KEYS, *INTERVAL_KEYS}:
                self.problems.append(unknown_option(key))
                continue
            for name, item in items:
                axis = self._try(parse_axis, name, item)
                if axis is not None:
                    axes.append(axis)
        return axes

    def _blocks(self) -> list[Block]:
        blocks: list[Block] = []
        for place, table in self._tables("block", ("id", "set", "axes")):
            name = table.get("id", place.replace(" ", "-"))
            if not isinstance(name, str) or not name or len(name) > 80 or not name.isprintable():
                self._fail(f"{place}: id is a short text", f"{place}.id", name, 'write id = "half"')
                continue
            if name in [block.id for block in blocks]:
                self._fail(f"two blocks have the id {name}", f"{place}.id", name, "give each its own")
            values = self._values(f"{place}.set", table.get("set", {}))
            blocks.append(Block(name, values, self._axes(f"{place}.axes", table.get("axes", {}))))
        return blocks

    def _check_overlaps(self, sweep: Sweep) -> None:
        """Report options and variables that two axes of the same cells set, or an axis and a value."""
        for block in sweep.parts:
            where = ""
            if block.id:
                where = f" in block {block.id}"
            owners: dict[str, str] = {}
            for axis in (*sweep.axes, *block.axes):
                for key in sorted(axis.option_keys or {axis.name}):
                    if key in owners:
                        self._fail(f"{key} is varied twice{where}", key, fix="keep one of the axes")
                    owners[key] = axis.name
            varied = {key for axis in sweep.axes for key in axis.option_keys}
            for key in sorted((sweep.values.keys() & varied) | (block.values.keys() & owners.keys())):
                self._fail(f"{key} is both set and varied{where}", key, fix="remove it from one of them")

    # -- conditions and arithmetic ---------------------------------------------------------------------------------

    def _derivation(self, place: str, table: Mapping[str, Any], sweep: Sweep) -> Derivation:
        when = self._filter(f"{place}.when", table.get("when", ""), sweep)
        texts: dict[str, str] = {}
        values: dict[str, Any] = {}
        source = table.get("set")
        if not isinstance(source, dict) or not source:
            self._fail(f"{place} sets nothing", f"{place}.set", source, "write set = { layer.padding = 0 }")
            source = {}
        for key, value in flat_items(source):
            if isinstance(value, str) and value.lstrip().startswith("="):
                texts[key] = value.lstrip()
            else:
                values[key] = value
        derived: dict[str, Value | Expression] = dict(self._values(f"{place}.set", values))
        for key, text in texts.items():
            option = self._try(sweepable_option, key)
            if option is not None and option.kind not in ("int", "float"):
                self._fail(f"{option.key} is no number, so no arithmetic gives it", key, text, "write its value")
            elif option is not None:
                expression = self._expression(f"{place}.set.{key}", text, sweep)
                if expression is not None:
                    derived[option.key] = expression
        return Derivation(when, derived)

    def _filter(self, key: str, text: Any, sweep: Sweep) -> Filter:
        everything = parse_filter("")
        if not isinstance(text, str):
            self._fail(f"{key} is the text of a condition", key, text, 'write when = "K<5"')
            return everything
        try:
            return parse_filter(text, find_field=lambda name: self._field(name, sweep))
        except UserError as error:
            problems = [replace(problem, key=key, message=f"{key}: {problem.message}") for problem in error.problems]
            self.problems += problems
            return everything

    def _field(self, name: str, sweep: Sweep) -> Field:
        """Return the field of an option or a variable of a cell. Raises UserError for those that only runs have."""
        if name in sweep.variables:
            self.used.add(name)
            return _variable_field(name, sweep)
        if find_option(name) is not None:
            return get_field(name)
        guess = did_you_mean(name, [*BY_NAME, *BY_KEY, *sweep.variables])
        message = f"a cell has no {name}{guess}"
        raise UserError(message, key=name, fix="use an option (K, layer.K) or a variable of this file")

    def _expression(self, key: str, text: str, sweep: Sweep) -> Expression | None:
        try:
            expression = parse_expression(text)
        except ExpressionError as error:
            self._fail(f"{key} is {text!r}: {error}", key, text, 'write "= N ** 2", for example')
            return None
        for name in sorted(expression.names):
            option = find_option(name)
            if name in sweep.variables:
                self.used.add(name)
            elif option is None:
                guess = did_you_mean(name, [*BY_NAME, *BY_KEY, *sweep.variables])
                self._fail(f"{key}: there is no option or variable {name}{guess}", key, text, "define it in [axes]")
            elif option.kind not in ("int", "float"):
                self._fail(f"{key}: {name} is no number", key, text, "use options that are numbers")
        return expression

    # -- names -----------------------------------------------------------------------------------------------------

    def _template(self, sweep: Sweep) -> str | None:
        template = self._text("name")
        if not template:
            return None
        for name in PLACEHOLDER.findall(template):
            if name not in sweep.variables and find_option(name) is None:
                guess = did_you_mean(name, [*sweep.variables, *BY_NAME])
                self._fail(
                    f"name: there is no option or variable {name}{guess}", "name", template, "use {K}, {dataset}"
                )
        fixed = PLACEHOLDER.sub("0", template)
        if not re.fullmatch(SAFE_NAME, fixed):
            fix = "use letters, digits and . _ + = -, and options in braces (80 characters at most)"
            self._fail(f"name is {template!r}: cannot be the name of a run", "name", template, fix)
        return template

    def _check_variables(self, sweep: Sweep) -> None:
        """Report a variable that decides nothing: it is most likely an option with a spelling mistake."""
        for axis in sweep.all_axes:
            if axis.is_variable and axis.name not in self.used and (flag := command_flag(axis.name)) is not None:
                self.problems.append(command_flag_problem(axis.name, flag))
            elif axis.is_variable and axis.name not in self.used:
                guess = did_you_mean(axis.name, [*BY_NAME, *BY_KEY])
                fix = "rename it, or use it in [[derive]]"
                self._fail(f"{axis.name} is no option, and nothing is derived from it{guess}", axis.name, fix=fix)


def _variable_field(name: str, sweep: Sweep) -> Field:
    values = [point.variables[name] for axis in sweep.all_axes for point in axis.points if name in point.variables]
    is_number = all(isinstance(value, int | float) for value in values)

    def value(cell: Any) -> Any:
        return cell.variables.get(name, UNKNOWN)

    return Field(name, "number" if is_number else "text", value, str)
