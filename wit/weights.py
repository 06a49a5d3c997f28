"""Loss weights of roles: a point of the grid that a study searches."""

from itertools import product
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, model_validator

from wit.roles import Role
from wit.settings import Settings

# Beyond these a weight next to another one would drown in float32, or be drowned by it.
SMALLEST, LARGEST = 1e-6, 1e6


def _is_number(value: Any) -> Any:
    # YAML reads yes, no, on and off as booleans, which would pass for 1 and 0.
    if isinstance(value, bool):
        raise ValueError("a weight is a number such as 0.2, not yes or no")
    return value


def _is_of_use(weight: float) -> float:
    if weight and not SMALLEST <= weight <= LARGEST:
        raise ValueError(f"a weight is 0 or between {SMALLEST:g} and {LARGEST:g}")
    return weight + 0.0  # minus zero becomes zero, also in names


Weight = Annotated[NonNegativeFloat, BeforeValidator(_is_number), AfterValidator(_is_of_use)]


FINER = ("system", "template", "boilerplate", "stop")  # may have a weight of their own


class RoleWeights(Settings):
    """Loss weight of each role: lambda_p and lambda_r of the paper, and finer ones if wanted.

    Source: arXiv 2507.07817, Eq. 2. Differs: the paper knows two segments; here template,
    boilerplate and system text can have a weight of their own (unset: that of the prompt), and so
    can the stop token (unset: that of the response).
    """

    prompt: Weight
    response: Weight
    system: Weight | None = None
    template: Weight | None = None
    boilerplate: Weight | None = None
    stop: Weight | None = None

    @model_validator(mode="after")
    def _markup_is_not_all(self) -> Self:
        finer = {role: getattr(self, role) for role in FINER}
        if not self.learns and (alone := [role for role, weight in finer.items() if weight]):
            raise ValueError(
                f"prompt and response weights are both 0, so only {' and '.join(alone)} would be "
                "learned; give prompt or response a weight above 0"
            )
        return self

    @property
    def learns(self) -> bool:
        """Whether rows with these weights teach anything."""
        return self.prompt > 0 or self.response > 0

    def by_role(self) -> dict[Role, float]:
        """Weight of every role; ``special`` tokens are never targets."""

        def own_or(inherited: float, own: float | None) -> float:
            return inherited if own is None else own

        return {
            Role.SPECIAL: 0.0,
            Role.TEMPLATE: own_or(self.prompt, self.template),
            Role.BOILERPLATE: own_or(self.prompt, self.boilerplate),
            Role.SYSTEM: own_or(self.prompt, self.system),
            Role.PROMPT: self.prompt,
            Role.RESPONSE: self.response,
            Role.STOP: own_or(self.response, self.stop),
        }

    def __str__(self) -> str:
        own = [(role, getattr(self, role)) for role in FINER]
        parts = [f"p{self.prompt:g}", f"r{self.response:g}"]
        return "-".join(parts + [f"{role}{w:g}" for role, w in own if w is not None])


class TokenWeights(RoleWeights):
    """Weights of a cell: a table of roles, and another one for each source that needs its own."""

    sources: dict[str, RoleWeights] = Field(default_factory=dict)  # by name in the mixture

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        # A source that learns nothing is masked, and so are those without a table of their own.
        if not any(weights.learns for weights in (self, *self.sources.values())):
            raise ValueError("prompt and response weights are both 0: nothing would be learned")
        return self

    def of_source(self, name: str) -> RoleWeights:
        """What counts in the rows of a source: its own table, or the general one."""
        return self.sources.get(name, self)

    def table(self, source: str) -> dict[Role, float]:
        """Weight of every role in the rows of a source."""
        return self.of_source(source).by_role()

    @property
    def ray(self) -> tuple[float, ...]:
        """The weights up to a common factor: equal rays are one objective under unclipped AdamW."""
        return up_to_a_factor(self.flat)

    @property
    def flat(self) -> tuple[float, ...]:
        """All weights in one row: the general table, then those of sources by name."""
        tables = [self.by_role(), *(self.table(name) for name in sorted(self.sources))]
        return tuple(weight for table in tables for weight in table.values())

    def __str__(self) -> str:
        own = [f"{name}({weights})" for name, weights in sorted(self.sources.items())]
        return "-".join([super().__str__(), *own])


def up_to_a_factor(weights: tuple[float, ...]) -> tuple[float, ...]:
    """The weights divided by the largest; equal, but for rounding, for all on one ray."""
    largest = max(weights) or 1.0
    return tuple(float(f"{weight / largest:.9g}") for weight in weights)


# The field's names for pairs of weights, as a shorthand in ``weights``.
PRESETS: dict[str, dict[str, float]] = {
    "instruction-tuning": {"prompt": 0, "response": 1},
    "continual-pretraining": {"prompt": 1, "response": 1},
    "instruction-modelling": {"prompt": 1, "response": 1, "template": 0, "boilerplate": 0},
    "no-boilerplate": {"prompt": 1, "response": 1, "boilerplate": 0},
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
