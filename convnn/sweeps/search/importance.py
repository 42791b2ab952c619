"""How much each axis of a search matters: PED-ANOVA over its trials, by Optuna.

Source: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
IJCAI 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from convnn.events import PRUNED
from convnn.metrics import lower_is_better
from convnn.sweeps.axes import Axis
from convnn.sweeps.search.settings import EXTRA, Search
from convnn.sweeps.search.space import distribution, parameters_of
from convnn.sweeps.search.trials import Trial

METHOD = "PED-ANOVA"
MIN_TRIALS = 10  # fewer say nothing


class Importance(NamedTuple):
    """How much the axes of a search matter."""

    shares: Mapping[str, float]  # by axis, the largest first; empty where they are unknown
    source: str  # what they are from, or why they are unknown


def axis_importance(trials: Sequence[Trial], search: Search, axes: Sequence[Axis]) -> Importance:
    """Return the share of each axis in what sets the best trials apart.

    The trials are those that were trained to their end or stopped early: only which are the best counts, and one that
    was stopped is not among them.
    """
    if find_spec("optuna") is None:
        return Importance({}, f"parameter importance needs Optuna: {EXTRA}")
    valued = [
        (parameters, value)
        for trial in trials
        if trial.state.state in ("done", PRUNED)
        and (value := trial.value(search)) is not None
        and (parameters := parameters_of(axes, trial.state.cell.labels)) is not None
    ]
    if len(valued) < MIN_TRIALS:
        return Importance({}, f"parameter importance needs {MIN_TRIALS} trials with a value")
    if len({value for _, value in valued}) == 1:
        return Importance({}, f"parameter importance is unknown: all {len(valued)} trials have the same value")
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.disable_default_handler()
    study = optuna.create_study(direction="minimize" if lower_is_better(search.metric) else "maximize")
    space = {axis.name: distribution(axis) for axis in axes}
    for parameters, value in valued:
        study.add_trial(create_trial(params=parameters, distributions=space, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return Importance(shares, f"{METHOD} over {len(valued)} trials")
