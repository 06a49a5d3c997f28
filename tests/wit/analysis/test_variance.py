"""Variance of ray, seed and rest: against the textbook where it is balanced, and in the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import PAPER_GRID, noisy, rays_of_grid, table_of

from wit.analysis.grid import ModelScore, StageScores, stage_scores
from wit.analysis.report_findings import variance_note
from wit.analysis.variance import VarianceSplit, variance_split


def split(scores):
    return variance_split(stage_scores(table_of("sft", scores), "sft"))


balanced = st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=2, max_size=5)


@given(balanced)
def test_a_balanced_table_gives_the_textbooks_estimates(rows):
    """R rays in S seeds: mean squares A, B, E; rest = E, ray = (A - E) / S, seed = (B - E) / R."""
    table = np.array(rows)
    num_rays, num_seeds = table.shape
    mean = table.mean()
    rays, seeds = table.mean(axis=1), table.mean(axis=0)
    error = table - rays[:, None] - seeds[None, :] + mean
    squares = {
        "ray": num_seeds * ((rays - mean) ** 2).sum() / (num_rays - 1),
        "seed": num_rays * ((seeds - mean) ** 2).sum() / (num_seeds - 1),
        "rest": (error**2).sum() / ((num_rays - 1) * (num_seeds - 1)),
    }
    found = split({(place / 8, 1): row for place, row in enumerate(rows)})
    for name, divisor in (("ray", num_seeds), ("seed", num_rays)):
        expected = max(0.0, (squares[name] - squares["rest"]) / divisor)
        assert getattr(found, name) ** 2 == pytest.approx(expected, abs=1e-6)
    assert found.rest**2 == pytest.approx(squares["rest"], abs=1e-6)


def test_what_went_in_comes_out_even_if_cells_are_missing():
    """Effects of deviation 3 per ray and 2 per seed, noise 1; a tenth of the runs lost."""
    generator = np.random.default_rng(4)
    found = []
    for _ in range(60):
        effects = {ray: 3 * generator.standard_normal() for ray in rays_of_grid()}
        scores = noisy(generator, effects, noise=1.0, num_seeds=5, seed_effect=2.0)
        table = table_of("sft", scores).sample(frac=0.9, random_state=generator.integers(1e6))
        one = variance_split(stage_scores(table, "sft"))
        found.append((one.ray**2, one.seed**2, one.rest**2))
    # Five seeds know their variance to 70 % each; sixty tables know it to 10 %.
    assert np.mean(found, axis=0) == pytest.approx([9, 4, 1], rel=0.25)


def test_one_seed_has_no_variance_of_seeds():
    scores = noisy(np.random.default_rng(0), {"1 : 1": 5.0}, noise=1.0, num_seeds=1)
    found = split(scores)
    assert found.seed is None
    assert found.rest == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize("cells", [PAPER_GRID[:1], [(0, 1), (0.2, 1)]])
def test_where_nothing_ran_twice_nothing_can_be_split(cells):
    found = split({cell: [1.0] for cell in cells})
    assert (found.ray, found.seed, found.rest) == (None, None, None)


def test_one_ray_has_no_variance_of_rays():
    found = split({(0, 1): [1.0, 2.0], (0, 0.5): [1.5, 2.5]})
    assert found.ray is None
    assert found.seed is not None


def test_runs_that_are_copies_say_nothing_of_noise():
    split = VarianceSplit(ray=0.1, seed=None, rest=0.0)
    assert "nothing of noise" in variance_note(split, 1, is_alike=False)
    assert "nothing of noise" not in variance_note(
        split.model_copy(update={"rest": 0.01}), 1, is_alike=False
    )


def by_dense_fits(scores: np.ndarray, rays: list[str], seeds: list[int]) -> dict[str, float | None]:
    """The same by least squares on whole designs, whose work grows with the cube of the runs."""

    def fit(*parts: np.ndarray) -> tuple[int, np.ndarray]:
        design = np.hstack([np.ones((len(scores), 1)), *parts])
        return int(np.linalg.matrix_rank(design)), np.eye(len(scores)) - design @ np.linalg.pinv(
            design
        )

    def indicators(names: list) -> np.ndarray:
        known = list(dict.fromkeys(names))
        return np.array([[float(name == other) for other in known] for name in names])

    scores = scores - scores.mean()
    parts = {"ray": indicators(rays), "seed": indicators(seeds)}
    rank, residual = fit(*parts.values())
    if len(scores) == rank:
        return {"ray": None, "seed": None, "rest": None}
    rest = scores @ residual @ scores / (len(scores) - rank)
    found: dict[str, float | None] = {"rest": rest}
    for name, other in (("ray", "seed"), ("seed", "ray")):
        rank_without, without = fit(parts[other])
        spread = np.trace(parts[name].T @ without @ parts[name])
        if rank == rank_without or spread <= 1e-9:
            found[name] = None
            continue
        square = scores @ without @ scores - scores @ residual @ scores
        found[name] = max(0.0, (square - (rank - rank_without) * rest) / spread)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=3, max_size=30),
    st.integers(0, 1000),
)
def test_whatever_is_missing_it_is_what_dense_fits_give(runs, number):
    rays, seeds = [f"{ray} : 7" for ray, _ in runs], [seed for _, seed in runs]
    scores = np.random.default_rng(number).normal(size=len(runs))
    models = tuple(
        ModelScore.model_construct(ray=ray, seed=seed, score=float(score))
        for ray, seed, score in zip(rays, seeds, scores, strict=True)
    )
    found = variance_split(StageScores.model_construct(models=models))
    expected = by_dense_fits(scores, rays, seeds)
    for name, variance in expected.items():
        value = getattr(found, name)
        assert (value is None) == (variance is None)
        if value is not None:
            assert value**2 == pytest.approx(variance, abs=1e-8)
