"""The prompts of prepared preference rows, as texts: read again where the rows came from."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from wit.data.kinds import PREFERENCES
from wit.data.preference_rows import read_preference
from wit.data.schema import Messages
from wit.data.sets import RowsOfSet, RowsOfSource
from wit.data.sources import Files
from wit.errors import DataError
from wit.recipes import PreferencesRecipe


def prompts_of_rows(
    recipe: PreferencesRecipe, files: Files, rows: Sequence[tuple[str, int]]
) -> list[Messages]:
    """The conversations that stand before the answers of some rows, in their order.

    All sources are read through; only the prompts of these rows are held. A row that has changed
    and still holds a preference is not noticed: it has another prompt now.

    Args:
        recipe: By which the rows were prepared.
        files: Local files of its sources, by name; one path for a single place.
        rows: The source and the number in it, from 1, as the columns ``source`` and ``row`` of
            prepared rows have them; in any order, also more than once.

    Raises:
        DataError: A source is unusable or changes meanwhile, or a row is not there or says nothing.
    """
    wanted: dict[str, set[int]] = defaultdict(set)
    for name, number in rows:
        wanted[name].add(number)
    read = partial(read_preference, min_margin=recipe.min_margin)
    data = RowsOfSet(PREFERENCES._replace(read=read), recipe, files, None)
    found: dict[tuple[str, int], Messages] = {}
    for name, numbers in wanted.items():
        if name not in data.sources:
            raise DataError(
                f"{data.where}: there is no source {name!r}, from which row {min(numbers)} was "
                f"prepared; allowed: {', '.join(map(repr, data.sources))}. Prepare the "
                "preferences again"
            )
        of_source = _prompts_of(data.sources[name], numbers)
        found |= {(name, number): prompt for number, prompt in of_source.items()}
    data.check_unchanged()
    return [found[row] for row in rows]


def _prompts_of(source: RowsOfSource, numbers: set[int]) -> dict[int, Messages]:
    found: dict[int, Messages] = {}
    for number, row in source.rows(every=1):
        if number not in numbers:
            continue
        item = source.item(number, row)
        if (fault := source.kind.fault(item)) is not None:
            raise _changed(source, number, f"says nothing any more: {source.faulty or fault}")
        found[number] = source.kind.prompt(item)
        if len(found) == len(numbers):
            return found
    missing = min(numbers - found.keys())
    raise _changed(source, missing, f"is not there any more: there are {source.num_rows} rows")


def _changed(source: RowsOfSource, number: int, said: str) -> DataError:
    return DataError(
        f"{source.where}: row {number} was prepared and {said}. The data has changed since: bring "
        "back what it was, or prepare the preferences again"
    )
