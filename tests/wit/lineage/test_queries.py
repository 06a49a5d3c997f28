"""Every score of a study as a table; the family of an artifact; helpful refusals."""

import logging
import re
import shutil
import sqlite3
from contextlib import closing, suppress

import pytest
from tiny_study import BASE, STUDY, fail, make_without_lineage, plan, runs, scores_of

from wit import lineage
from wit.config import TokenWeights
from wit.errors import InputError
from wit.lineage.cells import cell_columns
from wit.lineage.store import open_store


def test_the_table_has_every_score_with_its_role_and_error(finished):
    artifacts, uri = finished
    table = lineage.table("tiny", uri)
    assert len(table) == 5 * 4  # base, 2 SFT, 2 DPO; 2 benchmarks, nll, preferences
    wanted = artifacts.dpo[1]
    [row] = table[
        (table.fingerprint == wanted.fingerprint) & (table.benchmark == "unseen")
    ].to_dict("records")
    score = scores_of(artifacts.evaluations[-1]).scores[0]
    assert (row["study"], row["cell"], row["stage"], row["role"], row["status"]) == (
        "tiny",
        "p0.2-r1-s0",
        "dpo",
        "select",
        "finished",
    )
    assert (row["prompt_weight"], row["response_weight"], row["seed"]) == (0.2, 1.0, 0)
    assert (row["score"], row["stderr"], row["num_items"]) == (score.value, score.stderr, 50)
    assert row["run_id"] == runs(uri)[wanted.fingerprint].info.run_id
    assert set(table[table.role == "diagnostic"].benchmark) == {"nll_prompt", "preference_accuracy"}
    assert set(table[~table.higher_is_better].benchmark) == {"cloze", "nll_prompt"}
    assert set(table[table.stage == "base"].cell) == {"base"}
    counts = table[table.stage == "base"].set_index("benchmark").num_items
    assert counts.dropna().to_dict() == {
        "unseen": 50,
        "cloze": 10,
        "nll_prompt": 9,
        "preference_accuracy": 40,
    }


def test_cells_without_scores_stand_in_the_table_with_the_reason(uri, tmp_path):
    artifacts = plan(tmp_path)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    fail(artifacts.sft[1], uri, "loss is not finite", run)
    table = lineage.table("tiny", uri).set_index(["cell", "stage"])
    assert table.status.to_dict() == {
        ("base", "base"): "missing",
        ("p0-r1-s0", "sft"): "missing",
        ("p0-r1-s0", "dpo"): "missing",
        ("p0.2-r1-s0", "sft"): "failed",
        ("p0.2-r1-s0", "dpo"): "blocked",
    }
    assert table.error["p0.2-r1-s0", "sft"] == "loss is not finite"


def test_the_table_shows_the_version_of_the_study_that_was_started_last(uri, tmp_path):
    larger, smaller = plan(tmp_path), STUDY.model_copy(update={"weights": STUDY.weights[:1]})
    run = lineage.start_study(STUDY, larger.all, uri)
    make_without_lineage(larger.all)
    lineage.link(larger.all, run, uri)
    assert set(lineage.table("tiny", uri).weights) == {"base", "p0-r1", "p0.2-r1"}
    fewer = plan(tmp_path, smaller)
    lineage.link(fewer.all, lineage.start_study(smaller, fewer.all, uri), uri)
    assert set(lineage.table("tiny", uri).weights) == {"base", "p0-r1"}


def test_studies_of_one_name_are_not_mixed_and_each_can_be_chosen(uri, tmp_path):
    """Somebody else's base, folder and grid, in a store that both share."""
    ours = plan(tmp_path / "ours")
    study = STUDY.model_copy(update={"weights": STUDY.weights[1:]})
    other_base = BASE.model_copy(update={"fingerprint": "0ddba5e0ddba"})
    theirs = plan(tmp_path / "theirs", study, other_base)
    for of_study, artifacts in ((STUDY, ours), (study, theirs)):
        run = lineage.start_study(of_study, artifacts.all, uri)
        make_without_lineage(artifacts.all)
        lineage.link(artifacts.all, run, uri)
        lineage.end_study(run, uri, is_failed=False)
    newest, oldest = lineage.study_versions("tiny", uri)
    assert (newest.artifact_root, newest.num_cells) == (str(tmp_path / "theirs"), 1)
    assert (oldest.artifact_root, oldest.num_cells) == (str(tmp_path / "ours"), 2)
    table = lineage.table("tiny", uri)
    assert table.attrs == {"version": newest.version, "num_versions": 2}
    models = {a.fingerprint for a in [*theirs.sft, *theirs.dpo]}
    assert set(table.fingerprint) == {*models, other_base.fingerprint}
    chosen = lineage.table("tiny", uri, version=oldest.version)
    models = {a.fingerprint for a in [*ours.sft, *ours.dpo]}
    assert set(chosen.fingerprint) == {*models, BASE.fingerprint}
    with pytest.raises(InputError, match=f"it has {newest.version}, {oldest.version}"):
        lineage.table("tiny", uri, version="none")


def test_the_documented_query_needs_no_address(finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished[1])
    assert lineage.table("tiny").equals(lineage.table("tiny", finished[1]))
    assert lineage.lineage(BASE.fingerprint).children


def test_a_cell_of_a_study_with_a_thousand_is_in_its_table(uri, tmp_path):
    weights = [TokenWeights(prompt=i / 1000, response=1, template=0.5) for i in range(1000)]
    study = STUDY.model_copy(update={"weights": tuple(weights)})
    lineage.start_study(study, plan(tmp_path).data, uri)
    table = lineage.table("tiny", uri)
    assert len(table) == 1 + 2 * 1000
    assert {str(cell) for cell in study.cells} == set(table.cell) - {"base"}


def test_sensitivity_is_a_diagnostic_of_which_less_is_better(uri, tmp_path):
    artifacts = plan(tmp_path)
    make_without_lineage(artifacts.all)
    lineage.link(artifacts.all, lineage.start_study(STUDY, artifacts.all, uri), uri)
    run = runs(uri)[artifacts.evaluations[-1].fingerprint]
    open_store(uri).write(run.info.run_id, metrics=[("sensitivity", 0.25, 0, 1.0)])
    [row] = lineage.table("tiny", uri).query("benchmark == 'sensitivity'").to_dict("records")
    assert (row["role"], row["score"], row["higher_is_better"]) == ("diagnostic", 0.25, False)


def test_an_unknown_study_is_answered_with_near_ones(finished):
    with pytest.raises(InputError, match="Did you mean tiny"):
        lineage.table("tinny", finished[1])
    with pytest.raises(InputError, match="is not in MLflow"):
        lineage.table("'; drop table runs", finished[1])


def test_lineage_names_all_that_a_model_was_made_of_and_all_that_came_of_it(finished):
    artifacts, uri = finished
    node = lineage.lineage(artifacts.sft[1].fingerprint, uri)
    assert node.name == "sft p0.2-r1-s0"
    base = node.parents["base"]
    assert (base.fingerprint, base.kind, base.location) == (
        BASE.fingerprint,
        "model",
        BASE.location,
    )
    tokenizer = node.parents["instructions"].parents["tokenizer"]
    assert tokenizer.fingerprint == artifacts.data[0].fingerprint
    assert tokenizer.parents["base"].fingerprint == BASE.fingerprint
    assert [child.name for child in node.children] == [
        "dpo p0.2-r1-s0",
        "unseen sft p0.2-r1-s0",
    ]
    [evaluation] = node.children[0].children
    assert evaluation.fingerprint == artifacts.evaluations[-1].fingerprint
    assert evaluation.scores["unseen"] == scores_of(artifacts.evaluations[-1]).scores[0].value
    assert node.studies == ("tiny",)
    assert node.model_sha256


def test_lineage_is_found_by_run_id_and_by_the_beginning_of_a_fingerprint(finished):
    artifacts, uri = finished
    wanted = artifacts.dpo[0].fingerprint
    run_id = runs(uri)[wanted].info.run_id
    assert lineage.lineage(run_id, uri) == lineage.lineage(wanted[:9], uri)


def test_lineage_of_a_source_is_all_that_came_of_it(finished):
    artifacts, uri = finished
    node = lineage.lineage(BASE.fingerprint, uri)
    assert (node.status, node.location) == ("source", BASE.location)

    def names(node: lineage.Node) -> set[str]:
        return {child.fingerprint for child in node.children}.union(*map(names, node.children))

    assert names(node) == {artifact.fingerprint for artifact in artifacts.all}


@pytest.mark.parametrize("length", [4, 9])
def test_a_source_is_found_by_the_beginning_of_its_fingerprint(finished, length):
    artifacts, uri = finished
    rows = artifacts.sft[0].parents["instructions"].parents["rows"]
    for source in (BASE, rows):
        whole = lineage.lineage(source.fingerprint, uri)
        assert lineage.lineage(source.fingerprint[:length], uri) == whole
        assert whole.fingerprint == source.fingerprint


def test_an_unknown_or_ambiguous_name_is_answered_with_the_possible_ones(finished):
    artifacts, uri = finished
    known = artifacts.dpo[0].fingerprint
    mistyped = known[:11] + ("0" if known[11] != "0" else "1")
    with pytest.raises(InputError, match=known):
        lineage.lineage(mistyped, uri)
    with pytest.raises(InputError, match="neither a fingerprint"):
        lineage.lineage("my model", uri)


def test_the_beginning_of_two_fingerprints_is_refused(uri):
    store = open_store(uri)
    for fingerprint in ("abcdef000000", "abcdef111111"):
        store.create("x", {"wit.fingerprint": fingerprint, "wit.ancestors": "", "wit.path": ""})
    with pytest.raises(InputError, match="beginning of 2 artifacts"):
        lineage.lineage("abcdef", uri)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": 0, "response": 1},
        {"prompt": 1e-05, "response": 1e06},
        {"prompt": 1e-05, "response": 1e-05, "template": 0.5},
        {"prompt": 0.2, "response": 1, "sources": {"Math-2": {"prompt": 0, "response": 3}}},
        {"prompt": 0.2, "response": 1e-05, "sources": {"2024-s7": {"prompt": 0, "response": 3}}},
    ],
)
def test_columns_of_a_cell_are_read_from_its_name(more):
    weights = TokenWeights.model_validate(more)
    assert cell_columns(f"{weights}-s3") == {
        "cell": f"{weights}-s3",
        "weights": str(weights),
        "prompt_weight": more["prompt"],
        "response_weight": more["response"],
        "seed": 3,
        "tuning": None,
    }


def test_a_table_is_read_while_runs_end(finished, tmp_path, monkeypatch, caplog):
    _, old = finished
    file = tmp_path / "mlflow.db"
    shutil.copy(old.removeprefix("sqlite:///"), file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE runs SET status = 'RUNNING' WHERE name LIKE 'unseen %'")
        database.commit()
    asked = []

    class RunsEnd(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not re.search(r"r\.status !?= :", record.getMessage()):
                return
            asked.append(record.getMessage())
            if len(asked) != 2:
                return  # the moment between the lists of what is unfinished and what is finished
            # SQLite has who writes wait for who reads.
            database = sqlite3.connect(file, timeout=0)
            with closing(database), suppress(sqlite3.OperationalError):
                database.execute("UPDATE runs SET status = 'FINISHED'")
                database.commit()

    caplog.set_level(logging.DEBUG, "wit.lineage.reader")
    monkeypatch.setattr(logging.getLogger("wit.lineage.reader"), "handlers", [RunsEnd()])
    table = lineage.table("tiny", f"sqlite:///{file}")
    assert len(asked) == 2
    assert len(table[["cell", "stage"]].drop_duplicates()) == 5
    assert set(table.status) <= {"running", "finished"}
