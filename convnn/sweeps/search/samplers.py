"""The samplers of a search: Optuna's, made anew for every draw, so that a search that was killed draws the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from convnn.sweeps.search.settings import Search

STARTUP_TRIALS = 10  # drawn at random by tpe and gp
CMAES_SIGMA = 1 / 6  # of the space in each direction, as Optuna begins


def make_sampler(method: str, search: Search, space: Mapping[str, BaseDistribution], trials: int) -> BaseSampler:
    """Return the sampler of the draw after so many trials, seeded from the seed of the search and their number."""
    seed = Random(f"{search.seed} {trials}").getrandbits(31)
    startup = min(STARTUP_TRIALS, math.ceil(search.trials / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was experimental before Optuna 5
        match method:
            case "qmc":  # one sequence: Optuna records how far it is
                return QMCSampler(qmc_type="sobol", scramble=True, seed=search.seed, warn_independent_sampling=False)
            case "tpe":  # the defaults of Optuna 5, whatever the version
                return TPESampler(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "cmaes":
                return CmaSampler(seed, space)
    return RandomSampler(seed=seed)


class CmaSampler(BaseSampler):
    """CMA-ES whose state follows from the trials that have ended, in the order of their numbers.

    Optuna's own sampler keeps its state as a pickle in the journal of the study, which nobody should have to load.
    """

    def __init__(self, seed: int, space: Mapping[str, BaseDistribution]) -> None:
        self.seed, self.space = seed, dict(space)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError(f"{param_name} is in the space")

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        from cmaes import CMA  # type: ignore[import-untyped]

        size = len(search_space)
        bounds = np.array([[0.0, 1.0]] * size)
        optimizer = CMA(np.full(size, 0.5), CMAES_SIGMA, bounds, seed=self.seed, n_max_resampling=10 * size)
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        ended = [
            (np.array([_to_unit(search_space[name], past.params[name]) for name in search_space]), sign * past.value)
            for past in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if past.value is not None
        ]
        population = optimizer.population_size
        for first in range(0, len(ended) - population + 1, population):
            optimizer.tell(ended[first : first + population])
        shares = zip(search_space, optimizer.ask(), strict=True)
        return {name: _from_unit(search_space[name], float(share)) for name, share in shares}


def _scaled(distribution: BaseDistribution, value: float) -> float:
    """Return a value on the scale that a distribution is uniform on."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.log:
        return math.log(value)
    return value


def _bounds(distribution: BaseDistribution) -> tuple[float, float]:
    """Return the bounds of a distribution on the scale that it is uniform on.

    A whole number has a share of the scale from half below it to half above it.
    """
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    margin = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    return _scaled(distribution, distribution.low - margin), _scaled(distribution, distribution.high + margin)


def _to_unit(distribution: BaseDistribution, value: float) -> float:
    low, high = _bounds(distribution)
    return (_scaled(distribution, value) - low) / (high - low)


def _from_unit(distribution: BaseDistribution, share: float) -> float:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = _bounds(distribution)
    value = low + share * (high - low)
    if distribution.log:
        value = math.exp(value)
    value = min(max(value, distribution.low), distribution.high)
    if isinstance(distribution, IntDistribution):
        return round(value)
    return value
