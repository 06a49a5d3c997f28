"""Recipes of pairs made on policy: how responses are drawn, and what ranks them.

Source: iterative DPO of "RLHF Workflow", arXiv 2405.07863, section 3.3, algorithm 2: of several
responses to a prompt the best against the worst; every round draws from the model of the round
before, and the reference is the SFT model in all of them. Differs: a round goes on from the model
of the one before and learns from its own pairs alone, not from those of all rounds; all responses
are drawn at one temperature.
"""

import re
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

from wit.judging.settings import JudgeModel
from wit.recipes import LocatedInput, Recipe
from wit.settings import Settings

Scorer = Literal["exact_match", "reward_model", "judge"]


class PairKnobs(Settings):
    """How pairs are made of a policy's responses to the prompts of the preference set."""

    # What ranks them: whether they say what the chosen response says, a sequence classifier, or the
    # study's judge.
    scorer: Scorer = "exact_match"
    # Of exact_match: what of a text is compared, its last match; unset: all of it.
    extract: str | None = None
    num_responses: Annotated[int, Field(ge=2)] = 8  # drawn for each prompt
    temperature: PositiveFloat = 1.0  # 1: the model's own distribution
    max_new_tokens: PositiveInt = 512  # of a response; half of the model's context, if that is less
    min_margin: NonNegativeFloat = 0.0  # least difference of scores; equal ones are a tie
    max_prompts: PositiveInt | None = None  # of the training rows, the first so many; unset: all

    @field_validator("extract")
    @classmethod
    def _is_a_pattern(cls, extract: str | None) -> str | None:
        if extract is None:
            return None
        try:
            num_groups = re.compile(extract).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if num_groups > 1:
            raise ValueError(f"has {num_groups} groups; give one, around what is compared, or none")
        return extract


class OnPolicyKnobs(PairKnobs):
    """Rounds of such pairs, and DPO on them."""

    rounds: PositiveInt = 1
    reward_model: LocatedInput | None = None  # a sequence classifier of one output, with a template

    @model_validator(mode="after")
    def _scorer_has_what_it_needs(self) -> Self:
        if self.scorer == "reward_model" and self.reward_model is None:
            raise ValueError(
                "'scorer: reward_model' needs 'reward_model', such as reward_model: {path: FOLDER}"
            )
        if self.scorer != "reward_model" and self.reward_model is not None:
            raise ValueError(f"'reward_model' is set and the scorer is {self.scorer!r}; leave one")
        if self.scorer == "exact_match" and self.min_margin > 1:
            raise ValueError(
                f"'min_margin: {self.min_margin:g}' is more than exact_match can give: a response "
                "is right, 1, or wrong, 0; give at most 1"
            )
        if self.scorer != "exact_match" and self.extract is not None:
            raise ValueError(f"'extract' is of exact_match, and the scorer is {self.scorer!r}")
        return self


class PairsRecipe(PairKnobs, Recipe):
    """Preference pairs of one policy's own responses."""

    stage: ClassVar[str] = "pairs@1"

    round: PositiveInt
    seed: NonNegativeInt  # of the draws
    judge: JudgeModel | None = None  # who ranks them, if a judge does

    @classmethod
    def of(cls, knobs: OnPolicyKnobs, number: int, seed: int, judge: JudgeModel | None) -> Self:
        """Of one round, counted from 1."""
        values: dict[str, Any] = knobs.model_dump(exclude={"rounds", "reward_model"})
        return cls(
            **values, round=number, seed=seed, judge=judge if knobs.scorer == "judge" else None
        )
