"""The weighted loss against its formula written as loops, in float64."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import hypothesis.strategies as st
import pyarrow as pa
import pytest
import torch
from hypothesis import given

from wit.data.collate import RoleCollator
from wit.data.prepare import INSTRUCTION_COLUMNS
from wit.data.splits import TRAIN, SplitFiles, read_split
from wit.losses import Normaliser, dft, divisors_of_targets, step_totals, weighted_loss
from wit.roles import Role
from wit.weights import TokenWeights

VOCABULARY = 7  # tokens
Rows = Sequence[dict[str, list[int]]]

weight = st.sampled_from([0.0, 0.2, 0.5, 1.0, 1 / 3, 3.0])
all_weights = st.builds(
    TokenWeights,
    prompt=weight,
    response=st.sampled_from([0.1, 0.4, 1.0]),
    template=st.none() | weight,
    system=st.none() | weight,
    stop=st.none() | weight,
    boilerplate=st.none() | weight,
)
NORMALISERS = get_args(Normaliser)
token = st.tuples(st.integers(0, VOCABULARY - 1), st.sampled_from(list(Role)))
ragged_rows = st.lists(st.lists(token, min_size=1, max_size=9), min_size=1, max_size=4).map(
    lambda rows: [
        {"input_ids": [i for i, _ in row], "roles": [int(r) for _, r in row]} for row in rows
    ]
)


def random_logits(rows: Rows, seed: int) -> torch.Tensor:
    longest = max(len(row["input_ids"]) for row in rows)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(rows), longest, VOCABULARY, generator=generator) * 3


def log_probs_of(logits: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """As a fused LM head gives them: of every token but the first, given those before it."""
    log_probs = logits[:, :-1].log_softmax(-1)
    return log_probs.gather(-1, input_ids[:, 1:, None]).squeeze(-1)


def totals_of(rows: Rows, weights: TokenWeights, normaliser: Normaliser) -> torch.Tensor:
    batch = RoleCollator(weights, pad_token_id=0)(rows)
    return step_totals(batch["token_weights"], batch["roles"], normaliser)


def loss_of(
    logits: torch.Tensor,
    rows: Rows,
    weights: TokenWeights,
    normaliser: Normaliser = "nonzero_tokens",
    totals: torch.Tensor | None = None,
) -> torch.Tensor:
    batch = RoleCollator(weights, pad_token_id=0)(rows)
    log_probs = log_probs_of(logits, batch["input_ids"])
    totals = totals_of(rows, weights, normaliser) if totals is None else totals
    divisors = divisors_of_targets(totals, batch["roles"][:, 1:])
    return weighted_loss(log_probs, batch["token_weights"][:, 1:], divisors)


def by_hand(
    logits: list[list[list[float]]], rows: Rows, weights: TokenWeights, normaliser: Normaliser
) -> tuple[float, list[list[list[float]]]]:
    """The formula of each normaliser and its derivative: slow, obvious, the reference."""
    of_role = weights.by_role()
    targets = [
        (b, t, Role(row["roles"][t]))
        for b, row in enumerate(rows)
        for t in range(1, len(row["input_ids"]))
        if of_role[Role(row["roles"][t])] != 0
    ]
    responses = [Role.RESPONSE, Role.STOP]
    total = 0.0
    gradient = [[[0.0] * VOCABULARY for _ in row] for row in logits]
    for b, t, role in targets:
        if normaliser == "nonzero_tokens":
            divisor = len(targets)
        elif normaliser == "weight_sum":
            divisor = math.fsum(of_role[other] for _, _, other in targets)
        else:
            divisor = sum((other in responses) == (role in responses) for _, _, other in targets)
        scores = logits[b][t - 1]
        partition = math.fsum(math.exp(score) for score in scores)
        target = rows[b]["input_ids"][t]
        total += of_role[role] * (math.log(partition) - scores[target]) / divisor
        for v in range(VOCABULARY):
            probability = math.exp(scores[v]) / partition
            gradient[b][t - 1][v] = of_role[role] * (probability - (v == target)) / divisor
    return total, gradient


@pytest.mark.parametrize("normaliser", NORMALISERS)
@given(rows=ragged_rows, weights=all_weights, seed=st.integers(0, 99))
def test_value_and_gradient_are_those_of_the_formula(
    normaliser: Normaliser, rows: Rows, weights: TokenWeights, seed: int
) -> None:
    logits = random_logits(rows, seed).requires_grad_()
    loss = loss_of(logits, rows, weights, normaliser)
    loss.backward()
    expected, gradient = by_hand(logits.double().tolist(), rows, weights, normaliser)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert logits.grad is not None
    assert torch.allclose(logits.grad.double(), torch.tensor(gradient).double(), atol=1e-6)


@pytest.mark.parametrize("weights", [(0, 1), (1, 1), (0.2, 0.4), (0.5, 0.5)])
def test_uniform_logits_cost_the_weight_times_log_of_the_vocabulary(
    weights: tuple[float, float],
) -> None:
    prompt, response = weights
    roles = [Role.SPECIAL, Role.PROMPT, Role.PROMPT, Role.RESPONSE]
    rows = [{"input_ids": [0, 1, 2, 3], "roles": [int(role) for role in roles]}]
    loss = loss_of(
        torch.zeros(1, 4, VOCABULARY), rows, TokenWeights(prompt=prompt, response=response)
    )
    targets = [w for w in (prompt, prompt, response) if w]
    assert loss.item() == pytest.approx(sum(targets) / len(targets) * math.log(VOCABULARY))


@given(rows=ragged_rows, seed=st.integers(0, 99))
def test_half_the_weights_are_exactly_half_the_loss_and_gradient(rows: Rows, seed: int) -> None:
    gradients, losses = [], []
    for scale in (1.0, 0.5):
        logits = random_logits(rows, seed).requires_grad_()
        loss = loss_of(logits, rows, TokenWeights(prompt=scale, response=scale))
        loss.backward()
        losses.append(loss.item())
        gradients.append(logits.grad)
    assert losses[1] == losses[0] / 2
    assert torch.equal(gradients[1], gradients[0] / 2)


@given(others=st.lists(st.sampled_from([0.1, 0.5, 1.0, 4.0]), min_size=3, max_size=3))
def test_the_coefficient_of_a_token_does_not_depend_on_its_neighbours(others: list[float]) -> None:
    log_probs = torch.full((2, 2), -1.0, requires_grad=True)
    weights = torch.tensor([[0.5, others[0]], [others[1], others[2]]])
    weighted_loss(log_probs, weights).backward()
    assert log_probs.grad is not None
    assert log_probs.grad[0, 0].item() == -0.5 / 4


def test_half_arrives_as_half_from_the_file_to_the_loss(tmp_path: Path) -> None:
    roles = [Role.SPECIAL, Role.PROMPT, Role.RESPONSE]
    row = {"input_ids": [1, 2, 3], "roles": roles, "row": 1, "source": "", "factors": None}
    with SplitFiles(tmp_path, INSTRUCTION_COLUMNS) as files:
        files.write(TRAIN, pa.RecordBatch.from_pylist([row], schema=INSTRUCTION_COLUMNS))
    rows = read_split(tmp_path, TRAIN).to_list()
    batch = RoleCollator(TokenWeights(prompt=0.5, response=0.2), pad_token_id=0)(rows)
    assert batch["token_weights"].tolist() == [[0.0, 0.5, pytest.approx(0.2, abs=1e-8)]]
    log_probs = torch.tensor([[-4.0, 0.0]])
    assert weighted_loss(log_probs, batch["token_weights"][:, 1:]).item() == 0.5 * 4.0 / 2


@pytest.mark.parametrize("divisors", [None, 0, 10, torch.tensor(0), torch.full((2, 3), 0.0)])
def test_a_micro_batch_without_targets_is_a_finite_zero_in_the_graph(
    divisors: int | torch.Tensor | None,
) -> None:
    log_probs = torch.randn(2, 3, requires_grad=True)
    loss = weighted_loss(log_probs, torch.zeros(2, 3), divisors)
    loss.backward()
    assert loss.item() == 0
    assert log_probs.grad is not None
    assert torch.equal(log_probs.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("normaliser", NORMALISERS)
@given(rows=ragged_rows, weights=all_weights, seed=st.integers(0, 99), data=st.data())
def test_micro_batches_of_a_step_add_up_to_its_loss(
    normaliser: Normaliser, rows: Rows, weights: TokenWeights, seed: int, data: st.DataObject
) -> None:
    logits = random_logits(rows, seed)
    whole = loss_of(logits, rows, weights, normaliser)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [part for part in (slice(0, cut), slice(cut, len(rows))) if rows[part]]
    totals = sum(totals_of(rows[part], weights, normaliser) for part in parts)
    assert torch.allclose(totals, totals_of(rows, weights, normaliser), rtol=1e-12)
    losses = [loss_of(logits[p], rows[p], weights, normaliser, totals).item() for p in parts]
    assert sum(losses) == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)


@given(rows=ragged_rows, seed=st.integers(0, 99), scale=st.sampled_from([0.25, 3.0]))
def test_a_sum_of_weights_does_not_see_their_scale(rows: Rows, seed: int, scale: float) -> None:
    logits = random_logits(rows, seed)
    one, scaled = (
        loss_of(logits, rows, TokenWeights(prompt=0.5 * s, response=s), "weight_sum").item()
        for s in (1.0, scale)
    )
    assert scaled == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_the_mean_per_role_does_not_see_how_long_the_prompt_is() -> None:
    def loss(num_prompt_tokens: int) -> float:
        roles = [Role.SPECIAL] + [Role.PROMPT] * num_prompt_tokens + [Role.RESPONSE, Role.STOP]
        rows = [{"input_ids": [1] * len(roles), "roles": list(map(int, roles))}]
        logits = torch.zeros(1, len(roles), VOCABULARY)
        weights = TokenWeights(prompt=0.5, response=2.0)
        return loss_of(logits, rows, weights, "per_role_mean").item()

    assert loss(1) == loss(7) == pytest.approx(2.5 * math.log(VOCABULARY))


def test_counts_are_exact_where_low_precision_would_round() -> None:
    roles = torch.full((1, 4097), int(Role.RESPONSE))
    weights = torch.ones(1, 4097, dtype=torch.bfloat16)
    totals = step_totals(weights, roles, "nonzero_tokens")
    assert totals.tolist() == [4097.0, 4097.0]


def test_a_reweighting_scales_the_loss_of_each_target_and_gets_no_gradient() -> None:
    log_probs = torch.tensor([[-1.0, -2.0]], requires_grad=True)

    def confident_only(seen: torch.Tensor) -> torch.Tensor:
        assert not seen.requires_grad
        return (seen > -1.5).float()

    loss = weighted_loss(log_probs, torch.tensor([[0.5, 1.0]]), reweighting=confident_only)
    loss.backward()
    assert loss.item() == 0.5 * 1.0 / 2, "the divisor still counts both"
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [[-0.25, 0.0]]


def test_dft_weighs_a_target_by_its_probability() -> None:
    log_probs = torch.tensor([[-1.0, -3.0]], requires_grad=True)
    loss = weighted_loss(log_probs, torch.ones(1, 2), reweighting=dft)
    assert loss.item() == pytest.approx((math.exp(-1) + 3 * math.exp(-3)) / 2)
    loss.backward()
    assert log_probs.grad is not None
    expected = [-math.exp(-1) / 2, -math.exp(-3) / 2]
    assert log_probs.grad[0].tolist() == pytest.approx(expected)


def test_low_precision_log_probs_are_summed_in_float32() -> None:
    log_probs = torch.full((1, 4096), -1.0, dtype=torch.bfloat16)
    loss = weighted_loss(log_probs, torch.ones(1, 4096, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
    assert loss.item() == 1.0
