"""The objectives of preference alignment: what each needs, starts at, and has as its defaults.

Defaults are of the method's paper or of its authors' code, not TRL's. What a method leaves open
(AdamW's constants, clipping) is as arXiv 2507.07817 has it for DPO.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

ObjectiveName = Literal[
    "dpo",
    "dpo-norm",
    "cdpo",
    "robust-dpo",
    "ipo",
    "sppo-hard",
    "apo-zero",
    "apo-down",
    "kto",
    "simpo",
    "cpo",
    "orpo",
]
# Terms beside it: likelihood of the chosen response, and of prompt and chosen response together.
LikelihoodName = Literal["sft", "sft-with-prompt"]
TermName = Literal[ObjectiveName, LikelihoodName]
NAMES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
LIKELIHOODS: tuple[LikelihoodName, ...] = get_args(LikelihoodName)
LN_2 = math.log(2)


@dataclass(frozen=True)
class Objective:
    """One way to learn from preferences."""

    title: str
    beta: str  # what it means here
    source: str  # paper, or authors' code
    has_reference: bool = True
    # Loss where policy and reference are one model, by beta; None: it depends on the model.
    at_start: Callable[[float], float] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)  # where they differ from DPO's
    knobs: frozenset[str] = frozenset()  # that it has beside beta
    terms: Mapping[TermName, float] = field(default_factory=dict)  # beside itself, with weights
    is_for_unpaired: bool = False  # learns from good and bad responses without a partner, too


PULL = "strength of the pull towards the reference; a smaller one lets the policy go further"
MARGIN = "how much of a difference in the response's log-probability counts as sure"

# SimPO: princeton-nlp/SimPO@1b3e8f35, its settings for Llama-3-8B-base. DPO-norm:
# arXiv 2411.15124, section 5. SPPO: arXiv 2405.00675, as TRL's documentation gives it.
OBJECTIVES: dict[ObjectiveName, Objective] = {
    "dpo": Objective("DPO", PULL, "arXiv 2305.18290, Eq. 7", at_start=lambda _: LN_2),
    "dpo-norm": Objective(
        "length-normalised DPO",
        "strength of the pull towards the reference, per token: some fifty times DPO's",
        "arXiv 2411.15124, section 5",
        at_start=lambda _: LN_2,
        defaults={"beta": 5.0, "num_epochs": 1, "examples_per_step": 128},
    ),
    "cdpo": Objective(
        "conservative DPO",
        PULL,
        "E. Mitchell, A note on DPO with noisy preferences (2023)",
        at_start=lambda _: LN_2,
        defaults={"label_smoothing": 0.1},
        knobs=frozenset({"label_smoothing"}),
    ),
    "robust-dpo": Objective(
        "robust DPO",
        PULL,
        "arXiv 2403.00409",
        at_start=lambda _: LN_2,
        defaults={"label_smoothing": 0.1},
        knobs=frozenset({"label_smoothing"}),
    ),
    "ipo": Objective(
        "IPO",
        "the paper's tau: the margin per token that is aimed at is 1 / (2 beta)",
        "arXiv 2310.12036, Eq. 17, per token",
        at_start=lambda beta: 1 / (2 * beta) ** 2,
    ),
    "sppo-hard": Objective(
        "SPPO with hard labels",
        "1 / eta: each log-ratio is drawn to 1 / (2 beta), up or down",
        "arXiv 2405.00675, Eq. 4.7 with P of 1 and 0",
        at_start=lambda beta: 2 / (2 * beta) ** 2,
        defaults={"beta": 0.001},
    ),
    "apo-zero": Objective("APO-zero", PULL, "arXiv 2408.06266, Eq. 7", at_start=lambda _: 1.0),
    "apo-down": Objective("APO-down", PULL, "arXiv 2408.06266, Eq. 8", at_start=lambda _: 1.0),
    "kto": Objective(
        "KTO",
        PULL,
        "arXiv 2402.01306",
        # Of a response half of its weight; said for weights of 1.
        at_start=lambda _: 0.5,
        defaults={"desirable_weight": 1.0, "undesirable_weight": 1.0},
        knobs=frozenset({"desirable_weight", "undesirable_weight"}),
        is_for_unpaired=True,
    ),
    "simpo": Objective(
        "SimPO",
        f"{MARGIN}, per token; there is no reference",
        "arXiv 2405.14734, Eq. 6",
        has_reference=False,
        defaults={
            "beta": 2.0,
            "gamma_beta_ratio": 0.5,
            "learning_rate": 6e-7,
            "num_epochs": 1,
            "examples_per_step": 128,
            "schedule": "cosine",
        },
        knobs=frozenset({"gamma_beta_ratio"}),
    ),
    "cpo": Objective(
        "CPO",
        f"{MARGIN}; there is no reference",
        "arXiv 2401.08417",
        has_reference=False,
        terms={"sft": 1.0},
    ),
    "orpo": Objective(
        "ORPO",
        "the paper's lambda: weight of the odds ratio beside the likelihood; there is no reference",
        "arXiv 2403.07691, Eq. 6",
        has_reference=False,
        terms={"sft-with-prompt": 1.0},  # as the authors' code: over prompt and response
    ),
}
# Of all objectives, what they may have beside beta.
KNOBS = frozenset().union(*(objective.knobs for objective in OBJECTIVES.values()))


def defaults_of(name: ObjectiveName) -> dict[str, Any]:
    """The knobs that an objective sets where a study does not."""
    objective = OBJECTIVES[name]
    return {**objective.defaults, "loss_weights": {name: 1.0, **objective.terms}}


def loss_at_start(weights: Mapping[TermName, float], beta: float) -> float | None:
    """The loss where policy and reference are one model; None if it depends on the model."""
    if any(term in weights for term in LIKELIHOODS):
        return None
    constants = []
    for name in NAMES:
        if (weight := weights.get(name)) is not None:
            if (at_start := OBJECTIVES[name].at_start) is None:
                return None
            constants.append(weight * at_start(beta))
    return math.fsum(constants)
