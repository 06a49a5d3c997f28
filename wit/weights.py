"""Loss weights of roles: a point of the grid that a study searches."""

from itertools import product
from typing import Any, Self

from pydantic import NonNegativeFloat, model_validator

from wit.roles import Role
from wit.settings import Settings


class TokenWeights(Settings):
    """Loss weight of each role: lambda_p and lambda_r of the paper, and finer ones if wanted.

    Source: arXiv 2507.07817, Eq. 2. Differs: the paper knows two segments; here template
    and system text can have a weight of their own (unset: that of the prompt), and so can the
    stop token (unset: that of the response).
    """

    prompt: NonNegativeFloat
    response: NonNegativeFloat
    system: NonNegativeFloat | None = None
    template: NonNegativeFloat | None = None
    stop: NonNegativeFloat | None = None

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if self.prompt == self.response == 0:
            raise ValueError("prompt and response weights are both 0: nothing would be learned")
        return self

    def by_role(self) -> dict[Role, float]:
        """Weight of every role; ``special`` tokens are never targets."""

        def own_or(inherited: float, own: float | None) -> float:
            return inherited if own is None else own

        return {
            Role.SPECIAL: 0.0,
            Role.TEMPLATE: own_or(self.prompt, self.template),
            Role.BOILERPLATE: self.prompt,
            Role.SYSTEM: own_or(self.prompt, self.system),
            Role.PROMPT: self.prompt,
            Role.RESPONSE: self.response,
            Role.STOP: own_or(self.response, self.stop),
        }

    @property
    def ray(self) -> tuple[float, ...]:
        """The weights up to a common factor: equal rays are one objective under unclipped AdamW."""
        weights = tuple(self.by_role().values())
        return tuple(round(weight / max(weights), 9) for weight in weights)

    def __str__(self) -> str:
        finer = self.model_dump(exclude={"prompt", "response"}, exclude_none=True)
        parts = [f"p{self.prompt:g}", f"r{self.response:g}"]
        return "-".join(parts + [f"{role}{weight:g}" for role, weight in finer.items()])


# The field's names for points of the grid, as a shorthand in ``weights``.
PRESETS: dict[str, dict[str, float]] = {
    "instruction-tuning": {"prompt": 0, "response": 1},
    "continual-pretraining": {"prompt": 1, "response": 1},
    "instruction-modelling": {"prompt": 1, "response": 1, "template": 0},
}


def expand_weights(value: Any) -> Any:
    """Presets and grids written out as a list of pairs; anything else is left for validation.

    Raises:
        ValueError: Both weights are 0 in every pair of a grid.
    """
    if isinstance(value, dict) and all(isinstance(axis, list) for axis in value.values()):
        pairs = product(*value.values())
        points = [dict(zip(value, pair, strict=True)) for pair in pairs]
        learning = [p for p in points if not p.get("prompt") == p.get("response") == 0]
        if points and not learning:
            raise ValueError(
                "prompt and response are both 0 in every pair of this grid: nothing would be "
                "learned. Give one of the two a value above 0, such as response: [0, 1]"
            )
        return learning
    if isinstance(value, list):
        return [PRESETS.get(item, item) if isinstance(item, str) else item for item in value]
    return value
