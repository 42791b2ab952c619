"""Which options change nothing in a given configuration, and why: said once, greyed in the form, never an error."""

from __future__ import annotations

from typing import Any

from convnn.config.options import BY_KEY, OPTIONS, Option, value_at
from convnn.config.schema import RunConfig

Effects = dict[str, str]  # key -> why it has no effect here

_NN_BRANCH = {o.key for o in OPTIONS if o.section in ("layer", "sampling")} - {"layer.type", "layer.kernel_size"}


def inactive_options(config: RunConfig) -> Effects:
    """Every option without effect in this configuration, with the reason as a sentence."""
    return {option.key: reason for option in OPTIONS if (reason := _reason(config, option))}


def inactive_messages(config: RunConfig, keys: set[str]) -> list[str]:
    """One sentence for each option that a person set but that changes nothing here."""
    inactive = inactive_options(config)
    return [inactive[key] for key in inactive if key in keys]


def active_options(config: RunConfig) -> dict[str, Any]:
    """The options that decide the numbers, by key: two configurations are the same model when these agree.

    Name, tags, checkpoints and output do not change a figure; the seed does.
    """
    inactive = inactive_options(config)
    told = [o.key for o in OPTIONS if o.section not in ("run", "checkpoint", "output") and o.key not in inactive]
    return {key: value_at(config, key) for key in told}


def _reason(config: RunConfig, option: Option) -> str | None:
    layer, name = config.layer.type, option.key
    if layer not in option.layers:
        return f"{name} has no effect with layer {layer}"
    if "Branching" in layer:
        if config.branching.ratio == 0 and name in _NN_BRANCH:
            return f"{name} has no effect with branch_ratio 0 (all Conv2d)"
        if config.branching.ratio == 1 and name == "layer.kernel_size":
            return f"{name} has no effect with branch_ratio 1 (all ConvNN)"
    if name == "layer.magnitude_type" and layer in ("ConvNN", "Branching") and config.layer.similarity_type == "Loc":
        return f"{name} has no effect with similarity_type Loc (nearness is the distance in pixels)"
    for key, values in option.when.items():
        if value_at(config, key) not in values:
            other = BY_KEY[key]
            needs = " or ".join(other.text(value) for value in values)
            given = other.text(value_at(config, key))
            return f"{name} has no effect with {other.name} {given} (it needs {needs})"
    if name == "runtime.deterministic" and config.runtime.device == "cpu":
        return f"{name} has no effect with device cpu (its runs always repeat bit for bit)"
    return None
