"""A judged set before any model has answered: its files are read, and matched with one another."""

from pathlib import Path

from wit.errors import DataError
from wit.evaluation_recipes import JudgedPrompts
from wit.generation.questions import read_questions
from wit.generation.rows import numbered_rows
from wit.judging.cost import longest_answers
from wit.judging.pairwise import pair_requests
from wit.judging.prompts import JudgeRequest
from wit.judging.questions import read_references
from wit.judging.rating import rating_requests


def requests_of(
    judged: JudgedPrompts, prompts: Path, *, max_response_tokens: int
) -> list[JudgeRequest]:
    """What the judge is asked of one model, if every response has that length.

    Args:
        judged: The set.
        prompts: Its file of prompts.
        max_response_tokens: Of each response.

    Raises:
        DataError: A file cannot be read, or a prompt has more turns than can be judged or lacks the
            reference that it needs; names file and line.
    """
    questions = read_questions(prompts)[: judged.num_prompts]
    references = {} if judged.references is None else read_references(Path(judged.references))
    requests_for = pair_requests if judged.kind == "pairs" else rating_requests
    places = (place for place, _ in numbered_rows(prompts))
    requests: list[JudgeRequest] = []
    for place, answer in zip(places, longest_answers(questions, max_response_tokens), strict=False):
        try:
            requests += requests_for([answer], references)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
    return requests
