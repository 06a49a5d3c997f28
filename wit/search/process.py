"""A Gaussian process over the angle: what scores of runs say of every candidate.

Scores are a smooth curve of the angle plus noise that every run has of its own. How smooth the
curve is and how large the noise are not chosen but weighed: each pair of a grid counts by the
likelihood of the scores, of which replicates say most about the noise. Level and unit of the
scores are integrated out (a flat prior of the level, Jeffreys' of the scale), so that they do
not matter.

Source: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.23, 2.42, 4.17.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LENGTHS = (10.0, 20.0, 40.0, 80.0)  # degrees over which the curve forgets itself
CURVES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)  # share of the curve in the variance of one run
Array = np.ndarray


class Posterior(NamedTuple):
    """What is known of the curve at every candidate, in the unit of the scores."""

    mean: Array  # [candidate]
    covariance: Array  # [candidate, candidate]
    noise: float  # variance of one run about the curve


def posterior(
    degrees: Sequence[float], places: Sequence[int], scores: Sequence[float]
) -> Posterior:
    """The curve at all candidates, given runs.

    Args:
        degrees: Angle of every candidate.
        places: Of every run, which candidate it was.
        scores: Of every run; at least two that differ.
    """
    values = np.asarray(scores, float)
    level, unit = values.mean(), float(np.ptp(values))
    fits = [
        _fit(np.asarray(degrees, float), np.asarray(places), (values - level) / unit, length, curve)
        for length in LENGTHS
        for curve in CURVES
    ]
    likelihoods = np.array([fit[0] for fit in fits])
    shares = np.exp(likelihoods - likelihoods.max())
    shares /= shares.sum()
    mean = sum(share * fit[1].mean for share, fit in zip(shares, fits, strict=True))
    covariance = np.zeros((len(degrees), len(degrees)))
    noise = 0.0
    for share, (_, fit) in zip(shares, fits, strict=True):
        apart = fit.mean - mean
        covariance += share * (fit.covariance + np.outer(apart, apart))
        noise += share * fit.noise
    return Posterior(level + unit * mean, unit**2 * covariance, unit**2 * noise)


def _fit(
    degrees: Array, places: Array, values: Array, length: float, curve: float
) -> tuple[float, Posterior]:
    """Log-likelihood of the runs, and the curve, for one smoothness and one share of noise."""
    kernel = curve * _matern(np.abs(degrees[:, None] - degrees[None, :]) / length)
    runs = kernel[np.ix_(places, places)] + (1 - curve) * np.eye(len(places))
    root = np.linalg.cholesky(runs)
    right = np.column_stack([np.ones(len(places)), values, kernel[places]])
    solved = np.linalg.solve(root, right)
    ones, values, across = solved[:, 0], solved[:, 1], solved[:, 2:]
    level = ones @ values / (ones @ ones)
    rest = values - level * ones
    squares = max(float(rest @ rest), 1e-12)
    freedom = len(places) - 1
    likelihood = (
        -np.log(np.diag(root)).sum() - np.log(ones @ ones) / 2 - freedom / 2 * np.log(squares)
    )
    unsure = 1 - ones @ across  # of the level, at every candidate
    covariance = kernel - across.T @ across + np.outer(unsure, unsure) / (ones @ ones)
    scale = squares / freedom
    mean = level + rest @ across
    return float(likelihood), Posterior(mean, scale * covariance, scale * (1 - curve))


def _matern(distances: Array) -> Array:
    """Matern 5/2: curves that are twice differentiable."""
    scaled = np.sqrt(5) * distances
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
