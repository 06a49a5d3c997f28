"""Which points of a grid are one objective, and what is said of them."""

from typing import Any

import pytest
import torch

from wit.config import Study
from wit.losses import divisors_of_targets, step_totals, weighted_loss
from wit.objectives import MAX_EPSILON, objectives, sentences
from wit.roles import Role
from wit.weights import TokenWeights

AXIS = [0, 0.2, 0.4, 0.6, 0.8, 1]
PAPER = {"prompt": AXIS, "response": AXIS}
RAY = [{"prompt": 0.2, "response": 0.4}, {"prompt": 0.5, "response": 1}]


def study(weights: Any, sources: tuple[str, ...] = (), **sft: Any) -> Study:
    places = {"sources": {name: {"path": name} for name in sources}} if sources else {"path": "a"}
    return Study.model_validate(
        {
            "name": "small",
            "base": {"path": "base"},
            "instructions": places,
            "preferences": {"path": "b"},
            "weights": weights,
            "benchmarks": [{"name": "c", "role": "select"}],
            "sft": sft,
        }
    )


def groups(*args: Any, **kwargs: Any) -> list[tuple[str, ...]]:
    return [found.weights for found in objectives(study(*args, **kwargs))]


@pytest.mark.parametrize("normaliser", ["nonzero_tokens", "weight_sum", "per_role_mean"])
def test_the_papers_grid_is_21_objectives_without_clipping(normaliser: str) -> None:
    found = groups(PAPER, normaliser=normaliser)
    assert len(found) == 21
    assert sum(len(names) for names in found) == 35
    assert found[0] == ("p0-r0.2", "p0-r0.4", "p0-r0.6", "p0-r0.8", "p0-r1")
    assert ("p0.2-r0", "p0.4-r0", "p0.6-r0", "p0.8-r0", "p1-r0") in found
    assert ("p0.2-r0.4", "p0.4-r0.8") in found
    assert sorted(map(len, found), reverse=True)[:6] == [5, 5, 5, 2, 2, 1]


@pytest.mark.parametrize("normaliser", ["nonzero_tokens", "per_role_mean"])
def test_clipping_sees_the_scale_and_the_plan_says_so(normaliser: str) -> None:
    found = objectives(study(PAPER, normaliser=normaliser, max_grad_norm=0.7))
    assert len(found) == 35
    told = [objective for objective in found if objective.reason]
    assert len(told) == 5 + 5 + 5 + 2 + 2
    assert all("max_grad_norm = 0.7 clips" in objective.reason for objective in told)


def test_a_loss_divided_by_its_weights_is_one_objective_whatever_the_clipping() -> None:
    for knobs in ({}, {"max_grad_norm": 1}, {"adam_epsilon": 1}):
        [found] = objectives(study(RAY, normaliser="weight_sum", **knobs))
        assert found.weights == ("p0.2-r0.4", "p0.5-r1")
        assert "divided by the sum of the weights" in found.reason


def test_what_is_alone_on_its_ray_needs_no_reason() -> None:
    alone = [{"prompt": 0, "response": 1}, {"prompt": 1, "response": 1}]
    for clip in (0, 1):
        found = objectives(study(alone, max_grad_norm=clip))
        assert [objective.reason for objective in found] == ["", ""]
        assert sentences(found) == []


def test_weights_so_small_that_epsilon_counts_are_objectives_of_their_own() -> None:
    scales = [1, 0.1, 1e-4, 1e-5]
    weights = [{"prompt": scale, "response": scale} for scale in scales]
    one, *small = objectives(study(weights))
    assert one.weights == ("p1-r1", "p0.1-r0.1")
    assert "AdamW without clipping" in one.reason
    assert "adam_epsilon = 1e-08" in one.reason
    assert [objective.weights for objective in small] == [("p0.0001-r0.0001",), ("p1e-05-r1e-05",)]
    assert all("adam_epsilon = 1e-08, so their scale" in objective.reason for objective in small)


def test_the_smaller_epsilon_is_the_further_a_ray_reaches() -> None:
    def number(scale: float, epsilon: float) -> int:
        weights = [{"prompt": s, "response": s} for s in (1, scale)]
        return len(groups(weights, adam_epsilon=epsilon))

    assert [number(1e-3, epsilon) for epsilon in (1e-6, 1e-8, 1e-9, 1e-12)] == [2, 2, 1, 1]
    assert number(0.01, 0.01 * MAX_EPSILON) == 1  # at the limit


def test_points_with_one_table_are_one_objective_even_when_clipped() -> None:
    same = [{"prompt": 1, "response": 1}, {"prompt": 1, "response": 1, "template": 1, "stop": 1}]
    for clip in (0, 1):
        [found] = objectives(study(same, max_grad_norm=clip))
        assert found.reason == "one objective, since every role has the same weight in them"


def test_tables_of_sources_belong_to_the_objective_and_unused_ones_do_not() -> None:
    def point(general: float, **sources: float) -> dict[str, Any]:
        tables = {name: {"prompt": w / 2, "response": w} for name, w in sources.items()}
        return {"prompt": general / 2, "response": general, "sources": tables}

    # All that rows of a and b are weighted with is twice as large.
    assert len(groups([point(0.4, a=1), point(0.2, a=0.5)], sources=("a", "b"))) == 1
    # Only the rows of a are.
    assert len(groups([point(0.4, a=1), point(0.4, a=0.5)], sources=("a", "b"))) == 2
    # No row has the general table.
    assert len(groups([point(0.4, a=1, b=1), point(0.7, a=1, b=1)], sources=("a", "b"))) == 1
    # A source's own table may say what the general one says.
    assert len(groups([point(1, a=1), point(0.5)], sources=("a", "b"))) == 1


def test_objectives_stand_in_the_order_of_the_weights() -> None:
    weights = [{"prompt": p, "response": r} for p, r in ((1, 1), (0.5, 1), (0.2, 0.2), (0.2, 0.4))]
    assert groups(weights) == [("p1-r1", "p0.2-r0.2"), ("p0.5-r1", "p0.2-r0.4")]


def test_every_reason_is_said_once() -> None:
    count, sentence = sentences(objectives(study(PAPER)))
    assert count == "35 pairs of weights are 21 objectives"
    assert sentence.count("AdamW") == 1
    assert "p0.2-r0.4 = p0.4-r0.8" in sentence
    assert "p0.2-r1" not in sentence
    [clipped] = sentences(objectives(study(RAY, max_grad_norm=1)))
    assert clipped.endswith(": p0.2-r0.4, p0.5-r1")


@pytest.mark.parametrize("normaliser", ["nonzero_tokens", "weight_sum", "per_role_mean"])
def test_along_a_ray_the_loss_has_one_factor_in_every_step(normaliser: Any) -> None:
    """What merging rests on: of a factor that changes from step to step AdamW would see much."""
    roles = torch.tensor([[Role.PROMPT] * 5 + [Role.RESPONSE] * 2 + [Role.STOP]])
    log_probs = -(torch.arange(1.0, 9.0)[None] ** 2)

    def losses(prompt: float, response: float) -> torch.Tensor:
        table = TokenWeights(prompt=prompt, response=response).by_role()
        weights = torch.tensor([table[role] for role in Role])[roles]
        found = []
        for step in (slice(0, 8), slice(2, 8), slice(4, 7)):  # ever fewer tokens of the prompt
            totals = step_totals(weights[:, step], roles[:, step], normaliser)
            divisors = divisors_of_targets(totals, roles[:, step])
            found.append(weighted_loss(log_probs[:, step], weights[:, step], divisors))
        return torch.stack(found)

    for first, second in (((0.2, 0.4), (0.5, 1)), ((0, 0.4), (0, 1)), ((0.4, 0), (1, 0))):
        factor = 1.0 if normaliser == "weight_sum" else 2.5
        assert (losses(*second) / losses(*first)).tolist() == pytest.approx([factor] * 3)
    across = (losses(0.2, 1) / losses(0, 1)).tolist()
    assert across[0] != pytest.approx(across[2], rel=1e-2)
