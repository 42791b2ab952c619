"""Which options change nothing in a given configuration, and why: said once, greyed in the form, never an error."""

from __future__ import annotations

from typing import Any

from convnn.config.options import BY_PLACE, OPTIONS, Option, value_at
from convnn.config.schema import RunConfig

Effects = dict[str, str]  # place -> why it has no effect here

_NN_BRANCH = {o.place for o in OPTIONS if o.section in ("layer", "sampling")} - {"layer.type", "layer.kernel_size"}


def no_effect(config: RunConfig) -> Effects:
    """Every option without effect in this configuration, with the reason as a sentence."""
    return {option.place: reason for option in OPTIONS if (reason := _reason(config, option))}


def typed_without_effect(config: RunConfig, places: set[str]) -> list[str]:
    """One sentence for each option that a person set but that changes nothing here."""
    silent = no_effect(config)
    return [silent[place] for place in silent if place in places]


def effective(config: RunConfig) -> dict[str, Any]:
    """The options that decide the numbers, by place: two configurations are the same model when these agree.

    Name, tags, checkpoints and output do not change a figure; the seed does.
    """
    silent = no_effect(config)
    told = [o.place for o in OPTIONS if o.section not in ("run", "checkpoint", "output") and o.place not in silent]
    return {place: value_at(config, place) for place in told}


def _reason(config: RunConfig, option: Option) -> str | None:
    layer, name = config.layer.type, option.place
    if layer not in option.layers:
        return f"{name} has no effect with layer {layer}"
    if "Branching" in layer:
        if config.branching.ratio == 0 and name in _NN_BRANCH:
            return f"{name} has no effect with branch_ratio 0 (all Conv2d)"
        if config.branching.ratio == 1 and name == "layer.kernel_size":
            return f"{name} has no effect with branch_ratio 1 (all ConvNN)"
    if name == "layer.magnitude_type" and layer in ("ConvNN", "Branching") and config.layer.similarity_type == "Loc":
        return f"{name} has no effect with similarity_type Loc (nearness is the distance in pixels)"
    for place, values in option.when.items():
        if value_at(config, place) not in values:
            other = BY_PLACE[place]
            needs = " or ".join(other.text(value) for value in values)
            given = other.text(value_at(config, place))
            return f"{name} has no effect with {other.name} {given} (it needs {needs})"
    if name == "runtime.deterministic" and config.runtime.device == "cpu":
        return f"{name} has no effect with device cpu (its runs always repeat bit for bit)"
    return None
