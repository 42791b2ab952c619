"""Configuration files: a configuration as TOML text, and the configuration in a run's `config.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from convnn.config.command_line import command_flag, command_flag_problem
from convnn.config.fixes import in_file
from convnn.config.options import BY_KEY, SECTIONS, nearest_option, value_at
from convnn.config.schema import RunConfig
from convnn.errors import Problem, UserError, did_you_mean
from convnn.files import read_regular
from convnn.json_values import check_depth

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

MAX_BYTES = 1 << 20  # of a configuration file
MAX_DEPTH = 16  # levels of tables in one
# more words with points between them; a word begins where none was before, so that no text is scanned twice
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:"[^"\n]*+"|'[^'\n]*+'|[\w-]++)[ \t]*+\.[ \t]*+){%d}""" % MAX_DEPTH  # noqa: UP031
)
Tables = dict[str, dict[str, Any]]  # values by section and field


def dumps(config: RunConfig, about: str = "", *, whole: bool = False) -> str:
    """Return a configuration as TOML: the values that differ from the defaults or, with `whole`, all of them."""
    tables: dict[str, Any] = to_tables(config, whole=whole)
    if about:
        tables = {"about": about, **tables}
    return tomli_w.dumps(tables)


def to_tables(config: RunConfig, *, whole: bool = False) -> Tables:
    """Return the values of a configuration by section and field, as TOML holds them: "none" stands for None.

    The output directory belongs to one run, so it is never among them.
    """
    apart: Any = {"output"} if whole else {"output": {"dir"}}
    sections = config.model_dump(exclude_defaults=not whole, exclude=apart)
    return {
        section: {field: "none" if value is None else value for field, value in fields.items()}
        for section, fields in sections.items()
        if fields
    }


def updated(text: str, config: RunConfig, about: str = "") -> tuple[str, bool]:
    """Return TOML text with its values replaced by those of a configuration, and whether it was edited in place.

    Edited in place, comments, blank lines and order stay: a value that is right is left as it is written, and one that
    became the default is removed, as is an unknown key. Text that cannot be edited so is written anew.
    """
    import tomlkit  # 30 ms, for saving alone
    from tomlkit.exceptions import TOMLKitError

    new = dumps(config, about)
    try:
        document = tomlkit.parse(text)
        _update(document, config, about)
        edited = tomlkit.dumps(document)
        same = RunConfig.model_validate(_configured(edited)) == RunConfig.model_validate(_configured(new))
    except (TOMLKitError, UserError, ValueError, RecursionError):
        return new, False  # not TOML, or an arrangement of tables that cannot be edited in place
    return (edited, True) if same else (new, False)


def _configured(text: str) -> dict[str, Any]:
    return {key: value for key, value in loads(text).items() if key != "about"}


def _update(document: TOMLDocument, config: RunConfig, about: str) -> None:
    if not about:
        document.pop("about", None)
    elif document.get("about") != about:
        document["about"] = about
    tables = to_tables(config)
    for section in [name for name in document if name != "about"]:
        if not isinstance(document[section], dict) or section not in SECTIONS:
            del document[section]
            continue
        table = document[section]
        for field in list(table):
            if field not in tables.get(section, {}) and not _holds(table[field], f"{section}.{field}", config):
                del table[field]
        if not table and not table.as_string().strip():
            del document[section]
    for section, fields in tables.items():
        if section not in document:
            document[section] = fields
            continue
        for field, value in fields.items():
            if not _holds(document[section].get(field), f"{section}.{field}", config):
                document[section][field] = value


def _holds(item: Any, key: str, config: RunConfig) -> bool:
    if item is None or key not in BY_KEY or key == "output.dir":
        return False
    try:
        return BY_KEY[key].validate(item.unwrap()) == value_at(config, key)
    except ValueError:
        return False


def read_text(path: Path, *, single_link: bool = True) -> str:
    """Return the text of a configuration file. Raises UserError where it is unreadable, too large or not UTF-8."""
    try:
        data = read_regular(path, MAX_BYTES, single_link=single_link)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(f"the file is not UTF-8 text (line {line})", file=str(path), fix="save it as UTF-8")
        raise UserError(problem) from error


def loads(text: str, file: str | None = None) -> dict[str, Any]:
    """Return the tables of TOML text. Raises UserError that names the line and column of a syntax error.

    Numbers of more than 64 bits, which TOML does not have, and deep nesting are refused.
    """
    try:
        if _LONG_KEY.search(text):  # the parser takes minutes for a key of thousands of words
            raise RecursionError
        tables = tomllib.loads(text)
    except RecursionError as error:
        message, fix = (
            "not valid TOML: nested too deeply",
            "remove the brackets: an option holds a value, or a list of words",
        )
        raise UserError(message, file=file, fix=fix) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"not valid TOML: {error}", file=file, fix=_syntax_fix(text, str(error))) from error
    except ValueError as error:  # Python refuses to read an integer of more than 4,300 digits
        message = "not valid TOML: a number has too many digits"
        raise UserError(message, file=file, fix="write a number of at most 19 digits") from error
    try:
        check_depth(tables, MAX_DEPTH)
    except ValueError as error:
        fix = "write a [section] for each table, and its keys below it"
        raise UserError(f"not valid here: {error}", file=file, fix=fix) from error
    if problems := list(_large_numbers(tables, file)):
        raise UserError(problems)
    return tables


def _large_numbers(tables: dict[str, Any], file: str | None) -> Iterator[Problem]:
    """Yield a problem for each number of more than 64 bits: no other program can read it, and text of it takes long."""
    values = list(tables.items())
    while values:
        key, value = values.pop()
        if isinstance(value, dict):
            values += [(f"{key}.{name}", item) for name, item in value.items()]
        elif isinstance(value, list):
            values += [(key, item) for item in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            message = f"{key} is a number of {value.bit_length()} bits: whole numbers have at most 64"
            yield Problem(message, key=key, file=file, fix="write a smaller number")


def _syntax_fix(text: str, error: str) -> str:
    """Return what to do about a syntax error, from what the parser says and the line it names."""
    position = re.search(r"at line (\d+), column (\d+)", error)
    lines = text.splitlines() or [""]
    number = int(position[1]) if position else len(lines)
    line = "".join(lines[number - 1 : number])
    column = int(position[2]) if position else len(line) + 1
    return f"line {number} reads {line.strip()[:100]!r}: {_advice(error, line, column)}"


def _advice(error: str, line: str, column: int) -> str:
    """Return how to write what a line of TOML means, from what the parser says about the column."""
    value = re.split(r"[\s,\]}]", line[column - 1 :].strip())[0]
    for pattern, advice in _ADVICE:
        if re.match(pattern, error):
            return advice
    if error.startswith("Expected newline") and line.lstrip().startswith("["):
        return "the name of a section is in one pair of brackets, alone on its line"
    if error.startswith("Expected newline"):
        return "a line holds one key = value; text needs quotes, and a number is written as 0.5, 1e-3 or 20"
    if re.match(r"[+-]?\.\d", value):
        return f"a number needs a digit before its point: {value.replace('.', '0.', 1)}"
    if value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return f"write {str(value.lower() in ('true', 'yes', 'on')).lower()}, in lower case"
    if value:
        return f'text needs quotes: "{value}"'
    return "a value is missing after ="


_ADVICE = (  # by how the message of the parser begins
    (r"Expected '\]", "close the name of the section with ]"),
    (r"Expected '='", "a key is one word, and = stands before its value"),
    (r"Cannot (declare|overwrite|mutate)|Duplicate", "this key or section is there already: write it once"),
    (r"Unclosed array", "close the list with ], with commas between its items"),
    (r"Unclosed inline", "close the table with }"),
    (r"Illegal character '\\n'|Unterminated|Expected ['\"]", "a quote is not closed"),
    (r"Illegal character", "the line holds a control character: remove it"),
    (r"Invalid hex|Unescaped", "a backslash in double quotes starts an escape: use single quotes"),
    (r"Invalid initial|Invalid statement", "a line begins with [section], or with a key of letters, digits and _"),
)


def read_run(path: Path) -> RunConfig:
    """Return the configuration of a run from its `config.toml`.

    Only values are checked, not how they fit each other: the run exists. Raises UserError with every value and key
    that the schema does not allow.
    """
    return parse_run(read_text(path), str(path))


def parse_run(text: str, file: str | None = None) -> RunConfig:
    """Return the configuration in the text of a `config.toml`; see `read_run`."""
    tables = loads(text, file)
    tables.pop("about", None)
    try:
        return RunConfig.model_validate(tables)
    except ValidationError as error:
        problems = _problems(error.errors(include_url=False), tables)
        raise UserError(in_file(problem, file) for problem in problems) from error


def _problems(details: Iterable[ErrorDetails], tables: dict[str, Any]) -> Iterator[Problem]:
    for location, kind in {detail["loc"][:2]: detail["type"] for detail in details}.items():
        key = ".".join(map(str, location))
        value: Any = tables
        for part in location:
            value = value[part]
        if kind == "extra_forbidden":
            yield unknown_key(key, value)
        elif key in BY_KEY:
            yield BY_KEY[key].problem(value)
        else:
            yield not_a_table(key, value)


def is_path(name: str) -> bool:
    """Whether a word is the path of a file, not a name that is looked up."""
    return name.endswith(".toml") or "/" in name


def unknown_key(key: str, value: Any) -> Problem:
    """Return the problem that the schema has no such section or option, with the nearest that it has.

    What is a flag of the command line alone is named as such.
    """
    is_option, is_section = "." in key, isinstance(value, dict)
    if not is_section and (flag := command_flag(key)) is not None:
        return command_flag_problem(key, flag)
    kind = "section" if is_section else "key"
    if is_option:
        kind = "option"
    option = nearest_option(key.rpartition(".")[2])
    if option is not None and not is_section:
        section, _, field = option.partition(".")
        guess, fix = f". Did you mean {option}?", f"write {field} in [{section}]"
    else:
        guess = did_you_mean(key, _names_beside(key, is_section))
        nearest_name = guess.removeprefix(". Did you mean ").rstrip("?").rpartition(".")[2]
        fix = "remove it"
        if guess:
            fix = f"rename it to {nearest_name}, or remove it"
    return Problem(f"there is no {kind} {key}{guess}", key=key, value=value, fix=fix)


def _names_beside(key: str, is_section: bool) -> list[str]:
    """Return the names that a key of a file may have where it stands: in its section, or outside of all."""
    if "." in key:
        section = key.partition(".")[0]
        return [known for known in BY_KEY if known.startswith(f"{section}.")] or list(BY_KEY)
    return list(SECTIONS) if is_section else ["about", *SECTIONS]


def not_a_table(section: str, value: Any) -> Problem:
    return Problem(f"{section} must be a table", key=section, value=value, fix=f"write [{section}] and its keys")
