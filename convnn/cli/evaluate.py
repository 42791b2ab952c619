"""`convnn evaluate`, also `convnn run --test_only`: the test metrics of a run's checkpoint; nothing is written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnn.cli import arguments
from convnn.cli.output import write_json
from convnn.config.active import active_options, inactive_messages
from convnn.config.options import BY_KEY, OPTIONS, value_at
from convnn.config.recorded import Settings
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.metrics import metric_info
from convnn.presets.resolve import Resolved, build_config, resolve
from convnn.runs.resume import with_data_path
from convnn.terminal.console import out, say
from convnn.text import plural

if TYPE_CHECKING:
    from convnn.runs.run import Run

RECALIBRATE = "training.bn_recalibrate"
# options that may differ from those of the run: they change where and how it is computed, not what was trained
FREE = {"data.path", "data.workers", "training.batch_size", RECALIBRATE}
FREE |= {o.key for o in OPTIONS if o.section == "runtime"}


FLAGS = [option for option in OPTIONS if option.key in FREE]
EXAMPLES = """
convnn evaluate @last
convnn evaluate @best:test_top1 --checkpoint last --device cpu
convnn evaluate @last --bn_recalibrate 50
"""


def evaluate(
    run: arguments.Run = "@last",
    *,
    typed: dict[str, Any],
    checkpoint: arguments.Checkpoint = "best",
    ema: Annotated[bool, typer.Option("--ema", help="evaluate the moving average of the weights")] = False,
    as_json: arguments.Json = False,
    runs: arguments.RunsFolder = None,
) -> None:
    """Evaluate a checkpoint of a run on its test split; nothing is written."""
    if checkpoint not in arguments.CHECKPOINTS:
        raise UserError(arguments.unknown_checkpoint(checkpoint))
    evaluate_checkpoint(resolve(None, typed), runs, run, checkpoint, as_json=as_json, ema=ema)


def evaluate_checkpoint(
    resolved: Resolved,
    runs: Path | None,
    reference: str | None,
    checkpoint_name: str,
    *,
    as_json: bool,
    ema: bool = False,
) -> None:
    """Print the test metrics of a checkpoint, with `ema` of the moving average of its weights.

    Raises UserError (no such run) when there is none to evaluate.
    """
    run = _select_run(resolved, runs, reference)
    config = _merged_config(run, resolved)
    typed = {key for key, origin in resolved.origins.items() if origin != "default"}
    for note in inactive_messages(config, typed & FREE):
        say(f"note: {note}")
    chosen = ""
    if reference is None and resolved.config.output.dir is None:
        chosen = f", the newest finished run of {_network_text(config)}; name another with --run"
    weights = "moving average in the " if ema else ""
    say(f"evaluating the {weights}{checkpoint_name} checkpoint of {run.name}{chosen}")
    from convnn.training import build
    from convnn.training import device as training_device
    from convnn.training.evaluation import evaluate as evaluate_model
    from convnn.training.recalibration import recalibration_steps
    from convnn.worker import checkpoint, load_run

    device = training_device.select_device(config)
    training_device.configure_torch(config, device)
    trained = load_run.TrainedRun(run)
    model = trained.model(checkpoint_name, device, ema=ema)
    # a checkpoint of a run with the option holds the recalibrated statistics
    batches = config.training.bn_recalibrate if RECALIBRATE in typed else 0
    data = build.data(
        config,
        device,
        splits=("train", "test") if batches else ("test",),
        normalization=trained.normalization,
        split_seed=trained.split_seed(checkpoint_name),
    )
    if tuple(data.classes) != trained.started.classes:
        message = "the data set has other classes than the run was trained on"
        raise UserError(Problem(message, key="data.path", value=config.data.path), Exit.DATA)
    assert data.test is not None
    recorded_digest = trained.started.data_digest.get("test")
    if recorded_digest is not None and recorded_digest != data.digests.get("test"):
        say("warning: the test images or their labels are not those that the run was evaluated on")
    amp = training_device.amp_dtype(config, device)
    if batches:
        assert data.train is not None
        seed = config.training.seed
        for _ in recalibration_steps(model, data.train, device, amp, batches=batches, seed=seed):
            pass
    metrics = evaluate_model(
        model,
        data.test,
        build.loss_fn(config),
        device,
        amp,
        "ema_test" if ema else "test",
        seed=config.training.seed,
    )
    for warning in [*data.warnings, *data.test.warnings]:
        say(f"warning: {warning}")
    step = int(checkpoint.read_pointer(run.path, checkpoint_name) or 0)
    images = data.test.num_images
    if as_json:
        document = {"run": run.name, "checkpoint": checkpoint_name, "step": step, "images": images, "figures": metrics}
        if batches:
            document["bn_recalibrate"] = batches
        return write_json(document)
    values = "  ".join(_value_text(name, value) for name, value in metrics.items())
    return out().print_line(f"{run.name}  {checkpoint_name} (step {step})  {plural(images, 'image')}  {values}")


def _value_text(name: str, value: float) -> str:
    """Return a metric with all its digits and its unit: "loss 0.812345", "top1 71.4062 %"."""
    metric = metric_info(name)
    return f"{metric.name} {value:.4f} {metric.unit}" if metric.unit else f"{metric.name} {value:.6f}"


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
    raise UserError(Problem(f"there is no finished run of {_network_text(config)} in {root}", fix=fix), Exit.NO_RUN)


def _reads(run: Run, path: str) -> bool:
    """Return whether a run read its data at a path."""
    recorded = with_data_path(run, run.config()).data.path
    return Path(recorded).expanduser().absolute() == Path(path).expanduser().absolute()


def _network_text(config: RunConfig) -> str:
    return f"{config.model.name} with layer {config.layer.type} on {config.data.dataset}"


def _merged_config(run: Run, resolved: Resolved) -> RunConfig:
    """Return the run's own configuration with the free options of this command.

    Raises UserError with every other option that differs from the run's.
    """
    recorded = with_data_path(run, run.config())
    typed = [key for key, origin in resolved.origins.items() if origin != "default"]
    values = {option.key: value_at(recorded, option.key) for option in OPTIONS}
    values |= {key: value_at(resolved.config, key) for key in typed if key in FREE}
    decisive = active_options(recorded).keys() - FREE
    problems = []
    for key in typed:
        option, value = BY_KEY[key], value_at(resolved.config, key)
        if key in decisive and value != values[key]:
            message = f"{key} is {option.text(value)}, {run.name} was trained with {option.text(values[key])}"
            fix = f"leave {option.flag} out, or name another run with --run"
            problems.append(Problem(message, key=key, value=value, fix=fix))
    if problems:
        raise UserError(problems)
    if "runtime.device" not in typed:
        values["runtime.device"] = "auto"  # a run may be evaluated where it was not trained
    return build_config(values)
