"""The flow of a study with several ways of SFT: made, told apart, reused by a study of one."""

import json
from pathlib import Path

import pytest
from flow_runs import plan_of, run, runtime_words, statuses
from typer.testing import CliRunner

from wit.cli import app
from wit.lineage import table
from wit.lineage.reader import find_runs, tag
from wit.lineage.score_table import table_of_artifacts
from wit.outcome import StudyOutcome

ONE_CELL = "weights=[{prompt: 0, response: 1}]"
TWO = "tunings={full: {}, lora: {adapter: {rank: 2}}}"
CELLS = {"p0-r1-s0@full", "p0-r1-s0@lora"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def first(prefect: None, study_file: Path, root: Path) -> StudyOutcome:
    return run(study_file, root, ONE_CELL, TWO)


def test_every_way_of_sft_is_trained_aligned_and_shown(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    plan = plan_of(study_file, root, ONE_CELL, TWO)
    assert statuses(first) == {a.fingerprint: "made" for a, _ in plan.artifacts()}
    assert {stage.cell for stage in first.stages if stage.stage == "sft"} == CELLS
    full, lora = plan.cells
    assert not (full.sft.path / "adapter").exists()
    assert (lora.sft.path / "adapter" / "adapter_model.safetensors").is_file()
    assert "Ways of SFT" in Path(first.report or "").read_text()


def test_mlflow_tells_them_apart(first: StudyOutcome, root: Path, study_file: Path) -> None:
    plan = plan_of(study_file, root, ONE_CELL, TWO)
    scores = table("tiny", first.tracking_uri, version=first.version)
    models = scores[scores.stage != "base"].groupby(["cell", "stage"]).fingerprint.unique()
    assert {key: list(found) for key, found in models.items()} == {
        (str(one.cell), stage): [model.fingerprint]
        for one in plan.cells
        for stage, model in (("sft", one.sft), ("dpo", one.dpo))
    }
    assert dict(zip(scores.cell, scores.tuning, strict=True)).items() >= {
        ("p0-r1-s0@full", "full"),
        ("p0-r1-s0@lora", "lora"),
    }
    of_sft = find_runs(first.tracking_uri, tag("wit.stage", "sft"))
    assert {run.name for run in of_sft} == {"sft p0-r1-s0 full", "sft p0-r1-s0 lora"}
    drop = ["run_id", "run_url"]
    down = table_of_artifacts(plan.study, [a for a, _ in plan.artifacts()], [])
    assert down.drop(columns=drop).equals(scores.drop(columns=drop))


def test_compare_and_best_take_the_one_that_is_asked_for(first: StudyOutcome, root: Path) -> None:
    given = ["--json", *(word for key in runtime_words(root) for word in ("--set-runtime", key))]
    compared = CliRunner().invoke(app, ["compare", "tiny", *given])
    assert {cell["cell"] for cell in json.loads(compared.stdout)} == {"base", *CELLS}
    best = CliRunner().invoke(app, ["best", "tiny", "--tuning", "lora", *given])
    found = json.loads(best.stdout)
    scores = table("tiny", first.tracking_uri, version=first.version)
    [lora] = set(scores[(scores.stage == "dpo") & (scores.tuning == "lora")].fingerprint)
    assert (found["tuning"], found["model"]["fingerprint"]) == ("lora", lora)
    wrong = CliRunner().invoke(app, ["best", "tiny", "--tuning", "dora", *given])
    assert "no tuning 'dora'; it has full, lora" in str(wrong.exception)


def test_a_study_of_one_of_them_makes_nothing(
    first: StudyOutcome, root: Path, study_file: Path
) -> None:
    """A tuning is no more than what a study of it alone trains."""
    rate = plan_of(study_file, root, ONE_CELL, TWO).study.tunings["lora"].learning_rate
    own = ("sft.adapter={rank: 2}", f"sft.learning_rate={rate}")
    alone = run(study_file, root, ONE_CELL, *own, "name=alone")
    assert set(statuses(alone).values()) == {"reused"}
    assert {s.fingerprint for s in alone.stages} < {s.fingerprint for s in first.stages}
    scores = table("alone", alone.tracking_uri, version=alone.version)
    assert set(scores.cell) == {"base", "p0-r1-s0"}
    assert scores.tuning.isna().all()
