"""Whether preferences are pairs or single responses, as their columns say; imports little."""

from collections.abc import Mapping
from itertools import islice

from wit.data.schema import PREFERENCE_SHAPES, Shape
from wit.data.sources import ROWS_AT_ONCE, Files, paths_by_source, read_rows, survey
from wit.errors import DataError
from wit.recipes import PreferencesRecipe


def will_be_unpaired(recipe: PreferencesRecipe, files: Files) -> bool | None:
    """Whether preferences will be single responses, as their columns say before anything is made.

    Args:
        recipe: Of the stage.
        files: Local files of its sources, by name; one path for a single place.

    Returns:
        None if all sources are on the hub, so that their columns are not known here. The first rows
        alone are looked at; ``wit.data.prepare.is_unpaired`` says for certain, afterwards.

    Raises:
        DataError: A source is unusable, or some hold pairs and others do not.
    """
    paths = paths_by_source(files)
    shapes: dict[str, Shape] = {}
    for name, source in recipe.by_source().items():
        if path := paths.get(name):
            first = survey(islice(read_rows(source, path), ROWS_AT_ONCE))
            shapes[name] = Shape(first.columns, PREFERENCE_SHAPES, source.columns, str(path))
    check_kinds(shapes)
    return next((shape.is_unpaired for shape in shapes.values()), None)


def check_kinds(shapes: Mapping[str, Shape]) -> None:
    """Whether all sources hold pairs, or none does.

    Args:
        shapes: Of the rows, by the name of their source.

    Raises:
        DataError: Some do and others do not.
    """
    unpaired = [name for name, shape in shapes.items() if shape.is_unpaired]
    pairs = [name for name in shapes if name not in unpaired]
    if unpaired and pairs:
        raise DataError(
            f"sources: {', '.join(unpaired)} hold single responses with a label, "
            f"{', '.join(pairs)} hold pairs; a training uses one of both: leave the others out"
        )
