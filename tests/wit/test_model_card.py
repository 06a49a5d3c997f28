"""The card: everything from records, nothing that is not known, valid for Hugging Face."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from kept_models import make_cell

from wit.alignment_recipes import DPORecipe
from wit.artifacts import RECORD, Artifact, Source
from wit.data.overlap import OVERLAP
from wit.evaluation.results import EvaluationResult
from wit.model_card import model_card, shortened
from wit.plan import Plan
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe
from wit.records import Kept
from wit.weights import TokenWeights

ROLES = {"wit_choice": "select", "wit_cloze": "report"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """With instruction tuning beside it."""
    folder = tmp_path_factory.mktemp("cell")
    make_cell(folder / "artifacts", folder / "base", prompt=0)
    return make_cell(folder / "artifacts", folder / "base")


def card_of(artifact: Artifact) -> str:
    return model_card(Kept.at(artifact.path), ROLES, ["It was chosen."])


def table_row(card: str, first: str) -> list[str]:
    [line] = [line for line in card.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_hugging_face_reads_it_and_nothing_is_made_up(plan: Plan):
    card = ModelCard(card_of(plan.cells[0].dpo))
    data = card.data.to_dict()
    assert data["library_name"] == "transformers"
    assert "dpo" in data["tags"]
    assert not {"license", "language", "base_model", "datasets"} & data.keys()
    assert card.text.strip().startswith("# dpo p0.5-r1-s0")


def test_the_scores_are_those_of_all_four_models_on_the_same_items(plan: Plan):
    cell, card = plan.cells[0], card_of(plan.cells[0].dpo)
    usual = make_cell(plan.tokenizer.root, Path(plan.base.location), prompt=0)
    evaluations = [
        cell.dpo_evaluations,
        cell.sft_evaluations,
        usual.cells[0].dpo_evaluations,
        plan.base_evaluations,
    ]
    for number, (benchmark, role) in enumerate(ROLES.items()):
        of_all = [EvaluationResult.load(of_model[number].path) for of_model in evaluations]
        mains = [result.main_score(benchmark) for result in of_all]
        row = table_row(card, benchmark)
        assert row[1:4] == [role, mains[0].metric, f"first {mains[0].num_items}"]
        assert [float(text.split()[0]) for text in row[4:]] == [
            pytest.approx(main.value, abs=5e-4) for main in mains
        ]
        for text, main in zip(row[4:], mains, strict=True):
            # Items that are all alike say little of others: Wilson's interval reaches so far.
            reach = 1.96**2 / (main.num_items + 1.96**2)
            width = 1.96 * main.stderr if main.stderr else reach
            assert float(text.split("± ")[1]) == pytest.approx(width, abs=1e-3)
    header = next(line for line in card.splitlines() if line.startswith("| benchmark |"))
    assert "| this model | SFT before it | instruction tuning (0, 1), same seed | base |" in header


def test_weights_recipe_data_lineage_and_versions_are_those_of_the_records(plan: Plan):
    cell, card = plan.cells[0], card_of(plan.cells[0].dpo)
    assert table_row(card, "prompt") == ["prompt", "0.5"]
    assert table_row(card, "learning_rate") == ["learning_rate", "0.01", "0.001"]
    assert table_row(card, "beta") == ["beta", "", "0.1"]
    rows = json.loads((plan.instructions.path / "card.json").read_text())
    assert f"{rows['rows_in']:,} rows read, {rows['rows']['train']:,} trained on" in card
    for dropped, count in rows["dropped"].items():
        assert f"{count:,} {dropped}" in card
    lineage = card.split("## Lineage")[1]
    for artifact in (cell.dpo, cell.sft, *plan.data):
        assert f"`{artifact.fingerprint}`" in lineage
        for parent in artifact.parents.values():
            assert f"`{parent.fingerprint}`" in lineage
    for name, version in cell.dpo.record()["made"]["versions"].items():
        assert f"{name} {version}" in card
    assert "* It was chosen." in card
    likelihood, forgetting = (EvaluationResult.load(e.path) for e in cell.dpo_evaluations[-2:])
    for score in likelihood.scores[:-1]:
        role = score.benchmark.removeprefix("nll_")
        shown = table_row(card, f"{role}, {score.num_items} tokens")
        assert float(shown[1].split()[0]) == pytest.approx(score.value, abs=5e-4)
    assert [score.benchmark for score in forgetting.scores] == ["kl_prompt", "kl_response"]


def test_limits_say_what_was_not_measured(plan: Plan):
    card = card_of(plan.cells[0].dpo).split("## Limits")[1]
    assert "One training, with seed 0" in card
    assert "wit_choice: only its first 8 items were asked" in card
    assert "items that were looked for share 13 words in a row with the training text" in card
    unknown = model_card(Kept.at(plan.cells[0].dpo.path)).split("## Limits")[1]
    assert "Whether wit_choice, wit_cloze had a say" in unknown


def test_an_overlap_that_an_older_version_wrote_is_not_read(plan: Plan):
    expected = card_of(plan.cells[0].dpo)
    older = plan.overlap.path.with_name("0" * 12)
    shutil.copytree(plan.overlap.path, older)
    record = json.loads((older / RECORD).read_text())
    (older / RECORD).write_text(json.dumps(record | {"stage": "overlap@1"}))
    (older / OVERLAP).write_text('{"benchmarks": {}}')
    try:
        assert card_of(plan.cells[0].dpo) == expected
    finally:
        shutil.rmtree(older)


def test_no_path_of_this_machine_stands_in_it(plan: Plan):
    card = card_of(plan.cells[0].dpo)
    assert str(plan.tokenizer.root) not in card
    assert str(Path(plan.base.location).parent) not in card


def test_an_sft_model_has_a_card_without_dpo(plan: Plan):
    card = card_of(plan.cells[0].sft)
    assert card.count("SFT before it") == 0
    assert "aligned" not in card
    assert "### Preferences" not in card
    assert "| this model | instruction tuning (0, 1), same seed | base |" in card


def test_instruction_tuning_has_no_column_beside_itself(plan: Plan):
    usual = make_cell(plan.tokenizer.root, Path(plan.base.location), prompt=0)
    assert "same seed" not in card_of(usual.cells[0].dpo)


def test_what_is_gone_is_said(plan: Plan, tmp_path: Path):
    dpo = plan.cells[0].dpo
    copy = tmp_path / "dpo" / dpo.fingerprint
    shutil.copytree(dpo.path, copy)
    card = model_card(Kept.at(copy))
    assert "Not measured." in card
    assert "It was not evaluated." in card
    assert "Its artifact is not kept any more." in card
    assert "## Loss weights" not in card


def test_names_on_the_hub_are_given_with_their_commits(tmp_path: Path):
    commit = "0123456789" * 4

    def on_hub(kind: str, location: str) -> Source:
        return Source.model_validate(
            {"kind": kind, "fingerprint": "f" * 12, "location": location, "revision": commit}
        )

    where = {"repo": "org/rows", "revision": commit}
    tokenizer = Artifact(
        root=tmp_path,
        recipe=TokenizerRecipe(),
        parents={"base": on_hub("tokenizer", "org/base")},
    )
    rows = {"tokenizer": tokenizer, "rows": on_hub("rows", "org/rows")}
    instructions = Artifact(root=tmp_path, recipe=InstructionsRecipe(**where), parents=rows)
    preferences = Artifact(root=tmp_path, recipe=PreferencesRecipe(**where), parents=rows)
    weights = TokenWeights.model_validate(
        {"prompt": 0, "response": 1, "sources": {"chat": {"prompt": 0.2, "response": 1}}}
    )
    sft = Artifact(
        root=tmp_path,
        recipe=SFTRecipe(weights=weights, seed=3),
        parents={"base": on_hub("model", "org/base"), "instructions": instructions},
    )
    dpo = Artifact(
        root=tmp_path,
        recipe=DPORecipe(seed=3),
        parents={"policy": sft, "preferences": preferences},
    )
    for artifact in (tokenizer, instructions, preferences, sft, dpo):
        with artifact.writing():
            pass
    text = model_card(Kept.at(dpo.path))
    data = ModelCard(text).data.to_dict()
    assert data["base_model"] == "org/base"
    assert data["datasets"] == ["org/rows"]
    assert "org/base at 01234567" in text
    assert table_row(text, "role") == ["role", "weight", "in chat"]
    assert table_row(text, "prompt") == ["prompt", "0", "0.2"]


def test_a_long_card_is_cut_between_sections(plan: Plan):
    card = card_of(plan.cells[0].dpo)
    whole = shortened(card, 100_000, "there")
    assert whole.startswith("# dpo")
    assert whole in card
    for limit in (3000, 1500, 50):
        short = shortened(card, limit, "there")
        assert len(short) <= limit
        if limit > 1000:
            assert short.endswith("The rest of this card: there")
            body = short.removesuffix("\n\nThe rest of this card: there")
            assert whole.startswith(body)
            assert whole[len(body) :].lstrip().startswith("## ")
