"""What the run on top of a study shows at a glance; the times that runs bear."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from tiny_study import STUDY, fail, make, make_without_lineage, plan, runs, scores_of

from wit import lineage
from wit.analysis.scores import with_objectives
from wit.analysis.selection import recommend
from wit.artifacts import Artifact
from wit.lineage.headline import count_cells, figures_of
from wit.lineage.outcome import points
from wit.lineage.spool import kept_artifacts, kept_studies
from wit.lineage.store import open_store

YESTERDAY = time.time() - 86_400


def figures(uri: str) -> tuple[dict[str, float], dict[str, str]]:
    [run] = open_store(uri).search("tags.`wit.stage` = 'study'")
    return run.data.metrics, run.data.tags


def test_a_finished_study_says_its_scores_and_what_they_recommend(finished):
    artifacts, uri = finished
    found, tags = figures(uri)
    for stage in ("sft", "dpo"):
        measured = [e for e in artifacts.evaluations if of(e, stage)]
        scores = [scores_of(evaluation).main_score("unseen").value for evaluation in measured]
        usual, _ = scores
        assert found[f"best_{stage}_score"] == pytest.approx(max(scores))
        assert found[f"best_{stage}_gain"] == pytest.approx(max(scores) - usual)
        width = found[f"best_{stage}_score_high"] - max(scores)
        assert found[f"best_{stage}_score_low"] == pytest.approx(max(scores) - width)
        assert width > 0
    recommendation = recommend(lineage.table("tiny", uri))
    assert tags["wit.recommendation"] == recommendation.sentence
    assert tags["mlflow.note.content"].startswith(recommendation.sentence[:20])
    names = ("cells_planned", "cells_finished", "cells_failed")
    assert [found[name] for name in names] == [2, 2, 0]


def test_the_interval_of_a_gain_is_that_of_the_recommendation(finished):
    scores = with_objectives(lineage.table("tiny", finished[1]), STUDY)
    found = figures_of(scores)
    assert found["best_dpo_gain"] == 0, "of this study, instruction tuning is best after DPO"
    assert "best_dpo_gain_low" not in found
    # Before it, it is not; and a recommendation is one of the scores after it.
    swapped = scores.assign(stage=scores["stage"].replace({"sft": "dpo", "dpo": "sft"}))
    gain, width = recommend(swapped).difference, recommend(swapped).difference_half_width
    assert gain
    assert width
    assert found["best_sft_gain_low"] == pytest.approx(gain - width)
    assert found["best_sft_gain_high"] == pytest.approx(gain + width)


@pytest.mark.parametrize(
    ("broken", "finished_and_failed"),
    [("base", (2, 0)), ("sft", (2, 0)), ("dpo", (1, 1))],
)
def test_cells_are_counted_by_what_came_of_them(finished, broken, finished_and_failed):
    scores = lineage.table("tiny", finished[1])
    cell = "base" if broken == "base" else "p0.2-r1-s0"
    scores.loc[(scores["stage"] == broken) & (scores["cell"] == cell), "status"] = "failed"
    found = count_cells(scores)
    assert found["cells_planned"] == 2
    assert (found["cells_finished"], found["cells_failed"]) == finished_and_failed


def test_an_analysis_that_fails_leaves_the_study_ended(uri, tmp_path, monkeypatch, caplog):
    def broken(*_) -> None:
        raise ValueError("no such thing")

    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    for artifact in artifacts.all:
        make(artifact, uri, run)
    with monkeypatch.context() as patch:
        patch.setattr("wit.lineage.sending.result_of", broken)
        lineage.end_study(run, uri, is_failed=False)
    assert "no such thing" in caplog.text
    [ended] = open_store(uri).search("tags.`wit.stage` = 'study'")
    assert ended.info.status == "FINISHED"
    assert not kept_studies(tmp_path)
    lineage.end_study(lineage.start_study(STUDY, artifacts.all, uri), uri, is_failed=False)
    assert "wit.recommendation" in figures(uri)[1], "run again, it says it"


def of(evaluation: Artifact, stage: str) -> bool:
    return getattr(evaluation.parents["model"], "stage", "base") == stage


def test_a_study_of_which_a_cell_failed_counts_it(uri, tmp_path):
    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    assert "wit.recommendation" not in figures(uri)[1]
    for artifact in [*artifacts.data, artifacts.sft[0], artifacts.dpo[0]]:
        make(artifact, uri, run)
    fail(artifacts.sft[1], uri, "out of memory", run)
    lineage.end_study(run, uri, is_failed=True)
    found, tags = figures(uri)
    assert found["cells_failed"] == 1
    assert found["cells_finished"] == 0  # not evaluated
    assert "best_dpo_score" not in found
    assert "Nothing can be recommended yet" in tags["mlflow.note.content"]


def test_what_is_sent_late_bears_the_times_of_its_making(uri, tmp_path, monkeypatch):
    down = "http://127.0.0.1:9"
    artifacts = plan(tmp_path)
    with monkeypatch.context() as past:
        for module in ("wit.artifacts", "wit.lineage.tracking"):
            past.setattr(f"{module}.time", clock_of_yesterday())
        run = lineage.start_study(STUDY, artifacts.all, down)
        make_without_lineage([*artifacts.data, artifacts.sft[0]])
        fail(artifacts.sft[1], down, "out of memory", run)
        lineage.end_study(run, down, is_failed=True)
    assert kept_artifacts(tmp_path)
    assert kept_studies(tmp_path)
    before = time.time()
    lineage.sync(uri, tmp_path)
    found = runs(uri)
    for artifact in (artifacts.data[1], artifacts.sft[0], artifacts.sft[1]):
        info = found[artifact.fingerprint].info
        assert info.start_time / 1000 == pytest.approx(YESTERDAY, abs=2)
        assert info.end_time / 1000 == pytest.approx(YESTERDAY, abs=2)
        assert info.start_time <= info.end_time
    points = open_store(uri).client.get_metric_history(
        found[artifacts.sft[0].fingerprint].info.run_id, "loss"
    )
    assert {point.timestamp for point in points} == {
        found[artifacts.sft[0].fingerprint].info.end_time
    }
    [study] = open_store(uri).search("tags.`wit.stage` = 'study'")
    started = datetime.fromisoformat(study.data.tags["wit.started"]).astimezone(UTC).timestamp()
    assert study.info.start_time == round(1000 * started)
    assert study.info.end_time < 1000 * before


def clock_of_yesterday() -> SimpleNamespace:
    return SimpleNamespace(
        time=lambda: YESTERDAY,
        gmtime=lambda: time.gmtime(YESTERDAY),
        strftime=time.strftime,
        monotonic=time.monotonic,
    )


def test_loss_and_rewards_stand_before_logits_in_the_charts():
    figures = dict.fromkeys(("logits/chosen", "logps/rejected", "loss", "rewards/margins"), 1.0)
    names = [name for name, *_ in points(figures, 1, 0.0)]
    groups = [name.rpartition("/")[0] or "Model metrics" for name in names]
    assert sorted(groups, key=str.lower)[:2] == ["Model metrics", "rewards"]
    assert [name.rpartition("/")[2] for name in names] == ["chosen", "rejected", "loss", "margins"]
