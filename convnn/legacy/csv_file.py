"""A table of figures, a line an epoch, made into a run."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from convnn.config import toml
from convnn.config.options import OPTIONS, value_at
from convnn.config.recorded import Settings
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError, did_you_mean
from convnn.files import sync_directory, write_atomic
from convnn.legacy import convert
from convnn.legacy.importer import LARGEST, Imported, brought_up_to_date, indexed, run_name
from convnn.legacy.result_files import Arguments, Passed, Results
from convnn.runs.run import CONFIG, EVENTS, IMPORTED
from convnn.text import escaped

NO_CONFIGURATION = "a table of figures has no configuration (--preset names one)"


def import_csv(
    path: Path,
    root: Path,
    columns: Mapping[str, str],
    *,
    config: RunConfig | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
) -> Imported:
    """Make a run of a CSV file with a header. `columns` names the column of `epoch` and of each metric.

    Lines that cannot be read are passed over. Raises UserError where a column or every figure is missing.
    """
    path = path.absolute()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{escaped(path)} cannot be read: {error.strerror}", Exit.NO_RUN) from error
    if len(data) > LARGEST:
        raise UserError(f"{escaped(path)} is larger than {LARGEST} bytes")
    results = _results(path, data.decode("utf-8-sig", "replace"), columns)
    results.ended = config is None  # a configuration says how many epochs there were to be
    told = json.dumps([dict(columns), toml.text(config, whole=True) if config else None], sort_keys=True)
    digest = hashlib.sha256(data + told.encode()).hexdigest()
    index = indexed(root)
    if known := index.digests.get(digest):
        return Imported(path, "known", known.name, len(results.epochs), None if config else NO_CONFIGURATION, ())
    arguments = _arguments(config)
    began = max(0.0, path.stat().st_mtime - sum(convert.seconds(metrics) for _, metrics in results.epochs))
    reason = None if config else NO_CONFIGURATION
    lines = convert.Lines(arguments, results, convert.configuration(arguments), began)
    record = {
        "schema": "convnn/1",
        "source": str(path),
        "digest": digest,
        "columns": dict(columns),
        "epochs": len(results.epochs),
        "launchable": config is not None,
        "reason": reason,
        "passed": [each._asdict() for each in results.passed],
    }
    texts = {
        "figures.csv": data,
        IMPORTED: json.dumps(record, indent=1).encode() + b"\n",
        CONFIG: _tagged(toml.text(config, whole=True) if config else "", tags).encode("utf-8", "backslashreplace"),
    }
    if (same := brought_up_to_date(index, path, lines, texts)) is not None:
        return Imported(path, "grown", same.name, len(results.epochs), reason, tuple(results.passed))
    called = run_name(name or path.stem, began, digest, root)
    _write(root / called, texts | {EVENTS: "".join(lines.all()).encode()})
    return Imported(path, "new", called, len(results.epochs), reason, tuple(results.passed))


def _arguments(config: RunConfig | None) -> Arguments:
    if config is None:
        return Arguments()
    values = {option.key: value_at(config, option.key) for option in OPTIONS}
    return Arguments({key: value for key, value in values.items() if key not in convert.APART})


def _write(to: Path, texts: Mapping[str, bytes]) -> None:
    staging = to.parent / f".importing-{secrets.token_hex(4)}"
    staging.mkdir(parents=True)
    try:
        for file, text in texts.items():
            write_atomic(staging / file, text)
        staging.rename(to)
        sync_directory(to.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _tagged(text: str, tags: Sequence[str]) -> str:
    import tomllib

    import tomli_w

    tables = Settings(tomllib.loads(text))
    tables.setdefault("run", {})["tags"] = list(tags)
    return tomli_w.dumps(tables)


def _results(path: Path, text: str, columns: Mapping[str, str]) -> Results:
    try:
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"{escaped(path)} is no CSV file: {error}") from error
    if not rows:
        raise UserError(f"{escaped(path)} is empty")
    header = [title.strip() for title in rows[0]]
    if missing := {metric: column for metric, column in columns.items() if column not in header}:
        raise UserError(_missing(path, header, metric, column) for metric, column in missing.items())
    if len(columns) < 2:
        raise UserError(
            Problem("no figure is asked for", fix=f"name a column, such as --test_top1 {escaped(header[-1])}")
        )
    places = {metric: header.index(column) for metric, column in columns.items()}
    result = Results()
    for number, row in enumerate(rows[1:], 2):
        if any(cell.strip() for cell in row):
            _row(result, number, row, places)
    if not result.epochs:
        raise UserError(f"{escaped(path)} has no line with an epoch and a figure")
    for metric in [name for name in places if "top" in name]:
        told = [metrics[metric] for _, metrics in result.epochs if metric in metrics]
        if told and max(told) <= 1:
            result.passed.append(Passed("", 0, f"{metric} is never above 1: accuracies are percent here, 0 to 100"))
    return result


def _missing(path: Path, header: list[str], metric: str, column: str) -> Problem:
    guess = did_you_mean(column, header)
    message = f"{escaped(path)} has no column {escaped(column)} for {metric}{escaped(guess)}"
    return Problem(message, key=metric, value=column, fix=f"its columns are {escaped(', '.join(header))[:300]}")


def _row(result: Results, number: int, row: list[str], places: Mapping[str, int]) -> None:
    cells = {metric: row[at].strip() if at < len(row) else "" for metric, at in places.items()}
    told = cells.pop("epoch")
    try:
        epoch = int(float(told))
    except (ValueError, OverflowError):
        return result.passed.append(Passed("", number, f"{told[:40]!r} is no epoch"))
    metrics = {}
    for metric, cell in cells.items():
        try:
            metrics[metric] = float(cell)
        except ValueError:
            if cell:  # an empty one is no figure, and nothing to say
                result.passed.append(Passed("", number, f"{metric} is {cell[:40]!r}, no number"))
    if result.epochs and epoch <= result.epochs[-1][0]:
        return result.passed.append(Passed("", number, f"epoch {epoch} comes after epoch {result.epochs[-1][0]}"))
    if metrics and 0 <= epoch < 10**9 and not all(math.isnan(value) for value in metrics.values() if metrics):
        return result.epochs.append((epoch, metrics))
    return result.passed.append(Passed("", number, "no figure could be read"))
