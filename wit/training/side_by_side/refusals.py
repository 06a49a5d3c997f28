"""Which cells cannot be trained at once."""

from collections.abc import Sequence

from wit.compatibility import why_alone
from wit.config import Runtime
from wit.errors import ConfigError
from wit.recipes import RungRecipe, SFTRecipe
from wit.training.callbacks import num_ranks

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
    if problem := why_alone(recipes[0]):
        knob, why = problem
        raise ConfigError(f"sft.{knob}: {why}{REMEDY}")
    if runtime.num_processes > 1 or runtime.sharding != "none" or num_ranks() > 1:
        raise ConfigError(
            "num_processes: cells that are trained at once are not spread over ranks; set "
            "num_processes to 1, or train cells one after another"
        )
