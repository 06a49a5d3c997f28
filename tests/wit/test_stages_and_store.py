"""Stages, plans and the artifact store: nothing is made twice, and nothing that is made is lost."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from commands import wit
from object_store import SECRET, delete_bucket, make_bucket

from wit.artifacts import Artifact
from wit.config import Runtime
from wit.errors import ArtifactError
from wit.loading import load_study
from wit.machine import check_machine
from wit.plan import Plan, make_plan
from wit.sharing import bring, bring_inputs, is_stored, outline, upload
from wit.stages import make_artifact


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that machines share."""
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


def machine(name: str, shared: Path) -> Runtime:
    url = f"file://{shared}"
    return Runtime(artifact_root=shared.with_name(name), artifact_store=url, device="cpu")


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: x\nbase: {path: builtin}\ninstructions: {path: builtin, max_rows: 16}\n"
        "preferences: {path: builtin, max_rows: 8}\nweights: [instruction-tuning]\n"
        "benchmarks: [{name: wit_cloze, role: select}]\n"
    )
    return file


def plan_of(study_file: Path, runtime: Runtime) -> Plan:
    return make_plan(load_study(study_file), runtime)


def settings_of(runtime: Runtime) -> list[str]:
    settings = [
        f"artifact_root={runtime.artifact_root}",
        f"artifact_store={runtime.artifact_store}",
    ]
    return [word for setting in settings for word in ("--set-runtime", setting)]


def plan_in_json(study_file: Path, runtime: Runtime) -> dict:
    ended = wit("plan", study_file, *settings_of(runtime), "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def states(study_file: Path, runtime: Runtime) -> dict:
    stages = plan_in_json(study_file, runtime)["stages"]
    return {stage["stage"]: stage["state"] for stage in stages}


def fake(artifact: Artifact, runtime: Runtime, num_bytes: int = 0) -> None:
    """As if the stage had run."""
    with artifact.lock(), artifact.writing() as out:
        (out / "file").write_bytes(bytes(num_bytes))
    upload(artifact, runtime)


def test_what_one_machine_makes_another_reuses(study_file: Path, shared: Path) -> None:
    one, two = machine("one", shared), machine("two", shared)
    plan = plan_of(study_file, one)
    assert make_artifact(plan.tokenizer, one) == "made"
    assert make_artifact(plan.instructions, one) == "made"
    elsewhere = plan_of(study_file, two)
    assert elsewhere.stored == {plan.tokenizer.fingerprint, plan.instructions.fingerprint}
    planned = states(study_file, two)
    assert [planned[s] for s in ("tokenizer", "instructions", "sft")] == ["reuse", "reuse", "make"]
    assert not two.artifact_root.exists(), "a plan downloads nothing"
    assert make_artifact(elsewhere.instructions, two) == "reused"
    assert not elsewhere.instructions.exists(), "no stage has read it yet"
    bring(elsewhere.instructions, two)
    assert not elsewhere.tokenizer.exists(), "nobody needed it"
    assert elsewhere.instructions.verified().record() == plan.instructions.record()


def test_a_stage_brings_the_parents_that_it_reads(study_file: Path, shared: Path) -> None:
    one, two = machine("one", shared), machine("two", shared)
    made = plan_of(study_file, one)
    make_artifact(made.tokenizer, one)
    elsewhere = plan_of(study_file, two)
    assert make_artifact(elsewhere.instructions, two) == "made"
    assert elsewhere.tokenizer.verified().record() == made.tokenizer.record()


def test_of_a_model_that_is_read_nothing_older_is_brought(study_file: Path, shared: Path) -> None:
    """What a training reads of its rows is their tokenizer, too; of a model it is the model."""
    one, two = machine("one", shared), machine("two", shared)
    plan = plan_of(study_file, one)
    cell = plan.cells[0]
    for artifact in (plan.tokenizer, plan.instructions, plan.preferences, cell.sft):
        fake(artifact, one)
    there = plan_of(study_file, two)
    bring_inputs(there.cells[0].sft, two)
    assert [a.exists() for a in (there.instructions, there.tokenizer)] == [True, True]
    three = machine("three", shared)
    there = plan_of(study_file, three)
    bring_inputs(there.cells[0].dpo, three)
    assert there.cells[0].sft.exists()
    assert there.preferences.exists()
    assert not there.instructions.exists()


def test_a_plan_says_what_is_downloaded_and_nothing_else_is(study_file: Path, shared: Path) -> None:
    """Of a cell whose DPO is still to be made: its SFT model, rows, and what a report is of."""
    one = machine("one", shared)
    plan = plan_of(study_file, one)
    sizes = {a.fingerprint: 1000 + n for n, (a, _) in enumerate(plan.artifacts())}
    cell = plan.cells[0]
    for artifact, _ in plan.artifacts():
        if artifact not in (cell.dpo, *cell.dpo_evaluations):
            fake(artifact, one, sizes[artifact.fingerprint])
    two = machine("two", shared)
    there = plan_of(study_file, two)
    # The evaluation that is to be made reads the rows and the tokenizer, too.
    rows = [plan.tokenizer, plan.instructions, plan.preferences]
    wanted = {a.fingerprint for a in (*rows, cell.sft, *cell.sft_evaluations)}
    wanted |= {a.fingerprint for a in (*plan.base_evaluations, plan.overlap, *cell.references)}
    assert {a.fingerprint for a in there.downloads()} == wanted
    cost = plan_in_json(study_file, two)["cost"]
    assert cost["num_downloads"] == len(wanted)
    assert cost["download_bytes"] == sum(sizes[name] for name in wanted)
    said = wit("plan", study_file, *settings_of(two))
    assert f"to download from the artifact store: {len(wanted)} artifacts, 1" in said.stdout
    for artifact, _ in there.artifacts():
        if there.is_made(artifact):
            assert make_artifact(artifact, two) == "reused"
    for stage in (there.cells[0].dpo, *there.cells[0].dpo_evaluations):
        bring_inputs(stage, two)
    assert {a.fingerprint for a, _ in there.artifacts() if a.exists()} == wanted
    assert plan_of(study_file, two).downloads() == []


def test_of_what_is_all_made_only_results_are_downloaded(study_file: Path, shared: Path) -> None:
    one, two = machine("one", shared), machine("two", shared)
    for artifact, _ in plan_of(study_file, one).artifacts():
        fake(artifact, one)
    there = plan_of(study_file, two)
    assert {a.stage for a in there.downloads()} == {"evaluation", "overlap"}


def test_without_a_store_nothing_is_downloaded(study_file: Path, shared: Path) -> None:
    alone = Runtime(artifact_root=shared.with_name("one"), device="cpu")
    for artifact, _ in plan_of(study_file, alone).artifacts():
        fake(artifact, alone)
    assert plan_of(study_file, alone).downloads() == []
    elsewhere = Runtime(artifact_root=shared.with_name("two"), device="cpu")
    assert plan_of(study_file, elsewhere).downloads() == []


def test_an_outline_has_what_is_said_of_an_artifact_and_not_the_rest(
    study_file: Path, shared: Path
) -> None:
    one, two = machine("one", shared), machine("two", shared)
    sft = plan_of(study_file, one).cells[0].sft
    with sft.lock(), sft.writing() as out:
        (out / "model").mkdir()
        (out / "model" / "weights").write_bytes(bytes(10_000))
        (out / "card.json").write_text("{}")
    upload(sft, one)
    assert outline(sft, one) == sft
    there = plan_of(study_file, two).cells[0].sft
    for _ in range(2):
        aside = outline(there, two)
        names = {file.name for file in aside.path.rglob("*") if file.is_file()}
        assert names == {"record.json", "card.json"}
        assert aside.record() == sft.record()
        assert aside.fingerprint == there.fingerprint
        assert not there.exists()
    assert not outline(plan_of(study_file, two).cells[0].dpo, two).exists()


def test_what_is_made_while_the_store_is_away_stays_and_is_uploaded_when_it_is_used(
    study_file: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = machine("one", shared)
    plan = plan_of(study_file, one)
    make_artifact(plan.tokenizer, one)
    # Planned and begun while it was there; it goes while a stage is made.
    shared.rename(shared.with_name("away"))
    with pytest.raises(ArtifactError, match="is not there"):
        make_artifact(plan.preferences, one)  # another machine may have made it: nobody knows
    assert not plan.preferences.exists()
    offline = one.model_copy(update={"artifact_store": None})
    assert make_artifact(plan.preferences, offline) == "made"
    assert make_artifact(plan.preferences, one) == "reused"
    assert "is not uploaded yet" in caplog.text
    shared.with_name("away").rename(shared)
    assert not is_stored(plan.preferences, one)
    assert make_artifact(plan.preferences, one) == "reused"
    assert is_stored(plan.preferences, one)


def test_an_upload_that_fails_costs_nothing(
    study_file: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = machine("one", shared)
    tokenizer = plan_of(study_file, one).tokenizer
    in_the_way = shared / "tokenizer" / tokenizer.fingerprint
    in_the_way.parent.mkdir()
    in_the_way.touch()
    assert make_artifact(tokenizer, one) == "made"
    assert tokenizer.verified().exists()
    assert "is not uploaded yet: artifact store" in caplog.text
    in_the_way.unlink()
    assert make_artifact(tokenizer, one) == "reused"
    assert is_stored(tokenizer, one)


def test_a_bucket_that_was_deleted_meanwhile_costs_nothing(
    study_file: Path, tmp_path: Path, object_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"bucket-{uuid4().hex[:12]}"
    url = make_bucket(object_store, name)
    runtime = Runtime(artifact_root=tmp_path / "root", artifact_store=url, device="cpu")
    tokenizer = plan_of(study_file, runtime).tokenizer
    delete_bucket(object_store, name)
    assert make_artifact(tokenizer, runtime) == "made"
    assert "The specified bucket does not exist" in caplog.text
    make_bucket(object_store, name)
    assert make_artifact(tokenizer, runtime) == "reused"
    assert is_stored(tokenizer, runtime)


def test_a_store_that_cannot_be_written_is_refused_before_anything_is_made(
    study_file: Path, shared: Path
) -> None:
    one = machine("one", shared)
    plan = plan_of(study_file, one)
    check_machine(plan, one)
    (shared / ".writable").mkdir()  # as root writes everywhere, something stands in the way
    with pytest.raises(ArtifactError, match="cannot be used"):
        check_machine(plan, one)


def test_a_runtime_with_a_store_has_the_same_fingerprints(study_file: Path, shared: Path) -> None:
    with_store = plan_of(study_file, machine("one", shared))
    without = plan_of(study_file, Runtime(artifact_root=shared.with_name("one")))
    assert list(with_store.artifacts()) == list(without.artifacts())


def test_credentials_are_in_no_file_and_no_output(
    study_file: Path, tmp_path: Path, object_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url = f"{make_bucket(object_store, f'bucket-{uuid4().hex[:12]}')}/folder"
    runtime = Runtime(artifact_root=tmp_path / "root", artifact_store=url, device="cpu")
    plan = plan_of(study_file, runtime)
    make_artifact(plan.tokenizer, runtime)
    assert states(study_file, runtime)["tokenizer"] == "reuse"
    elsewhere = runtime.model_copy(update={"artifact_root": tmp_path / "elsewhere"})
    bring(plan_of(study_file, elsewhere).tokenizer, elsewhere)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("wit")]
    assert any("uploaded" in said for said in ours)
    assert any("downloaded" in said for said in ours)
    assert SECRET not in " ".join(ours)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "mlflow.db" for file in files)
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
