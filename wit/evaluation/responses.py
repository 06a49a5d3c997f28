"""Responses to prompts: kept, and how long, empty and unended they are, and what was cut."""

from collections.abc import Sequence
from pathlib import Path

from wit.evaluation.results import Score, share_score
from wit.generation.answers import Answer, Answers, write_responses
from wit.score_names import CUT_PROMPTS, EMPTY_RESPONSES, RESPONSE_TOKENS, UNENDED_RESPONSES
from wit.sensitivity.posix import mean_over_prompts

RESPONSES_FILE = "responses.jsonl"


def response_scores(answers: Answers, judged: str = "") -> tuple[Score, ...]:
    """Shares of responses that are empty, or that the limit cut; and their mean length.

    Beside them the share of prompts that lost their beginning, which the model was not asked whole.

    Args:
        answers: To all prompts.
        judged: Name of the set whose responses they are. The judge has the score of these, so
            only the prompts that were cut are counted.
    """
    texts = [text for row in answers.rows for text in row.responses]
    cut = _share(CUT_PROMPTS, answers.num_cut_prompts, len(texts))
    if judged:
        part = {"benchmark": judged, "metric": CUT_PROMPTS, "is_main": False}
        return (cut.model_copy(update=part),)
    stopped = [is_ended for row in answers.rows for is_ended in row.stopped]
    num_tokens = [float(num) for row in answers.rows for num in row.num_tokens]
    empty = sum(not text.strip() for text in texts)
    unended = sum(not is_ended for is_ended in stopped)
    length = mean_over_prompts(num_tokens)
    of_length = Score(
        benchmark=RESPONSE_TOKENS,
        metric="tokens",
        value=length.value,
        stderr=length.stderr,
        num_items=len(texts),
        higher_is_better=True,
        is_main=True,
    )
    return (
        _share(EMPTY_RESPONSES, empty, len(texts)),
        _share(UNENDED_RESPONSES, unended, len(texts)),
        of_length,
        cut,
    )


def _share(name: str, num: int, num_all: int) -> Score:
    share = share_score(name, "share", num / num_all, num_all)
    return share.model_copy(update={"higher_is_better": False})


def save_responses(folder: Path, answers: Sequence[Answer]) -> None:
    """Writes them into ``folder``, a question on each line."""
    write_responses(folder / RESPONSES_FILE, answers)
