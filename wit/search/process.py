"""A Gaussian process over the angle: what scores of runs say of every candidate.

Scores are a smooth curve of the angle plus noise that every run has of its own. How smooth the
curve is and how large the noise are not chosen but weighed: each pair of a grid counts by the
likelihood of the scores, and of the noise it is replicates that say most. Level and unit of the
scores are integrated out (a flat prior of the level, Jeffreys' of the scale).

Source: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.23, 2.42, 4.17.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LENGTHS = (10.0, 20.0, 40.0, 80.0)  # degrees over which the curve changes
CURVES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)  # share of the curve, not the noise, in a run's variance
SMALLEST = 1e-12  # sum of squares; scores that a curve explains to the last digit have one too
Array = np.ndarray


class Posterior(NamedTuple):
    """What is known of the curve at every candidate."""

    mean: Array  # [candidate]
    covariance: Array  # [candidate, candidate]
    noise: float  # variance of one run about the curve


class _Fits(NamedTuple):
    """For every pair of smoothness and noise, the runs made independent of each other."""

    log_determinants: Array  # [fit], of the root of their covariance
    ones: Array  # [fit, run]
    values: Array  # [fit, run]
    across: Array  # [fit, run, candidate], covariance with the curve


def posterior(
    degrees: Sequence[float], places: Sequence[int], values: Sequence[float]
) -> Posterior:
    """The curve at all candidates, given runs.

    Args:
        degrees: Angle of every candidate.
        places: Of every run, which candidate it was.
        values: Of every run its score, in a unit in which they range over about 1.
    """
    lengths, curves = (grid.ravel() for grid in np.meshgrid(LENGTHS, CURVES))
    at = np.asarray(degrees, float)
    kernels = _matern(np.abs(at[:, None] - at[None, :]) / lengths[:, None, None])
    kernels *= curves[:, None, None]  # [fit, candidate, candidate]
    fits = _whiten(kernels, 1 - curves, np.asarray(places), np.asarray(values, float))
    weights = (fits.ones**2).sum(1)  # of the runs, in the level
    levels = (fits.ones * fits.values).sum(1) / weights
    rest = fits.values - levels[:, None] * fits.ones
    squares = np.maximum((rest**2).sum(1), SMALLEST)
    freedom = len(values) - 1
    likelihoods = -fits.log_determinants - np.log(weights) / 2 - freedom / 2 * np.log(squares)
    shares = np.exp(likelihoods - likelihoods.max())
    shares /= shares.sum()

    means = levels[:, None] + np.einsum("fr,frc->fc", rest, fits.across)
    mean = shares @ means
    unsure = 1 - np.einsum("fr,frc->fc", fits.ones, fits.across)  # of the level
    within = kernels - np.einsum("frc,frd->fcd", fits.across, fits.across)
    within += unsure[:, :, None] * unsure[:, None, :] / weights[:, None, None]
    scales = shares * squares / freedom
    apart = means - mean
    covariance = np.einsum("f,fcd->cd", scales, within)
    covariance += np.einsum("f,fc,fd->cd", shares, apart, apart)
    return Posterior(mean, covariance, float(scales @ (1 - curves)))


def _whiten(kernels: Array, noises: Array, places: Array, values: Array) -> _Fits:
    num_fits, num_runs = len(kernels), len(places)
    of_runs = kernels[:, places[:, None], places[None, :]]
    roots = np.linalg.cholesky(of_runs + noises[:, None, None] * np.eye(num_runs))
    columns = np.stack([np.ones(num_runs), values], axis=1)
    columns = np.broadcast_to(columns, (num_fits, num_runs, 2))
    solved = np.linalg.solve(roots, np.concatenate([columns, kernels[:, places]], axis=2))
    log_determinants = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
    return _Fits(log_determinants, solved[:, :, 0], solved[:, :, 1], solved[:, :, 2:])


def _matern(distances: Array) -> Array:
    """Matern 5/2: curves that can be differentiated twice."""
    scaled = np.sqrt(5) * distances
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
