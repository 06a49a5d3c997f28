"""The whole chain on a model and data that nobody of this project made."""

from pathlib import Path

import pytest
from samples import ROOT, needs_shared

from flows.study import run_study
from wit.analysis.scores import of_alignment
from wit.forms import StudyRequest
from wit.lineage import table
from wit.outcome import StudyOutcome

REAL = ROOT / "tests" / "studies" / "real.yaml"
# A minute on two cores instead of a quarter of an hour.
SMALLER = [
    "weights=[{prompt: 0, response: 1}, {prompt: 1, response: 1}]",
    "instructions.max_rows=96",
    "preferences.max_rows=32",
    "benchmarks.0.limit=8",
    "benchmarks.1.limit=8",
]


@needs_shared
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_study_ends_with_scores_for_every_model(prefect: None, tmp_path: Path) -> None:
    runtime = [f"artifact_root={tmp_path}", "device=cpu", "num_workers=2", "threads_per_worker=1"]
    request = StudyRequest(study_file=str(REAL), settings=SMALLER, runtime_settings=runtime)
    state = run_study(request, return_state=True)
    outcome = state.result(raise_on_failure=False)
    assert isinstance(outcome, StudyOutcome), state.message
    assert outcome.counts == {"made": len(outcome.stages)}
    scores = table("real", outcome.tracking_uri)
    assert [*scores.alignment.dropna().unique()] == ["dpo", "ipo", "simpo"]
    whole = scores[scores.stage == "dpo"].groupby("alignment").score.count()
    assert len(set(whole)) == 1, "all that is measured is measured after each"
    scores = of_alignment(scores).set_index(["cell", "stage", "benchmark"]).score
    cells = ["p0-r1-s0", "p1-r1-s0"]
    for cell in cells:
        for stage in ("sft", "dpo"):
            assert 0 <= scores[cell, stage, "wit_choice"] <= 1
        # It learned its task, and weights did what they are for.
        assert scores[cell, "sft", "nll_response"] < scores["base", "base", "nll_response"]
    # Alpaca's preamble, which is in every row: in three steps there is no more to be seen.
    of_prompt = [scores[cell, "sft", "nll_boilerplate"] for cell in cells]
    assert of_prompt == sorted(of_prompt, reverse=True), "more weight, better modelled"
