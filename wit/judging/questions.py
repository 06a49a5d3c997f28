"""Files of reference answers and of a model's answers; ``wit.generation`` reads the questions.

References come in two published shapes, told apart by their columns: MT-Bench's (``question_id``,
``choices``) and AlpacaEval's (``instruction``, ``output``). What the second answers, and its name,
are read as those of a question are, so one file may be both.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator

from wit.errors import DataError
from wit.generation.questions import question_of
from wit.generation.rows import numbered_rows
from wit.settings import Settings

SHAPES = (
    "MT-Bench's {question_id, choices: [{turns: [text, ...]}]}",
    "AlpacaEval's {instruction, output}",
)
MAX_TURNS = 2  # that the published judge prompts are for
Text = Annotated[str, Field(min_length=1)]
T = TypeVar("T", bound="Reference | Answer")
M = TypeVar("M", bound=BaseModel)


class Reference(Settings):
    """What another model, or a person, answered."""

    id: str
    prompts: tuple[str, ...] | None  # what was asked, if the file says so
    responses: Annotated[tuple[str, ...], Field(min_length=1)]


class Answer(Settings):
    """What the model that is judged answered; a response may be empty."""

    id: str
    category: str | None = None
    prompts: Annotated[tuple[Text, ...], Field(min_length=1)]
    responses: tuple[str, ...]  # one for each prompt
    num_tokens: tuple[NonNegativeInt, ...]  # of each response
    stopped: tuple[bool, ...]  # each ended by itself, and was not cut off

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        columns = (self.responses, self.num_tokens, self.stopped)
        if any(len(column) != len(self.prompts) for column in columns):
            raise ValueError(
                f"{len(self.prompts)} prompts need as many responses, num_tokens and stopped"
            )
        return self

    @property
    def empty_turns(self) -> tuple[bool, ...]:
        """Of every turn, whether its response is nothing but blanks."""
        return tuple(not response.strip() for response in self.responses)


class _Choice(BaseModel):
    turns: Annotated[tuple[str, ...], Field(min_length=1)]


class _MTBenchReference(BaseModel):
    question_id: int | str
    choices: Annotated[list[_Choice], Field(min_length=1)]


class _AlpacaEvalReference(BaseModel):
    instruction: Text
    output: str


def read_references(path: Path) -> dict[str, Reference]:
    """Reference answers by the names of their questions.

    Raises:
        DataError: It cannot be read, a row is of neither shape, or two have one name; says where.
    """
    return {reference.id: reference for reference in _unique(_references(path))}


def read_answers(path: Path) -> list[Answer]:
    """A model's answers, as the stage that generates them wrote them.

    Raises:
        DataError: As ``read_references``.
    """
    found = ((place, _checked(Answer, row, place)) for place, row in numbered_rows(path))
    return _unique(found)


def _references(path: Path) -> Iterator[tuple[str, Reference]]:
    for number, (place, row) in enumerate(numbered_rows(path), start=1):
        if "choices" in row:
            found = _checked(_MTBenchReference, row, place)
            turns = found.choices[0].turns
            reference = Reference(id=str(found.question_id), prompts=None, responses=turns)
        elif "instruction" in row:
            response = _checked(_AlpacaEvalReference, row, place).output
            asked = question_of(row, number, place)
            reference = Reference(id=asked.id, prompts=asked.prompts, responses=(response,))
        else:
            columns = ", ".join(map(str, row)) or "none"
            raise DataError(
                f"{place}: a row with the columns {columns} is of no shape that is known: "
                f"{' or '.join(SHAPES)}; rename its columns"
            )
        yield place, reference


def _unique(rows: Iterator[tuple[str, T]]) -> list[T]:
    found: dict[str, T] = {}
    for place, row in rows:
        if row.id in found:
            raise DataError(f"{place}: a second row named {row.id!r}; every question has one name")
        found[row.id] = row
    return list(found.values())


def _checked(kind: type[M], row: Mapping[str, Any], place: str) -> M:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        columns = ", ".join(kind.model_fields)
        raise DataError(
            f"{place}: {f'{key!r}: ' if key else ''}{wrong['msg']}; a row has the columns {columns}"
        ) from None
