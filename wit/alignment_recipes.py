"""Recipes of preference alignment: the objective, the training, and the reference."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from wit.adapter_recipes import CONTINUE, QUANTISED, Adapter, AdapterKnobs, as_before, with_own_rate
from wit.alignment.objectives import (
    KNOBS,
    NAMES,
    OBJECTIVES,
    Objective,
    ObjectiveName,
    TermName,
    defaults_of,
)
from wit.on_policy.recipes import OnPolicyKnobs
from wit.recipes import Recipe, TrainingKnobs

Precision = Literal["float32", "bfloat16", "float16"]


class DPOKnobs(TrainingKnobs):
    """Alignment with preferences. Defaults: arXiv 2507.07817, section 3.2; beta: its [12].

    What an objective's own paper has otherwise takes their place: see
    ``wit/alignment/objectives.py``.
    """

    objective: ObjectiveName = "dpo"
    learning_rate: PositiveFloat = 5e-7
    num_epochs: PositiveInt = 2
    examples_per_step: PositiveInt = 32
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_grad_norm: NonNegativeFloat = 1.0
    beta: PositiveFloat = 0.1  # what it means depends on the objective
    # Of every term of the loss; unset: 1 for the objective, and what its paper adds.
    loss_weights: dict[TermName, PositiveFloat] = Field(default_factory=dict)
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] | None = None  # share of wrong labels
    gamma_beta_ratio: NonNegativeFloat | None = None  # SimPO's margin that is aimed at, per token
    desirable_weight: NonNegativeFloat | None = None  # KTO's, of good responses
    undesirable_weight: NonNegativeFloat | None = None  # and of bad ones
    # Instead of all weights: a new one on the SFT model, or the SFT's own goes on; unset: none.
    adapter: Adapter = None
    # Pairs of the policy's own responses, in one or more rounds; unset: those of the preferences.
    on_policy: OnPolicyKnobs | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_the_objectives_own(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("objective", "dpo")
        if not isinstance(name, str) or name not in NAMES:
            return given  # the field says what is allowed
        given = {key: value for key, value in given.items() if value is not None}
        if not given.get("loss_weights"):
            given.pop("loss_weights", None)
        terms = given.get("loss_weights", {})
        known: dict[str, Any] = {}
        for term in NAMES:  # of other terms what only they have
            if isinstance(terms, dict) and term in terms:
                of_term = OBJECTIVES[term]
                known |= {k: v for k, v in of_term.defaults.items() if k in of_term.knobs}
        of_objective = {**known, **defaults_of(name)}
        full = of_objective.get("learning_rate", cls.model_fields["learning_rate"].default)
        return {**of_objective, **with_own_rate(given, full)}

    @model_validator(mode="after")
    def _terms_go_together(self) -> Self:
        if self.objective not in self.loss_weights:
            raise ValueError(
                f"loss_weights has no weight of the objective itself, {self.objective!r}; give it "
                f"one, such as {{{self.objective}: 1.0, sft: 0.2}}"
            )
        single = [name for name in self.terms if OBJECTIVES[name].is_for_unpaired]
        if single and len(self.terms) > 1:
            raise ValueError(
                f"{single[0]!r} learns from single responses and the others from pairs; leave one "
                "of them out of loss_weights"
            )
        return self

    @model_validator(mode="after")
    def _knobs_are_used(self) -> Self:
        used = frozenset().union(*(OBJECTIVES[name].knobs for name in self.terms))
        for knob in sorted(KNOBS - used):
            if getattr(self, knob) is not None:
                whose = ", ".join(name for name in NAMES if knob in OBJECTIVES[name].knobs)
                raise ValueError(
                    f"{knob!r} is of {whose}; {self.objective!r} has none, leave it out"
                )
        return self

    @property
    def continues_adapter(self) -> bool:
        """Whether the adapter of SFT goes on."""
        return self.adapter is not None and self.adapter.method == CONTINUE

    @field_validator("adapter")
    @classmethod
    def _is_of_the_reference(cls, adapter: AdapterKnobs | None) -> AdapterKnobs | None:
        if adapter is not None and adapter.method in QUANTISED:
            raise ValueError(
                f"{adapter.method} would quantise the SFT model, which would be another one than "
                "its reference; choose lora, or give sft.adapter that method and continue it"
            )
        if adapter is not None and adapter.trains_tokens:
            raise ValueError(
                "tokens: special tokens are learned in SFT; leave 'tokens' out of an alignment's "
                "adapter"
            )
        return adapter

    @model_validator(mode="after")
    def _rounds_have_an_adapter(self) -> Self:
        if self.continues_adapter and self.on_policy and self.on_policy.rounds > 1:
            raise ValueError(
                "'adapter: continue' goes on with the adapter of SFT, and after the first round "
                "that is merged; set 'on_policy.rounds' to 1, or give 'adapter' one of its own"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The values that enter the fingerprint; what nobody asked for is no part of it."""
        values = as_before(super().identity())
        if self.on_policy is None:
            del values["on_policy"]
        else:
            del values["on_policy"]["reward_model"]  # counts by its content, as the pairs do
        return values

    def of_round(self, number: int) -> "DPOKnobs":
        """The same up to a round: what a study of fewer rounds would make."""
        assert self.on_policy is not None
        on_policy = self.on_policy.model_copy(update={"rounds": number})
        return self.model_copy(update={"on_policy": on_policy})

    @property
    def method(self) -> Objective:
        """What is known of its objective."""
        return OBJECTIVES[self.objective]

    @property
    def terms(self) -> tuple[ObjectiveName, ...]:
        """The objectives in its loss, without the likelihood terms."""
        return tuple(name for name in NAMES if name in self.loss_weights)

    @property
    def has_reference(self) -> bool:
        """Whether any term compares the policy with the reference."""
        return any(OBJECTIVES[name].has_reference for name in self.terms)

    @property
    def is_for_unpaired(self) -> bool:
        """Whether it learns from single responses, be they in pairs or not."""
        return self.method.is_for_unpaired

    @property
    def label(self) -> str:
        """Objective and beta for a person, such as ``DPO, beta 0.1``."""
        weights = {name: w for name, w in self.loss_weights.items() if name != self.objective}
        own = {**self.method.terms}
        more = "".join(f" + {w:g} {n}" for n, w in weights.items()) if weights != own else ""
        said = f"{self.method.title}{more}, beta {self.beta:g}"
        if self.on_policy is None:
            return said
        return f"{said}, on policy in {_rounds(self.on_policy.rounds)}"


def _rounds(number: int) -> str:
    return f"{number} round{'s' * (number > 1)}"


class DPORecipe(DPOKnobs):
    """Alignment from one SFT checkpoint, which is also the frozen reference model."""

    stage: ClassVar[str] = "dpo@3"

    seed: NonNegativeInt


class ReferenceRecipe(Recipe):
    """Log-probabilities of the responses of a preference set, by one SFT checkpoint.

    Made once for all objectives, betas and seeds that start there.
    """

    stage: ClassVar[str] = "reference@1"

    precision: Precision = "float32"  # of matrix products
    # "mismatched": each prompt with the response of another row, by which KTO estimates a KL.
    responses: Literal["own", "mismatched"] = "own"
