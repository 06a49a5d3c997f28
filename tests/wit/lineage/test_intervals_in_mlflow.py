"""Every share that MLflow shows has the standard error of a mean of zeros and ones."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.evaluation.results import BenchmarkRun, EvaluationResult
from wit.lineage.outcome import evaluation_metrics

RUN = BenchmarkRun(
    version="1",
    items_hash="0" * 12,
    num_items=50,
    num_fewshot=0,
    is_chat=True,
    empty_response_share=None,
    num_cut_prompts=0,
)


def metrics(share: float | None) -> dict[str, float]:
    run = RUN.model_copy(update={"empty_response_share": share})
    return evaluation_metrics(EvaluationResult(scores=(), runs={"quiz": run}))


@given(st.integers(0, 50))
def test_the_share_of_empty_responses_has_a_standard_error(num_empty: int) -> None:
    found = metrics(num_empty / 50)
    values = pd.Series([1.0] * num_empty + [0.0] * (50 - num_empty))
    assert found["quiz/empty_responses"] == pytest.approx(values.mean())
    assert found["quiz/empty_responses_stderr"] == pytest.approx(values.sem(), abs=1e-12)


def test_where_nothing_is_generated_there_is_no_share() -> None:
    assert metrics(None) == {}
