"""Models that a judge has judged, compared question by question."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit._card_scores import Scoreboard
from wit.analysis.paired import ItemScores, compare_paired
from wit.artifacts import Artifact, Source
from wit.errors import ArtifactError
from wit.evaluation.judged import JUDGEMENTS_FILE
from wit.evaluation.results import EvaluationResult, Score
from wit.evaluation_recipes import JudgeEvaluation, ResponsesEvaluation
from wit.item_scores import item_scores, question_scores
from wit.judging.judgements import Judgement
from wit.judging.pairwise import ORDERS, win_rate
from wit.judging.rating import mean_rating
from wit.judging.settings import JudgeModel
from wit.recipes import TokenizerRecipe
from wit.records import Kept

VERDICT = st.sampled_from(["win", "loss", "tie"])
WON, LOST, UNSURE, NO_VERDICT = ("win", "win"), ("loss", "loss"), ("win", "loss"), ("win", None)


def row(question: int, **said: Any) -> Judgement:
    return Judgement.model_validate(
        {
            "id": str(question),
            "category": None,
            "turn": 1,
            "order": None,
            "prompt_version": "1",
            "verdict": None,
            "rating": None,
            "text": "",
            "finish_reason": None,
            "served_model": None,
            "server": "http://127.0.0.1:1/v1",
            "num_prompt_tokens": 1,
            "num_completion_tokens": 1,
            "is_estimated": False,
            "is_cached": False,
            "is_response_empty": False,
            "num_response_chars": 3,
            "num_reference_chars": 3,
            **said,
        }
    )


def pairs(*verdicts: tuple[str | None, str | None]) -> list[Judgement]:
    return [
        row(question, order=order, verdict=verdict)
        for question, both in enumerate(verdicts)
        for order, verdict in zip(ORDERS, both, strict=True)
    ]


@given(st.lists(st.tuples(VERDICT, VERDICT), min_size=1, max_size=20))
def test_the_win_rate_is_the_mean_over_questions(verdicts) -> None:
    rows = pairs(*verdicts)
    scores = question_scores(rows)
    assert len(scores) == len(verdicts)
    assert win_rate(rows).value == pytest.approx(
        sum(s for s in scores if s is not None) / len(scores)
    )


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=20))
def test_the_rating_is_the_mean_over_questions_of_two_turns(ratings) -> None:
    rows = [
        row(question, turn=turn, rating=rating)
        for question, both in enumerate(ratings)
        for turn, rating in enumerate(both, start=1)
    ]
    scores = question_scores(rows)
    assert mean_rating(rows).mean.value == pytest.approx(sum(filter(None, scores)) / len(ratings))


def test_a_question_without_a_verdict_in_both_orders_is_unknown() -> None:
    assert question_scores(pairs(WON, NO_VERDICT, UNSURE, LOST)) == [1, None, 0.5, 0]


def test_a_question_without_a_rating_of_every_turn_is_unknown() -> None:
    ratings = [(8.0, None), (8.0, 4.0), (None, None), (None, 3.0)]
    rows = [
        row(n, turn=t, rating=r) for n, both in enumerate(ratings) for t, r in enumerate(both, 1)
    ]
    assert question_scores(rows) == [None, 6, None, None]
    alone = [row(0, rating=4.0), row(1), row(2, rating=5.0)]
    assert question_scores(alone) == [4, None, 5], "of one turn"


def judged(scores: list[float | None], **changes: Any) -> dict[str, ItemScores]:
    return {
        "opinion": ItemScores("win_rate by it", "x", tuple(scores), True, True)._replace(**changes)
    }


def test_only_questions_with_verdicts_on_both_models_count() -> None:
    one, other = judged([1, None, 0.5, 1, 1]), judged([0, 1, None, 0.5, 1])
    found = compare_paired(one, other)
    assert found.num_items == {"opinion": 3}
    assert found.difference == pytest.approx((1 + 0.5 + 0) / 3)
    nothing = compare_paired(judged([1, None]), judged([None, 0]))
    assert nothing.sentence == "They cannot be compared: no item of opinion has a score of both."
    # Of a benchmark None says that its metric has no items at all.
    alike = compare_paired(judged([1, None], may_lack=False), judged([1, 1], may_lack=False))
    assert "does not exist for single items" in alike.sentence


def model_in(
    root: Path, verdicts, *, name: str, judge: str = "it", prompts: str = "1", lacks: str = ""
) -> Kept:
    """A model, its responses and what the judge says of them, as artifacts."""
    base = Source(kind="tokenizer", fingerprint=name * 12, location="base")
    model = Artifact(root=root, recipe=TokenizerRecipe(), parents={"base": base})
    asked = Source(kind="rows", fingerprint=prompts * 12, location="prompts.jsonl")
    references = Source(kind="rows", fingerprint="2" * 12, location="references.jsonl")
    responses = Artifact(
        root=root,
        recipe=ResponsesEvaluation(name="opinion", max_new_tokens=8, num_prompts=None),
        parents={"model": model, "prompts": asked},
    )
    recipe = JudgeEvaluation(name="opinion", kind="pairs", judge=JudgeModel(model=judge))
    parents = {"model": model, "responses": responses, "references": references}
    judgement = Artifact(root=root, recipe=recipe, parents=parents)
    for artifact in (model, responses):
        if artifact.path.is_dir():
            continue
        with artifact.lock(), artifact.writing() as out:
            if artifact is responses:
                EvaluationResult(scores=()).save(out)
    rows = pairs(*verdicts)
    rate = win_rate(rows, max_unparsable_share=0.9)
    main = Score(
        benchmark="opinion",
        metric="win_rate",
        value=rate.value,
        stderr=rate.stderr,
        num_items=rate.num_pairs,
        higher_is_better=True,
        is_main=True,
    )
    with judgement.lock(), judgement.writing() as out:
        said = pa.Table.from_pylist([r.model_dump(exclude={lacks}) for r in rows])
        pq.write_table(said, out / JUDGEMENTS_FILE)
        EvaluationResult(scores=(main,)).save(out)
    return Kept.at(model.path)


def compared(one: Kept, other: Kept):
    found = [item_scores(model, ["opinion"])["opinion"] for model in (one, other)]
    ((_, mine),), ((_, theirs),) = found
    return compare_paired({"opinion": mine}, {"opinion": theirs})


def test_models_are_compared_on_what_the_judge_said_of_the_same_questions(tmp_path: Path) -> None:
    one = model_in(tmp_path, [WON, WON, UNSURE, NO_VERDICT], name="a")
    other = model_in(tmp_path, [LOST, WON, LOST, WON], name="b")
    found = compared(one, other)
    assert found.difference == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.num_items == {"opinion": 3}


def test_another_judge_or_other_questions_are_not_compared(tmp_path: Path) -> None:
    one = model_in(tmp_path, [WON, LOST], name="a")
    strict = model_in(tmp_path, [WON, LOST], name="b", judge="another")
    assert "the metric of one is win_rate by it, of the other win_rate by another" in (
        compared(one, strict).sentence
    )
    asked = model_in(tmp_path, [WON, LOST], name="c", prompts="3")
    assert "they were asked other items of opinion" in compared(one, asked).sentence


def test_what_a_judge_said_in_an_older_version_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(JudgeEvaluation, "stage", "evaluation@judge-1")
        model_in(tmp_path, [LOST, LOST], name="a", lacks="rating")
    one = model_in(tmp_path, [WON, LOST], name="a")
    assert len(list(tmp_path.rglob(JUDGEMENTS_FILE))) == 2
    [(value, scores)] = item_scores(one, ["opinion"])["opinion"]
    assert (value, scores.scores) == (0.5, (1, 0))


def test_on_a_card_a_judge_s_score_stands_among_the_benchmarks(tmp_path: Path) -> None:
    one = model_in(tmp_path, [WON, WON, UNSURE, NO_VERDICT], name="a")
    board = Scoreboard.of_model(one, None)
    [line] = board.rows({"opinion": "select"})
    assert line[:4] == ("opinion", "select", "win_rate by it", "3")
    assert line.cells[0].startswith("0.833 ± ")
    assert board.likelihoods() == {}
    assert list(board.limits({"opinion": "select"})) == []


def test_damaged_judgements_are_named(tmp_path: Path) -> None:
    one = model_in(tmp_path, [WON, LOST], name="a")
    [file] = tmp_path.rglob(JUDGEMENTS_FILE)
    file.write_bytes(b"x")
    with pytest.raises(ArtifactError, match="judgements"):
        item_scores(one, ["opinion"])
