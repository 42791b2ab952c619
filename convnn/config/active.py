"""Which options have no effect in a configuration, and why: noted once, gray in the form, never an error."""

from __future__ import annotations

from typing import Any

from convnn.config.options import BY_KEY, OPTIONS, Option, value_at
from convnn.config.schema import RunConfig
from convnn.layer_table import layer_kind

UNCOUNTED = ("run", "checkpoint", "output")  # sections that change no metric


def inactive_options(config: RunConfig) -> dict[str, str]:
    """Return the options without effect in this configuration by key, each with the reason as a sentence."""
    return {option.key: reason for option in OPTIONS if (reason := _reason(config, option))}


def inactive_messages(config: RunConfig, keys: set[str]) -> list[str]:
    """Return the reasons for those of some options that have no effect."""
    return [reason for key, reason in inactive_options(config).items() if key in keys]


def effective_value(config: RunConfig, key: str) -> Any:
    """Return the value of an option, or its default where it has no effect."""
    option = BY_KEY[key]
    if _reason(config, option):
        return option.default
    return value_at(config, key)


def active_options(config: RunConfig) -> dict[str, Any]:
    """Return the values that decide the metrics, by key: two configurations are the same model when these agree.

    Name, tags, checkpoints and output do not change a metric; the seed does.
    """
    inactive = inactive_options(config)
    active = [o.key for o in OPTIONS if o.section not in UNCOUNTED and o.key not in inactive]
    return {key: value_at(config, key) for key in active}


def _reason(config: RunConfig, option: Option) -> str | None:
    layer, key = config.layer.type, option.key
    if layer not in option.layers:
        return f"{key} has no effect with layer {layer}"
    if branch := _only_branch(config, key):
        return f"{key} has no effect with branch_ratio {config.branching.ratio:g} (all {branch})"
    if key == "layer.magnitude_type" and _compares_coordinates(config):
        return f"{key} has no effect with similarity_type Loc (nearness is the distance in pixels)"
    for needed_key, values in option.when.items():
        value = value_at(config, needed_key)
        if value not in values:
            needed = BY_KEY[needed_key]
            needs = " or ".join(needed.text(value) for value in values)
            return f"{key} has no effect with {needed.name} {needed.text(value)} (it needs {needs})"
    if key == "run.neighbor_stats" and not layer_kind(layer).searches_neighbors:
        return f"{key} has no effect with layer {layer} (it has no neighbors)"
    if key == "runtime.deterministic" and config.runtime.device == "cpu":
        return f"{key} has no effect with device cpu (cpu runs always repeat bit for bit)"
    return None


def _only_branch(config: RunConfig, key: str) -> str | None:
    """Return the branch that makes all output channels if only the unused branch has the option, else None."""
    branches, ratio = layer_kind(config.layer.type).branches, config.branching.ratio
    if branches is None or ratio not in (0, 1):
        return None
    used, unused = branches if ratio == 1 else reversed(branches)
    is_unused = key in layer_kind(unused).option_keys - layer_kind(used).option_keys
    return used if is_unused else None


def _compares_coordinates(config: RunConfig) -> bool:
    uses_similarity = "layer.similarity_type" in layer_kind(config.layer.type).option_keys
    return uses_similarity and config.layer.similarity_type == "Loc"
