"""A model that leaves: what transformers loads without us is what we trained."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import wit
from datasets import Dataset
from forked import Forking
from kept_models import make_cell

from wit.adapter_recipes import AdapterKnobs
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ArtifactError, InputError, WitError
from wit.export import export, known_roles
from wit.models import load_model
from wit.plan import Plan
from wit.reasons import REASONS, keep_reasons
from wit.recipes import SFTRecipe
from wit.records import Kept
from wit.tokenizers import load_tokenizer
from wit.training import adapters
from wit.training.sft import MODEL, make_trainer, save_model, whole_model

WITHOUT_US = """
import json, sys
sys.modules["wit"] = None  # an import of it would fail
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
chat = [{"role": "user", "content": "Which of these is first: tent, radio?"}]
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        logits = model(**ids).logits
    answer = model.generate(**ids, max_new_tokens=3, do_sample=False)
    torch.save({"ids": ids["input_ids"], "logits": logits, "answer": answer}, folder + ".pt")
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("cell")
    return make_cell(folder / "artifacts", folder / "base")


@pytest.fixture
def root(plan: Plan) -> Path:
    return plan.tokenizer.root


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(root, tmp_path / "artifacts")


@pytest.fixture(scope="module")
def exported(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of both stages, each with what transformers makes of it: ``STAGE`` and ``STAGE.pt``.

    One process loads both, as most of its time goes by before it loads any.
    """
    out, cell = tmp_path_factory.mktemp("exported") / "deep", plan.cells[0]
    for stage, artifact in (("sft", cell.sft), ("dpo", cell.dpo)):
        done = export(artifact.fingerprint[:6], out / stage, plan.tokenizer.root)
        assert (done.stage, done.fingerprint) == (stage, artifact.fingerprint)
    elsewhere = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", WITHOUT_US, str(out / "sft"), str(out / "dpo")]
    subprocess.run(command, check=True, cwd=out.parent, env=elsewhere)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_transformers_alone_loads_the_very_model(plan: Plan, exported: Path, stage: str):
    artifact = getattr(plan.cells[0], stage)
    found = torch.load(exported / f"{stage}.pt")
    with torch.no_grad():
        ours = load_model(artifact.path / MODEL)(found["ids"]).logits
    assert torch.equal(found["logits"], ours)
    wanted = load_tokenizer(plan.tokenizer.path).apply_chat_template(
        [{"role": "user", "content": "Which of these is first: tent, radio?"}],
        add_generation_prompt=True,
    )
    assert found["ids"][0].tolist() == wanted["input_ids"]


def test_the_folder_is_the_artifacts_byte_for_byte_with_a_card(plan, root, tmp_path: Path):
    dpo = plan.cells[0].dpo
    export(dpo.fingerprint, tmp_path / "out", root)
    written = contents(tmp_path / "out")
    card = written.pop("README.md").decode()
    assert written == contents(dpo.path / MODEL)
    assert {"config.json", "generation_config.json", "tokenizer.json"} <= written.keys()
    assert "chat_template.jinja" in written
    assert dpo.fingerprint in card
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o044 == 0o044
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken_and_no_other(plan: Plan, root: Path, tmp_path: Path):
    fingerprint, out = plan.cells[0].sft.fingerprint, tmp_path / "out"
    out.mkdir()
    export(fingerprint, out, root)
    before = contents(out)
    with pytest.raises(InputError, match="is not empty"):
        export(fingerprint, out, root)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no folder"):
        export(fingerprint, tmp_path / "file", root)
    assert contents(out) == before


def test_merged_adapters_answer_as_unmerged_ones(plan: Plan, tmp_path: Path):
    cell = plan.cells[0]
    recipe = cell.sft.recipe.model_copy(update={"adapter": AdapterKnobs(rank=4)})
    assert isinstance(recipe, SFTRecipe)
    artifact = Artifact(root=tmp_path / "artifacts", recipe=recipe, parents=cell.sft.parents)
    rows: Dataset = read_split(plan.instructions.path, TRAIN)
    tokenizer = load_tokenizer(plan.tokenizer.path)
    base, runtime = artifact.parents["base"].path, Runtime(device="cpu")
    with artifact.lock(), artifact.writing() as out:
        trainer = make_trainer(recipe, base, rows, tokenizer, out, runtime)
        trainer.train()
        adapted: Any = trainer.model
        adapted.eval()
        ids = torch.arange(5, 25)[None]
        with torch.no_grad():
            unmerged = adapted(input_ids=ids).logits
        save_model(
            adapters.merged(whole_model(trainer, recipe, base)), plan.tokenizer.path, out / MODEL
        )
    done = export(artifact.fingerprint, tmp_path / "out", artifact.root)
    names = {file.name for file in done.folder.iterdir()}
    assert not any("adapter" in name for name in names), "nobody has to find the base"
    with torch.no_grad():
        merged = load_model(done.folder)(ids).logits
        before = load_model(base)(ids).logits
    assert torch.allclose(merged, unmerged, atol=1e-5)
    assert not torch.allclose(before, unmerged, atol=1e-2), "the adapters do something"
    assert "Adapters (lora) were trained" in (done.folder / "README.md").read_text()


def test_a_damaged_model_is_not_exported(plan: Plan, own_root: Path, tmp_path: Path):
    weights = own_root / "dpo" / plan.cells[0].dpo.fingerprint / MODEL / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model/model\.safetensors was changed"):
        export(plan.cells[0].dpo.fingerprint, tmp_path / "out", own_root)
    assert not (tmp_path / "out").exists()


def test_another_artifact_that_is_damaged_is_left_out(plan: Plan, own_root: Path, tmp_path: Path):
    for evaluation in plan.base_evaluations:
        (own_root / "evaluation" / evaluation.fingerprint / "record.json").write_text("{")
    done = export(plan.cells[0].dpo.fingerprint, tmp_path / "out", own_root)
    card = (done.folder / "README.md").read_text()
    assert "| this model | SFT before it |" in card
    assert "| base |" not in card


@pytest.mark.parametrize("identifier", ["", "abc", "../../etc", "not a hex", "f" * 13])
def test_what_is_no_fingerprint_is_refused(root: Path, tmp_path: Path, identifier: str):
    with pytest.raises(InputError, match="is no fingerprint") as caught:
        export(identifier, tmp_path / "out", root)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_fingerprint_names_near_ones(plan: Plan, root: Path, tmp_path: Path):
    known = plan.cells[0].dpo.fingerprint
    mistyped = known[:-1] + ("0" if known[-1] != "0" else "1")
    with pytest.raises(InputError, match=rf"Known ones: .*{known} \(dpo\)"):
        export(mistyped, tmp_path / "out", root)
    with pytest.raises(InputError, match="no artifact in"):
        export("0" * 12, tmp_path / "out", root)


def test_the_beginning_of_several_names_them(plan: Plan, tmp_path: Path, root: Path):
    known = plan.cells[0].dpo.fingerprint
    twin = known[:8] + ("0000" if known[8:] != "0000" else "1111")
    (tmp_path / "artifacts" / "sft" / twin).mkdir(parents=True)
    (tmp_path / "artifacts" / "dpo").symlink_to(root / "dpo")
    with pytest.raises(InputError, match=rf"2 artifacts: {known} \(dpo\), {twin} \(sft\)"):
        export(known[:8], tmp_path / "out", tmp_path / "artifacts")


def test_the_base_is_said_to_be_no_artifact(plan: Plan, root: Path, tmp_path: Path):
    base = plan.cells[0].sft.parents["base"]
    with pytest.raises(InputError, match=f"{base.fingerprint} is no artifact but what others"):
        export(base.fingerprint[:6], tmp_path / "out", root)


def test_the_card_says_why_a_study_chose_the_model(plan: Plan, own_root: Path, tmp_path: Path):
    chosen = Kept.at(own_root / "dpo" / plan.cells[0].dpo.fingerprint)
    assert not export(chosen.fingerprint, tmp_path / "before", chosen.root).has_reasons
    keep_reasons(chosen, "cell", ["It is best."])
    assert export(chosen.fingerprint, tmp_path / "out", chosen.root).has_reasons
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Why this model\n\n* It is best." in card
    sft = plan.cells[0].sft.fingerprint
    assert not export(sft, tmp_path / "sft", chosen.root).has_reasons
    (chosen.root / "studies" / "cell" / REASONS).write_text("damaged")
    assert not export(chosen.fingerprint, tmp_path / "after", chosen.root).has_reasons


def test_what_is_no_model_is_refused_and_its_model_named(plan: Plan, root: Path, tmp_path: Path):
    cell = plan.cells[0]
    with pytest.raises(InputError, match=rf"no model but evaluation.*{cell.dpo.fingerprint} "):
        export(cell.dpo_evaluations[0].fingerprint, tmp_path / "out", root)
    with pytest.raises(InputError, match="no model but instructions"):
        export(plan.instructions.fingerprint, tmp_path / "out", root)


def test_an_artifact_is_not_written_into(plan: Plan, root: Path):
    dpo = plan.cells[0].dpo
    with pytest.raises(InputError, match="is inside the artifact"):
        export(dpo.fingerprint, dpo.path / MODEL / "copy", root)
    assert dpo.verified()


def export_in_little_room(how: str, fingerprint: str, root: Path, out: Path, said: Path) -> None:
    """A limit on the size of files stops it in the midst of the weights."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    if how == "kill":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel kills whoever writes more
    try:
        export(fingerprint, out, root)
    except WitError as error:
        said.write_text(str(error))
        sys.exit(error.exit_code)


@pytest.mark.parametrize("how", ["kill", "full"])
def test_half_way_nothing_is_there(plan, root, tmp_path: Path, how: str, forking: Forking):
    out, said, fingerprint = tmp_path / "a/out", tmp_path / "said", plan.cells[0].dpo.fingerprint
    out.parent.mkdir()
    arguments = how, fingerprint, root, out, said
    process = forking.Process(target=export_in_little_room, args=arguments)
    process.start()
    process.join(120)
    assert not out.exists()
    left = [path.name for path in out.parent.iterdir()]
    if how == "kill":
        assert process.exitcode == -signal.SIGXFSZ
        assert left
        assert all(name.endswith(".partial") for name in left)
    else:
        assert process.exitcode == 2
        assert said.read_text().startswith(f"{out}: cannot be written: File too large")
        assert left == []
    export(fingerprint, out, root)


def test_a_place_that_cannot_be_written_is_said(plan: Plan, root: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        export(plan.cells[0].dpo.fingerprint, tmp_path / "file" / "out", root)


def test_roles_come_from_the_studies_that_the_model_belongs_to(plan: Plan, own_root: Path):
    model = Kept.at(own_root / "dpo" / plan.cells[0].dpo.fingerprint)
    assert known_roles(model) == {"wit_choice": "select", "wit_cloze": "report"}
    study = own_root / "studies" / "cell" / "study.yaml"
    judged = {"name": "opinion", "kind": "ratings", "role": "report", "path": "questions.jsonl"}
    with_judge = {"judge": {"model": "a judge"}, "judged": [judged]}
    study.write_text(study.read_text() + yaml.safe_dump(with_judge))
    assert known_roles(model)["opinion"] == "report"
    other = study.read_text().replace("learning_rate: 0.001", "learning_rate: 0.002")
    study.write_text(other)
    assert known_roles(model) == {}
    study.write_text("what: is this")
    assert known_roles(model) == {}


def test_a_record_of_an_older_wit_is_read(plan: Plan, own_root: Path):
    """Which knew LoRA alone; of models without, fingerprints are the same."""
    for stage, artifact in (("sft", plan.cells[0].sft), ("dpo", plan.cells[0].dpo)):
        file = own_root / stage / artifact.fingerprint / "record.json"
        record = json.loads(file.read_text())
        assert record["recipe"].pop("adapter") is None
        record["recipe"]["lora"] = None
        file.write_text(json.dumps(record))
    model = Kept.at(own_root / "dpo" / plan.cells[0].dpo.fingerprint)
    assert known_roles(model) == {"wit_choice": "select", "wit_cloze": "report"}


def test_the_command_says_what_it_wrote(plan: Plan, root: Path, tmp_path: Path):
    dpo = plan.cells[0].dpo
    where = ["--set-runtime", f"artifact_root={root}"]
    command = ["export", dpo.fingerprint[:5], tmp_path / "out", "--merge", "--json", *where]
    done = wit(*command)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["fingerprint"] == dpo.fingerprint
    assert said["folder"] == str(tmp_path / "out")
    again = wit(*command)
    assert again.returncode == 2
    assert again.stdout == ""
    assert "is not empty" in again.stderr
    assert "Traceback" not in again.stderr
