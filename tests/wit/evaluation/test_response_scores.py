"""What is counted of responses, by hand."""

import pytest

from wit.evaluation.responses import response_scores
from wit.evaluation.results import EvaluationResult
from wit.generation.answers import Answer, Answers
from wit.lineage.outcome import evaluation_metrics

ROWS = [
    Answer("a", None, ("Hi", "And?"), ("Ho", " \n"), (3, 1), (True, False)),
    Answer("b", None, ("Why?",), ("",), (1,), (True,)),
    Answer("c", None, ("Who?",), ("You",), (5,), (True,)),
]


def test_every_turn_counts_once() -> None:
    found = {score.benchmark: score for score in response_scores(Answers(ROWS, 1))}
    assert {name: score.value for name, score in found.items()} == {
        "empty_responses": 2 / 4,
        "unended_responses": 1 / 4,
        "response_tokens": 10 / 4,
        "cut_prompts": 1 / 4,
    }
    assert all(score.num_items == 4 and score.is_main for score in found.values())
    assert [n for n, score in found.items() if score.higher_is_better] == ["response_tokens"]
    assert found["cut_prompts"].stderr == pytest.approx((1 / 4 * 3 / 4 / 3) ** 0.5)


def test_of_what_is_judged_only_the_prompts_that_were_cut_are_counted() -> None:
    """The judge has the score; but to be asked in part is no fault of a response."""
    result = EvaluationResult(scores=response_scores(Answers(ROWS, 3), "opinion"))
    metrics = evaluation_metrics(result)
    assert set(metrics) == {"opinion/cut_prompts", "opinion/cut_prompts_stderr"}
    assert metrics["opinion/cut_prompts"] == 3 / 4
    with pytest.raises(KeyError):
        result.main_score("opinion")
