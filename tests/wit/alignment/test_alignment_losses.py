"""Losses of preference alignment: by pencil, against TRL's own, and which way they push."""

import math
import warnings
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from wit.alignment.losses import PAIR_LOSSES, Responses, kto, kto_divergence
from wit.alignment.objectives import OBJECTIVES, ObjectiveName, loss_at_start
from wit.alignment_recipes import DPOKnobs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that they may move, which a test is there to notice
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

# A pair of which all can be computed by hand: 4 and 2 tokens, log-ratios of 2 and -1.
CHOSEN, REJECTED = (-6.0, 4, -8.0), (-3.0, 2, -2.0)
PAIRED = list(PAIR_LOSSES)


def side(logp: float, num_tokens: int, reference: float) -> Responses:
    as_float64 = torch.tensor([logp], dtype=torch.float64, requires_grad=True)
    return Responses(as_float64, torch.tensor([num_tokens]), torch.tensor([reference]).double())


def log1pexp(x: float) -> float:
    return math.log1p(math.exp(x))


def log_odds(logp_per_token: float) -> float:
    p = math.exp(logp_per_token)
    return math.log(p / (1 - p))


# With beta = 0.5: the margin is 3, per token 2/4 + 1/2 = 1.
BY_HAND: dict[ObjectiveName, float] = {
    "dpo": log1pexp(-1.5),
    "dpo-norm": log1pexp(-0.5),
    "cdpo": 0.9 * log1pexp(-1.5) + 0.1 * log1pexp(1.5),
    "robust-dpo": (0.9 * log1pexp(-1.5) - 0.1 * log1pexp(1.5)) / 0.8,
    "ipo": 0.0,  # a margin per token of 1 is what is aimed at
    "sppo-hard": 1.0,  # (2 - 1)^2 + (-1 + 1)^2
    "apo-zero": 1 - 1 / (1 + math.exp(-1.0)) + 1 / (1 + math.exp(0.5)),
    "apo-down": 1 / (1 + math.exp(-1.0)) + 1 - 1 / (1 + math.exp(-1.5)),
    "simpo": log1pexp(-0.5 * (-1.5 + 1.5 - 0.5)),
    "cpo": log1pexp(-0.5 * (-6 + 3)),
    "orpo": 0.5 * log1pexp(-(log_odds(-1.5) - log_odds(-1.5))),
}


@pytest.mark.parametrize("name", PAIRED)
def test_a_pair_has_the_loss_of_the_pencil(name: ObjectiveName) -> None:
    loss = PAIR_LOSSES[name](side(*CHOSEN), side(*REJECTED), DPOKnobs(objective=name, beta=0.5))
    assert loss.tolist() == pytest.approx([BY_HAND[name]], abs=1e-12)


def test_kto_has_the_losses_of_the_pencil() -> None:
    knobs = DPOKnobs(objective="kto", beta=0.5, desirable_weight=2.0, undesirable_weight=3.0)
    both = Responses(torch.tensor([-6.0, -3.0]), torch.tensor([4, 2]), torch.tensor([-8.0, -2.0]))
    found = kto(both, torch.tensor([True, False]), torch.tensor(1.0), knobs)
    # Log-ratios of 2 and -1, counted from 1: gains of 0.5 and -1.
    by_hand = [2 * (1 - 1 / (1 + math.exp(-0.5))), 3 * (1 - 1 / (1 + math.exp(-1.0)))]
    assert found.tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(("log_ratios", "expected"), [([1.0, 2.0], 1.5), ([1.0, -3.0], 0.0)])
def test_the_divergence_of_kto_is_a_mean_that_is_not_negative(
    log_ratios: list[float], expected: float
) -> None:
    logps = torch.tensor(log_ratios, requires_grad=True)
    found = kto_divergence(Responses(logps, torch.tensor([1, 1]), torch.zeros(2)))
    assert found.item() == expected
    assert not found.requires_grad


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if OBJECTIVES[name].at_start])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_the_loss_starts_at_its_constant(name: ObjectiveName, beta: float) -> None:
    """Where policy and reference are one model, whatever it finds of the responses."""
    knobs = DPOKnobs(objective=name, beta=beta)
    chosen, rejected = side(-6.0, 4, -6.0), side(-3.0, 2, -3.0)
    if name == "kto":
        both = Responses(*map(torch.cat, zip(chosen, rejected, strict=True)))
        loss = kto(both, torch.tensor([True, False]), torch.tensor(0.0), knobs).mean()
    else:
        loss = PAIR_LOSSES[name](chosen, rejected, knobs).mean()
    assert loss.item() == pytest.approx(loss_at_start({name: 1.0}, beta))


def test_a_mixture_starts_at_the_sum_of_its_constants_or_at_none() -> None:
    mixed = DPOKnobs(loss_weights={"dpo": 0.5, "apo-zero": 2.0})
    assert loss_at_start(mixed.loss_weights, mixed.beta) == pytest.approx(0.5 * math.log(2) + 2)
    with_likelihood = DPOKnobs(loss_weights={"dpo": 1.0, "sft": 0.2})
    assert loss_at_start(with_likelihood.loss_weights, 0.1) is None


@pytest.mark.parametrize("name", PAIRED)
def test_the_chosen_response_is_pushed_up_and_the_rejected_one_down(name: ObjectiveName) -> None:
    """At the start; APO-down only pushes the rejected one down there."""
    chosen, rejected = side(-6.0, 4, -6.0), side(-3.0, 2, -3.0)
    PAIR_LOSSES[name](chosen, rejected, DPOKnobs(objective=name)).sum().backward()
    assert chosen.logps.grad is not None
    assert rejected.logps.grad is not None
    assert rejected.logps.grad.item() > 0
    if name == "apo-down":
        assert chosen.logps.grad.item() == pytest.approx(0, abs=1e-12)
    else:
        assert chosen.logps.grad.item() < 0


def test_kto_pushes_good_responses_up_and_bad_ones_down() -> None:
    logps = torch.tensor([-6.0, -3.0], requires_grad=True)
    both = Responses(logps, torch.tensor([4, 2]), logps.detach())
    kto(
        both, torch.tensor([True, False]), torch.tensor(0.0), DPOKnobs(objective="kto")
    ).sum().backward()
    assert logps.grad is not None
    assert logps.grad[0] < 0 < logps.grad[1]


logp = st.floats(-60, -0.01)
sides = st.tuples(logp, st.integers(1, 40), logp)


@pytest.mark.parametrize("name", ["cpo", "simpo", "orpo"])
@given(chosen=sides, rejected=sides)
def test_losses_without_a_reference_are_those_of_trl(
    name: ObjectiveName, chosen: Any, rejected: Any
) -> None:
    knobs = DPOKnobs(objective=name, beta=0.3)
    both = side(*chosen), side(*rejected)
    ours = PAIR_LOSSES[name](*both, knobs)
    mean, total = ([getattr(s, n) for s in both] for n in ("logps_per_token", "logps"))
    trainer: Any = SimpleNamespace(
        alpha=0.0,
        beta=knobs.beta,
        loss_type={"cpo": "sigmoid"}.get(name, name),
        label_smoothing=0.0,
        simpo_gamma=knobs.beta * (knobs.gamma_beta_ratio or 0),
        accelerator=SimpleNamespace(device="cpu"),
    )
    if name == "orpo":
        # TRL's are negative, in float32, and subtracted from the likelihood term.
        theirs = -ORPOTrainer.odds_ratio_loss(trainer, *mean)[0]
    else:
        theirs = CPOTrainer.cpo_loss(trainer, *(total if name == "cpo" else mean))[0]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-5)


@given(chosen=sides, rejected=sides)
def test_no_loss_is_ever_not_finite(chosen: Any, rejected: Any) -> None:
    for name, loss in PAIR_LOSSES.items():
        of_pair = side(*chosen), side(*rejected)
        found = loss(*of_pair, DPOKnobs(objective=name))
        found.sum().backward()
        assert torch.isfinite(found).all(), name
        assert torch.isfinite(of_pair[0].logps.grad).all(), name  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("logp_per_token", [0.0, -1e-9, -1e3])
def test_the_odds_ratio_bears_a_model_that_is_sure(logp_per_token: float) -> None:
    chosen, rejected = side(logp_per_token, 1, 0.0), side(-1.0, 1, 0.0)
    loss = PAIR_LOSSES["orpo"](chosen, rejected, DPOKnobs(objective="orpo"))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(chosen.logps.grad).all()  # pyright: ignore[reportArgumentType]
