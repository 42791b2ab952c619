"""Every option changes something: the plan, the metrics, what is written, or it is noted as inactive."""

from __future__ import annotations

from functools import cache

import pytest
from presets.test_presets import different

from convnn.config.active import inactive_options
from convnn.config.options import OPTIONS
from convnn.costs.plan import plan
from convnn.errors import UserError
from convnn.events import Epoch, Started
from convnn.presets import resolve
from convnn.runs.history import UNTRACED

SMALL = {
    "model.width": "0.03",
    "data.dataset": "digits",
    "data.limit": "10",
    "training.batch_size": "6",
    "training.num_epochs": "2",
    "runtime.device": "cpu",
    "optimizer.lr": "0.01",
}
# where an option has an effect only beside others: those others, and a value where any different one would not do
BESIDE = {
    "model.name": ({"model.width": "0.03"}, "vgg13"),
    "layer.lambda_param": ({"layer.similarity_type": "Loc_Col"}, None),
    "layer.shuffle_pattern": ({"layer.shuffle_scale": "1"}, "BA"),
    "layer.shuffle_scale": ({"layer.shuffle_pattern": "BA", "layer.shuffle_scale": "1"}, "2"),
    "layer.attention_dropout": ({"layer.type": "ConvNN_Attn"}, "0.5"),
    "layer.kernel_size": ({"layer.type": "Branching"}, "5"),
    "layer.K": ({}, "4"),
    "layer.padding": ({}, "2"),
    "sampling.type": ({"sampling.num_samples": "9"}, "spatial"),
    "sampling.num_samples": ({"sampling.type": "random", "sampling.num_samples": "9"}, "12"),
    "sampling.sample_padding": (
        {"sampling.type": "spatial", "sampling.num_samples": "5", "model.name": "resnet18"},
        "3",
    ),
    "branching.ratio": ({"layer.type": "Branching"}, "1"),
    "data.dataset": ({}, "cifar100"),
    "data.path": ({"data.dataset": "folder"}, None),
    "data.resize": ({}, "64"),
    "data.val_share": ({}, "0.5"),
    "training.accumulate": ({}, "2"),
    "training.clip_grad_norm": ({}, "0.01"),
    "optimizer.momentum": ({"optimizer.name": "sgd"}, None),
    "scheduler.name": ({"scheduler.step": "1"}, "step"),
    "scheduler.step": ({"scheduler.name": "step", "scheduler.step": "1"}, "2"),
    "scheduler.gamma": ({"scheduler.name": "step", "scheduler.step": "1"}, "0.5"),
    "runtime.device": ({}, "cuda:99"),
    "runtime.amp_dtype": ({"runtime.amp": "true"}, "fp16"),
    "runtime.threads": ({"runtime.threads": "1"}, "2"),
    "training.num_epochs": ({}, "1"),
}
# what is written, where, and when: held by the tests of the loop, of the runs and of the commands
ELSEWHERE = {
    "checkpoint.every_epochs",
    "checkpoint.every_minutes",
    "checkpoint.keep_optimizer",  # tests of forks
    "run.name",
    "run.tags",
    "run.neighbor_stats",  # tests of the statistics
    "output.dir",
    "output.test_only",
}
ELSEWHERE |= {"runtime.matmul", "runtime.cuda_graph"}  # change what cuda computes
ELSEWHERE |= {"runtime.processes"}  # tests with several processes
ELSEWHERE |= {"runtime.compile", "runtime.compile_mode", "data.workers"}  # tests of compilation and of imagenet


def planned(typed):
    """The result of a configuration without training: its problems, or its plan and what is known of its data."""
    resolved = resolve.resolve_with_data(None, typed)
    if resolved.problems:
        return [problem.message for problem in resolved.problems]
    config, dataset = resolved.config, resolved.dataset
    sized = dataset.image_size and dataset.num_classes
    cost = plan(config, dataset.image_size, dataset.num_classes).json() if sized else None
    return [cost, dataset.problem.message if dataset.problem else None]


@cache
def trained(config):
    """The metrics and the start of a tiny run, as text; many options share their base, which is trained once."""
    from convnn.training.trainer import Trainer

    lines = []
    try:
        for event in Trainer.from_config(config).run():
            if isinstance(event, Epoch):
                lines += [f"{name} {value!r}" for name, value in event.metrics.items() if name not in UNTRACED]
            elif isinstance(event, Started):
                lines.append(event.model_dump_json(include={"threads", "images", "amp", "compile", "device"}))
    except UserError as error:
        lines.append(str(error))
    return lines


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.key not in ELSEWHERE], ids=lambda option: option.key)
def test_flipping_an_option_changes_something_or_is_noted_as_inactive(option):
    beside, changed_value = BESIDE.get(option.key, ({}, None))
    base = {k: v for k, v in SMALL.items() if k != option.key} | beside
    base.setdefault(option.key, SMALL.get(option.key) or option.text(option.default))
    if base[option.key] == "":
        del base[option.key]
    flipped = base | {option.key: changed_value or option.text(different(option))}
    resolved = resolve.resolve(None, flipped)
    if not resolved.problems and option.key in inactive_options(resolved.config):
        assert option.key in " ".join(resolved.notes)
        return
    if planned(base) != planned(flipped):
        return
    before, after = (resolve.resolve(None, typed).checked() for typed in (base, flipped))
    assert trained(before) != trained(after)


def test_the_same_configuration_gives_the_same_metrics():
    config = resolve.resolve(None, SMALL).checked()
    assert trained(config) == trained.__wrapped__(config)
