"""`convnn run --test_only`: loss, top-1 and top-5 of a run's checkpoint on its data set; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convnn.cli.console import out, say, write_json
from convnn.config.active import active_options
from convnn.config.options import BY_KEY, OPTIONS, value_at
from convnn.config.recorded import Maybe, Settings
from convnn.config.schema import RunConfig
from convnn.errors import Exit, Problem, UserError
from convnn.presets.resolve import Resolved, build_config

if TYPE_CHECKING:
    from convnn.runs.run import Run

# what may differ from the run: where and in which pieces it is computed, not what is computed
FREE = {"data.path", "data.workers", "training.batch_size"} | {o.key for o in OPTIONS if o.section == "runtime"}


def evaluate(resolved: Resolved, runs: Path | None, ref: str | None, which: str, *, as_json: bool) -> None:
    """Print the figures of a checkpoint; raises UserError (no such run) when there is none to evaluate."""
    run = _chosen(resolved.config, runs, ref)
    config = _merged(run, resolved)
    say(f"evaluating the {which} checkpoint of {run.name}")
    from convnn.training import build
    from convnn.training import device as training_device
    from convnn.training.evaluation import evaluate as evaluate_model
    from convnn.worker import checkpoint, load

    device = training_device.device(config)
    training_device.settle(config, device)
    trained = load.TrainedRun(run)
    model = trained.model(which, device)
    data = build.data(config, device, splits=("test",), normalization=trained.normalisation)
    if tuple(data.classes) != trained.started.classes:
        raise UserError(
            Problem(
                "the data set has other classes than the run was trained on", key="data.path", value=config.data.path
            ),
            Exit.DATA,
        )
    assert data.test is not None
    figures = evaluate_model(
        model,
        data.test,
        build.loss_fn(config),
        device,
        training_device.amp_dtype(config, device),
        "test",
        seed=config.training.seed,
    )
    step = checkpoint.pointed(run.path, which)
    if as_json:
        return write_json(
            {
                "run": run.name,
                "checkpoint": which,
                "step": int(step or 0),
                "images": data.test.num_images,
                "figures": figures,
            }
        )
    out().print_line(
        f"{run.name}  {which} (step {int(step or 0)})  {data.test.num_images} images  "
        f"loss {figures['test_loss']:.6f}  top1 {figures['test_top1']:.4f} %  top5 {figures['test_top5']:.4f} %"
    )
    return None


def _chosen(config: RunConfig, runs: Path | None, ref: str | None) -> Run:
    """The run to evaluate: the one named, the one in --output_dir, else the newest finished one of the same network."""
    from convnn.runs.find import find_run, list_runs
    from convnn.runs.run import runs_root

    place = runs_root(runs)
    if ref is not None:
        return find_run(ref, place)
    if config.output.dir is not None:
        return find_run(f"{config.output.dir}/", place)
    for run in list_runs(place)[0]:
        if run.status() == "done" and not run.imported and _network(run) == (config.model.name, config.layer.type):
            return run
    raise UserError(
        Problem(
            f"there is no finished run of {config.model.name} with layer {config.layer.type} in {place}",
            fix="train one, or name one with --run",
        ),
        Exit.NO_RUN,
    )


def _network(run: Run) -> tuple[Maybe, Maybe] | None:
    """The model and the layer of a run; None where its configuration cannot be read."""
    try:
        settings = Settings(run.sections())
    except UserError:
        return None
    return settings.value("model.name"), settings.value("layer.type")


def _merged(run: Run, resolved: Resolved) -> RunConfig:
    """The run's own configuration, computed where this command says. Raises UserError with what else differs."""
    own = run.config()
    given = [key for key, origin in resolved.origins.items() if origin != "default"]
    values = {option.key: value_at(own, option.key) for option in OPTIONS}
    values |= {key: value_at(resolved.config, key) for key in given if key in FREE}
    counted = active_options(own)
    wrong = [
        Problem(
            f"{key} is {BY_KEY[key].text(value_at(resolved.config, key))}, "
            f"{run.name} was trained with {BY_KEY[key].text(values[key])}",
            key=key,
            value=value_at(resolved.config, key),
            fix=f"leave {BY_KEY[key].flag} out, or name another run with --run",
        )
        for key in given
        if key in counted and key not in FREE and value_at(resolved.config, key) != values[key]
    ]
    if wrong:
        raise UserError(wrong)
    if "runtime.device" not in given:
        values["runtime.device"] = "auto"  # a run may be evaluated where it was not trained
    return build_config(values)
