"""`convnn evaluate`, also `convnn run --test_only`: the metrics of a run's checkpoint, and what it gets wrong."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.analysis.class_order import CLASS_ORDERS, ClassOrder
from convnn.cli import arguments
from convnn.cli.arguments import CHECKPOINTS, SPLITS, completion, unknown_choice
from convnn.cli.output import data_width, print_sentences, print_table, write_json
from convnn.config.active import active_options, inactive_messages
from convnn.config.options import BY_KEY, OPTIONS, value_at
from convnn.config.recorded import Settings
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.hardware import check_device
from convnn.metrics import metric_info
from convnn.presets.resolve import Resolved, resolve
from convnn.runs.lock import lock_run
from convnn.runs.resume import with_data_path
from convnn.terminal.console import out, say
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.analysis.classification_report import ClassificationReport
    from convnn.data.loaders import Loader
    from convnn.runs.run import Run
    from convnn.tables import Table

RECALIBRATE = "training.bn_recalibrate"
# options that may differ from those of the run: they change where and how it is computed, not what was trained
FREE = {"data.path", "data.workers", "training.batch_size", RECALIBRATE}
FREE |= {o.key for o in OPTIONS if o.section == "runtime"}
ORDERS = {str(order): order for order in CLASS_ORDERS}
MOST_WORST = 100  # images
MOST_ROWS, MOST_PAIRS = 20, 10  # of a table
MATRIX_COLUMNS = 120  # cells of the largest matrix
# of training alone: a model is evaluated uncompiled, in one process
WITHOUT_EFFECT = {"runtime.cuda_graph", "runtime.compile", "runtime.compile_mode", "runtime.processes"}
FLAGS = [option for option in OPTIONS if option.key in FREE - WITHOUT_EFFECT]
EXAMPLES = """
convnn evaluate @last
convnn evaluate @best:test_top1 --checkpoint last --device cpu
convnn evaluate @last --bn_recalibrate 50
convnn evaluate @last --split val --sort errors --worst 8
convnn evaluate @last --save
"""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and what is made of it."""

    checkpoint: str = "best"
    ema: bool = False
    split: str = "test"
    reports: bool = False  # what is wrong beside the metrics
    order: ClassOrder = "accuracy"
    worst: int = 0  # images
    save: bool = False


def evaluate(
    run: arguments.Run = "@last",
    *,
    typed: dict[str, Any],
    checkpoint: arguments.Checkpoint = "best",
    ema: Annotated[bool, typer.Option("--ema", help="evaluate the moving average of the weights")] = False,
    split: Annotated[
        str, typer.Option("--split", metavar="|".join(SPLITS), help="the images", autocompletion=completion(SPLITS))
    ] = "test",
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="|".join(ORDERS), help="order of the classes", autocompletion=completion(ORDERS)
        ),
    ] = "accuracy",
    worst: Annotated[int, typer.Option("--worst", metavar="N", min=0, max=MOST_WORST, help="worst images to show")] = 4,
    save: Annotated[
        bool, typer.Option("--save", help="write the test predictions into the run, in place of earlier ones")
    ] = False,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Evaluate a checkpoint of a run: metrics, classes, confusions, calibration and the worst images.

    Nothing is written without --save.
    """
    choices = ("checkpoint", checkpoint, CHECKPOINTS), ("split", split, SPLITS), ("sort", sort, [*ORDERS])
    for flag, value, known in choices:
        if value not in known:
            raise UserError(unknown_choice(flag, value, known))
    if save and split != "test":
        fix = "leave --save or --split out"
        raise UserError("--save keeps the predictions of the test images alone", key="save", fix=fix)
    evaluation = Evaluation(checkpoint, ema, split, reports=True, order=ORDERS[sort], worst=worst, save=save)
    evaluate_checkpoint(resolve(None, typed), runs, run, evaluation, as_json=as_json)


def evaluate_checkpoint(
    resolved: Resolved, runs: Path | None, reference: str | None, evaluation: Evaluation, *, as_json: bool
) -> None:
    """Print the metrics of a checkpoint and, where it is asked for, what the model gets wrong.

    Raises UserError (no such run) when there is none to evaluate.
    """
    run = _select_run(resolved, runs, reference)
    config = _merged_config(run, resolved)
    typed = {key for key, origin in resolved.origins.items() if origin != "default"}
    for note in inactive_messages(config, typed & FREE - WITHOUT_EFFECT):
        say(f"note: {note}")
    for key in sorted(typed & WITHOUT_EFFECT):  # of `convnn run --test_only`
        say(f"note: {key} has no effect on an evaluation")
    recorded_batches = run.config().training.bn_recalibrate
    if RECALIBRATE in typed and recorded_batches and not config.training.bn_recalibrate:
        source = plural(recorded_batches, "training batch", "training batches")
        say(f"note: the checkpoint has BatchNorm's statistics of {source}; those of training are not in it")
    check_device(config.runtime.device)
    if evaluation.save:
        with lock_run(run.path):  # raises UserError while it trains
            pass
    chosen = ""
    if reference is None and resolved.config.output.dir is None:
        chosen = f", the newest finished run of {_network_text(config)}; name another with --run"
    weights = f"{evaluation.checkpoint} checkpoint"
    if evaluation.ema:
        weights = f"moving average in the {weights}"
    say(f"evaluating the {weights} of {run.name}{chosen}")
    from convnn.analysis.classification_report import ClassificationReport
    from convnn.worker.evaluate_run import evaluate_run  # torch comes in here
    from convnn.worker.load_run import TrainedRun

    batches = 0  # a checkpoint of a run with the option holds the recalibrated statistics
    if RECALIBRATE in typed:
        batches = config.training.bn_recalibrate
    result = evaluate_run(
        TrainedRun(run),
        config,
        checkpoint=evaluation.checkpoint,
        split=evaluation.split,
        ema=evaluation.ema,
        bn_recalibrate=batches,
        gathers=evaluation.reports,
        own_images=evaluation.save,
        warn=lambda message: say(f"warning: {message}"),
    )
    images, report = result.loader.num_images, None
    if result.predictions is not None:
        report = ClassificationReport(result.predictions, result.classes)
    document = {"run": run.name, "checkpoint": evaluation.checkpoint, "step": result.step, "images": images}
    document["figures"] = result.metrics
    if batches:
        document["bn_recalibrate"] = batches
    if not as_json:
        values = "  ".join(_value_text(name, value) for name, value in result.metrics.items())
        line = f"{run.name}  {evaluation.checkpoint} (step {result.step})  {plural(images, 'image')}  {values}"
        out().print_line(line)
    if evaluation.reports and report is None:
        say("note: outputs of the model are not finite, so nothing is said of its classes")
    elif report is not None:
        worst = evaluation.worst
        if len(report.predictions) != images:
            say("note: images that cannot be read are left out, so the worst ones have no number")
            worst = 0
        document |= report.json(worst)
        if not as_json:
            _print_report(report, evaluation.order, worst, result.loader)
    if evaluation.save:
        _save(run, report)
    if as_json:
        write_json(document)


def _save(run: Run, report: ClassificationReport | None) -> None:
    """Write the predictions of the test images into the run. Raises UserError where there are none, or too many."""
    from convnn import predictions

    if report is None:
        raise UserError(f"{predictions.NAME} was not written: outputs of the model are not finite", Exit.FAILED)
    if not predictions.fits(len(report.predictions)):
        images = plural(len(report.predictions), "image")
        message = f"predictions of {images} are more than the {predictions.MOST_BYTES:,} bytes of {predictions.NAME}"
        raise UserError(message, key="save", fix="leave --save out; --json has every class")
    with lock_run(run.path):
        predictions.write(run.path, report.predictions)
    say(f"written: {run.path / predictions.NAME}")


def _print_report(report: ClassificationReport, order: ClassOrder, worst: int, loader: Loader) -> None:
    from convnn.analysis.classification import worst_images
    from convnn.terminal.classification_view import image_lines, matrix_lines
    from convnn.terminal.panes import STYLES

    console = out()
    width = data_width(console)
    print()
    _print_titled(report.class_table(order, MOST_ROWS))
    for line in matrix_lines(report, order, min(width, MATRIX_COLUMNS), STYLES.__getitem__):
        console.print(line, soft_wrap=True)
    print()
    for table in (report.confusion_table(MOST_PAIRS), report.calibration_table()):
        _print_titled(table)
    numbers = worst_images(report.predictions, worst)
    if not numbers:
        return
    console.print_line("worst images, the least probable class first", "bold")
    captions = [report.image_text(number) for number in numbers]
    if not console.is_terminal:
        for caption in captions:
            console.print_line(caption)
        return
    images = [loader.image(number)[0].permute(1, 2, 0).numpy() for number in numbers]
    for line in image_lines(images, captions, width, letters=not console.shows_images):
        console.print(line, soft_wrap=True)


def _print_titled(table: Table) -> None:
    print_sentences([table.title], "bold")
    if table.rows:
        print_table(table, "table")
    print()


def _value_text(name: str, value: float) -> str:
    """Return a metric with all its digits and its unit: "loss 0.812345", "top1 71.4062 %"."""
    metric = metric_info(name)
    if not metric.unit:
        return f"{metric.name} {value:.6f}"
    return f"{metric.name} {value:.4f} {metric.unit}"


def _select_run(resolved: Resolved, runs: Path | None, reference: str | None) -> Run:
    """Return the named run, the one in --output_dir, or the newest finished one of this configuration."""
    from convnn.runs.find import find_run
    from convnn.runs.run import runs_root

    root, config = runs_root(runs), resolved.checked()
    if reference is not None:
        return find_run(reference, root)
    if config.output.dir is not None:
        return find_run(f"{config.output.dir}/", root)
    return _newest_run(resolved, root)


def _newest_run(resolved: Resolved, root: Path) -> Run:
    """Return the newest finished run of the same model, layer and data set that agrees with all options that are set.

    A run that read its data at a typed path goes before one that did not, as the data may have moved. Where none agrees
    in all options, the newest of the rest is returned, whose differences are then refused by name.
    Raises UserError where there is no run of the same model, layer and data set.
    """
    from convnn.runs.find import list_runs

    config = resolved.config
    keys = {key for key, origin in resolved.origins.items() if origin != "default"}
    candidates: list[tuple[int, Run]] = []
    other_datasets: set[str] = set()
    for run in list_runs(root)[0]:
        with suppress(UserError):  # damaged, which lists say
            if run.status() != "done" or run.imported:
                continue
            settings = Settings(run.sections())
            if any(settings.value(key) != value_at(config, key) for key in ("model.name", "layer.type")):
                continue
            if settings.value("data.dataset") != config.data.dataset:
                other_datasets.add(str(settings.value("data.dataset")))
                continue
            decisive = (keys - FREE) & settings.active.keys()
            agrees = all(settings.value(key) == value_at(config, key) for key in decisive)
            candidates.append((2 * agrees + ("data.path" not in keys or _reads(run, config.data.path)), run))
    if candidates:
        return max(candidates, key=lambda candidate: candidate[0])[1]  # the first of equals: the newest
    fix = "train one, or name one with --run"
    if other_datasets:
        fix = f"choose other data, with --dataset {' or '.join(sorted(other_datasets))}, or name a run with --run"
    raise UserError(f"there is no finished run of {_network_text(config)} in {root}", Exit.NO_RUN, fix=fix)


def _reads(run: Run, path: str) -> bool:
    recorded = with_data_path(run, run.config()).data.path
    return Path(recorded).expanduser().absolute() == Path(path).expanduser().absolute()


def _network_text(config: RunConfig) -> str:
    return f"{config.model.name} with layer {config.layer.type} on {config.data.dataset}"


def _merged_config(run: Run, resolved: Resolved) -> RunConfig:
    """Return the run's own configuration with the free options of this command.

    Raises UserError with every other option that differs from the run's.
    """
    recorded = with_data_path(run, run.config())
    typed = {key: value_at(resolved.config, key) for key, origin in resolved.origins.items() if origin != "default"}
    decisive = active_options(recorded).keys() - FREE
    problems = []
    for key, value in typed.items():
        option, trained_with = BY_KEY[key], value_at(recorded, key)
        if key in decisive and value != trained_with:
            message = f"{key} is {option.text(value)}, {run.name} was trained with {option.text(trained_with)}"
            fix = f"leave {option.flag} out, or name another run with --run"
            problems.append(Problem(message, key=key, value=value, fix=fix))
    if problems:
        raise UserError(problems)
    values: dict[str, Any] = {"runtime.device": "auto"}  # a run may be evaluated where it was not trained
    values |= {key: value for key, value in typed.items() if key in FREE}
    values["runtime.processes"] = 1  # however many have trained it
    return recorded.with_values(values)
