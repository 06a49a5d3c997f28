"""Which cells cannot be trained at once."""

from collections.abc import Sequence

from wit.adapter_recipes import AdapterKnobs
from wit.config import Runtime
from wit.errors import ConfigError
from wit.recipes import RungRecipe, SFTRecipe
from wit.training.callbacks import num_ranks

METHODS = ("lora", "mora")
OWN = {"weights", "seed"}  # knobs in which cells may differ
REMEDY = "; train these cells one after another"


def refuse_side_by_side(recipes: Sequence[SFTRecipe], runtime: Runtime) -> None:
    """Refuses cells that differ in more than weights and seed, or have no layers to put together.

    Raises:
        ConfigError: Names the first thing that does not go.
    """
    if not recipes:
        raise ConfigError("there is no cell to train")
    if any(isinstance(recipe, RungRecipe) for recipe in recipes):
        raise ConfigError("a search may stop a cell at a rung while others go on" + REMEDY)
    first, *others = (recipe.model_dump(exclude=OWN) for recipe in recipes)
    for knobs in others:
        for knob, value in knobs.items():
            if value != first[knob]:
                raise ConfigError(
                    f"sft.{knob}: is {first[knob]} in one cell and {value} in another; cells that "
                    "are trained at once differ in weights and seed only"
                )
    if problem := problem_with(recipes[0].adapter):
        raise ConfigError(f"sft.adapter: {problem}{REMEDY}")
    if recipes[0].precision == "float16":
        raise ConfigError(
            "sft.precision: float16 leaves out a step of all cells where one of them overflows; "
            "set bfloat16, or train cells one after another"
        )
    if runtime.num_processes > 1 or runtime.sharding != "none" or num_ranks() > 1:
        raise ConfigError(
            "num_processes: cells that are trained at once are not spread over ranks; set "
            "num_processes to 1, or train cells one after another"
        )


def problem_with(adapter: AdapterKnobs | None) -> str | None:
    """Why adapters cannot be trained at once on one base; None: they can."""
    if adapter is None:
        return "none trains all weights, so that every cell has a base of its own"
    if adapter.method not in METHODS:
        return f"{adapter.method} is not computed for several cells; {' and '.join(METHODS)} are"
    if adapter.dora:
        return "dora takes lengths of the sum of base and adapter, which each cell has its own of"
    if adapter.trains_tokens:
        return "tokens = template trains rows of the LM head, which is one for all cells; set none"
    if adapter.takes_from_weights:
        return f"init = {adapter.init} changes the base, differently with every seed"
    return None
