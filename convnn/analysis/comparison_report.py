"""A comparison of runs as tables and sentences, for `convnn compare` and the compare screen alike."""

from __future__ import annotations

import math
from collections.abc import Iterator

from convnn.analysis.comparison import Comparison, MetricRow, unknown_options
from convnn.analysis.fields import RUN_FIELDS, chosen_on_test_note, get_field
from convnn.analysis.prediction_comparison import class_table
from convnn.analysis.repeats import TRIAL_SHARE, copies_note, drawn_note, interval_text, sd_text
from convnn.analysis.training_data import may_differ
from convnn.analysis.verdict import signed
from convnn.config.options import BY_KEY
from convnn.config.recorded import value_text
from convnn.metrics import format_value, metric_info
from convnn.tables import Column, Table
from convnn.text import plural, prefixed

MISSING = "—"
COUNTS = ("epoch", "epochs", "FLOPs an image", "parameters")  # written with a prefix and without a difference
LABELS = {"s an epoch": "s/epoch", "FLOPs an image": "FLOPs/image"}  # of rows whose names are fixed by the JSON output
DIGITS_OF = {"s an epoch": "top1"}  # the metric whose digits a row has that is no metric
MAX_LABEL_OPTIONS = 2  # differing options that the label of a curve has room for
MAX_UNKNOWN = 3  # options that a note names


def tables(comparison: Comparison) -> list[Table]:
    """Return the runs, their options, their metrics and, where there are repeats or predictions, those."""
    result = [runs_table(comparison), options_table(comparison), metrics_table(comparison)]
    if any(len(group.finished) > 1 for group in comparison.groups):
        result.append(groups_table(comparison))
    if classes := class_table(comparison.prediction_pairs):
        result.append(classes)
    return result


def runs_table(comparison: Comparison) -> Table:
    """Return a row for each run: its letter, name, status and epoch."""
    columns = [Column(""), Column("run"), Column("status"), Column("epoch", right=True)]
    rows = []
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        summary = run.summary
        planned = get_field("num_epochs").text(summary) or "?"
        rows.append([name, summary.name, summary.status, f"{summary.epoch}/{planned}"])
    imported = [RUN_FIELDS["imported"].text(run.summary) for run in comparison.runs]
    if any(imported):
        columns.append(Column("metrics"))
        rows = [[*row, text] for row, text in zip(rows, imported, strict=True)]
    return Table(columns, rows)


def options_table(comparison: Comparison) -> Table:
    """Return a row for each option that differs."""
    columns = [Column("option"), *(Column(name, right=True) for name in comparison.names)]
    rows = [
        [difference.option, *(value_text(difference.option, value) for value in difference.values)]
        for difference in comparison.option_differences
    ]
    if not rows:
        return Table(columns, rows, "no option that has an effect differs", key_columns=1)
    return Table(columns, rows, "options that differ and have an effect", key_columns=1)


def metrics_table(comparison: Comparison) -> Table:
    """Return a row for each metric and point, with the difference to the first run in parentheses."""
    columns = [Column("metric"), Column("at"), *(Column(name, right=True) for name in comparison.names)]
    rows = [[LABELS.get(row.name, row.name), row.point, *value_texts(row)] for row in comparison.metric_rows]
    return Table(columns, rows, f"metrics, with the difference to {comparison.names[0]}", key_columns=2)


def value_texts(row: MetricRow) -> list[str]:
    """Return the values of a row as text: "82.50 (+0.50)"."""
    metric = DIGITS_OF.get(row.name, row.name)
    reference = row.values[0]
    texts = []
    for position, value in enumerate(row.values):
        if value is None:
            texts.append(MISSING)
        elif row.name in COUNTS:
            texts.append(prefixed(value))
        elif position == 0 or reference is None or not math.isfinite(value - reference):
            texts.append(format_value(value, metric))
        else:
            texts.append(f"{format_value(value, metric)} ({signed(value - reference, metric)})")
    return texts


def curve_labels(comparison: Comparison) -> list[str]:
    """Return the letter of each run, with the values of the options that differ where these are few."""
    differences = comparison.option_differences
    if not 0 < len(differences) <= MAX_LABEL_OPTIONS:
        return comparison.names
    labels = []
    for index, name in enumerate(comparison.names):
        values = [
            f"{_option_name(difference.option)}={value_text(difference.option, difference.values[index])}"
            for difference in differences
        ]
        labels.append(" ".join([name, *values]))
    return labels


def _option_name(key: str) -> str:
    return BY_KEY[key].name if key in BY_KEY else key


def groups_table(comparison: Comparison) -> Table:
    """Return a row for each group of repeats: n, mean, standard deviation and confidence interval."""
    columns = [Column("repeats"), *(Column(name, right=True) for name in ("n", "mean", "sd", "95 % interval"))]
    metric = comparison.field.format_as
    rows = []
    for name, group in zip(comparison.group_names, comparison.groups, strict=True):
        estimate = group.estimate
        if estimate is None:
            rows.append([name, "0", MISSING, MISSING, MISSING])
            continue
        texts = [format_value(estimate.mean, metric), sd_text(estimate, metric), interval_text(group, metric)]
        rows.append([name, str(estimate.n), *(text or MISSING for text in texts)])
    return Table(columns, rows, f"repeats, which differ in the seed alone, by {comparison.field.key}")


def caveats(comparison: Comparison) -> list[str]:
    """Return what the verdicts do not cover, a sentence each; they stand before the verdicts."""
    return [*_left_out(comparison), *_data_caveats(comparison), *_run_caveats(comparison), *_best_caveats(comparison)]


def notes(comparison: Comparison) -> list[str]:
    """Return how to read the tables and the verdicts, a sentence each."""
    parts = (_group_notes, _code_notes, _metric_notes, _prediction_notes)
    return [note for part in parts for note in part(comparison)]


def verdicts(comparison: Comparison) -> list[str]:
    """Return what the difference of each group, and of each run's predictions, to the first is worth: sentences."""
    reference, *names = comparison.group_names
    pairs = zip(names, comparison.group_comparisons, strict=True)
    texts = [f"{name} - {reference}: {group_comparison.text}" for name, group_comparison in pairs]
    return texts + [pair.text for pair in comparison.prediction_pairs]


def _left_out(comparison: Comparison) -> Iterator[str]:
    named_runs = zip(comparison.names, comparison.runs, strict=True)
    unfinished = [(name, run.summary) for name, run in named_runs if run.summary.status != "done"]
    if unfinished:
        count = plural(len(unfinished), "unfinished run")
        runs = ", ".join(f"{name} ({run.status} at epoch {run.epoch})" for name, run in unfinished)
        if any(group.unfinished for group in comparison.groups):
            yield f"left out of means and verdicts: {count}, {runs}; convnn compare --unfinished averages them"
        else:
            yield f"averaged, but not tested: {count}, {runs}"
    yield from copies_note(comparison.groups)


def _data_caveats(comparison: Comparison) -> Iterator[str]:
    reference, *others = (run.summary for run in comparison.runs)
    without_digest = [run for run in (reference, *others) if not run.data.digests]
    if without_digest:
        names = "these runs"
        if len(without_digest) < len(comparison.runs):
            names = ", ".join(comparison.letters(without_digest))
        yield f"data not verified: no digest of the images was recorded by {names}"
    if not_comparable := [run for run in others if may_differ(reference, run)]:
        names = ", ".join(comparison.letters(not_comparable))
        yield f"data not verified: data.limit or data.resize makes the images of {names} others than those of A"
    yield from drawn_note(comparison.groups, comparison.field)


def _run_caveats(comparison: Comparison) -> Iterator[str]:
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        if keys := unknown_options(run.summary):
            examples = keys[:MAX_UNKNOWN]
            if len(keys) > MAX_UNKNOWN:
                examples.append("...")
            options = plural(len(keys), "option")
            yield f"{name} did not record {options}, which may differ, too: {', '.join(examples)}"


def _best_caveats(comparison: Comparison) -> Iterator[str]:
    for note in chosen_on_test_note(comparison.field, [run.summary for run in comparison.runs]):
        yield f"{note}, which flatters every run"
    floors = {group.noise_floor for group in comparison.group_comparisons if group.noise_floor}
    epochs = min((run.summary.epoch for run in comparison.runs if run.summary.status == "done"), default=0)
    if any(epochs < TRIAL_SHARE * floor.epochs for floor in floors):
        longest = plural(max(floor.epochs for floor in floors), "epoch")
        yield f"the run-to-run standard deviation is that of runs of {longest}: shorter ones vary more"


def _group_notes(comparison: Comparison) -> Iterator[str]:
    if len(comparison.group_names) < 2:
        yield "these are repeats of one configuration: there are no groups to compare"
    tests = sum(group_comparison.difference is not None for group_comparison in comparison.group_comparisons)
    if tests > 1:
        yield f"p is adjusted for {tests} comparisons, an interval is that of its pair alone"
    for floor in dict.fromkeys(group.noise_floor for group in comparison.group_comparisons if group.noise_floor):
        yield f"run-to-run standard deviation: {floor.source}, {plural(round(floor.df), 'degree')} of freedom"


def _code_notes(comparison: Comparison) -> Iterator[str]:
    """Yield which runs were trained by which code, where that differs; what is unknown is no difference."""
    by_commit: dict[str, list[str]] = {}
    by_changes: dict[str, list[str]] = {}
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        if (commit := run.history.commit) is not None:
            by_commit.setdefault(commit, []).append(name)
        if (code := run.history.code) is not None:
            changes = "without changes"
            if code.dirty:
                changes = f"with the changes {(code.diff_sha256 or '?')[:12]}"
            by_changes.setdefault(changes, []).append(name)
    if len(by_commit) > 1:
        commits = ", ".join(f"{'+'.join(names)} at {commit[:12]}" for commit, names in by_commit.items())
        yield f"the code may differ: trained in a checkout of another commit ({commits})"
    if len(by_changes) > 1:
        changed = ", ".join(f"{'+'.join(names)} {changes}" for changes, names in by_changes.items())
        yield f"the code differs: trained with other changes to the commit ({changed}); see code.diff of each run"


def _metric_notes(comparison: Comparison) -> Iterator[str]:
    if any(run.summary.source for run in comparison.runs):
        yield "metrics of imported runs are as published; their seconds are of training alone"
    if comparison.metric == "peak_bytes" and not all(run.summary.data.digests for run in comparison.runs):
        yield "peak_bytes of runs without a digest of their data, of earlier versions, includes torch and the data"
    match metric_info(comparison.metric).better:
        case "lower":
            yield f"lower is better for {comparison.metric}"
        case None:
            yield f"best is the highest {comparison.metric}, of which neither direction is known to be better"


def _prediction_notes(comparison: Comparison) -> Iterator[str]:
    if any(pair.comparison for pair in comparison.prediction_pairs):
        yield "image by image, two trained models are compared: another seed of either may give another result"
