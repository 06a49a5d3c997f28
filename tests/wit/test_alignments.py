"""Several alignments of one study: what they share, what each is, and what is refused."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import assume, given
from planned_study import inputs_in, plan_of, study_in
from pydantic import ValidationError
from rich.console import Console
from samples import write_jsonl

from wit.alignment_grid import alignment_id
from wit.alignment_recipes import DPOKnobs, DPORecipe
from wit.compatibility import check_together
from wit.config import Runtime, Study
from wit.display import plan_as_json, show_plan
from wit.errors import ConfigError
from wit.estimate import Estimate, sharing
from wit.forms import StudyRequest
from wit.loading import load_study
from wit.machine import check_pairs
from wit.plan import Plan

SHARED = {"learning_rate": 4e-5, "num_epochs": 1, "max_grad_norm": 0.5}
NAMED: dict[str, Any] = {
    "dpo": {},
    "gentle": {"beta": 0.02},
    "ipo": {"objective": "ipo"},
    "simpo": {"objective": "simpo"},
}
SIZE = {"num_rows": 1, "tokens_per_row": 1, "is_estimated": False}
FREE = Estimate(
    sft_tokens=0,
    dpo_tokens=0,
    optimizer_steps=0,
    seconds=None,
    disk_bytes=None,
    peak_memory_bytes=None,
    instructions=SIZE,  # pyright: ignore[reportArgumentType]
    preferences=SIZE,  # pyright: ignore[reportArgumentType]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inputs_in(tmp_path_factory.mktemp("inputs"))


def values(folder: Path, **alignments: Any) -> dict[str, Any]:
    pairs = [{"prompt": 0, "response": 1}, {"prompt": 0.2, "response": 1}]
    more = {"weights": pairs, "seeds": [0, 1], "dpo": SHARED, "alignments": alignments}
    return study_in(folder) | more


def made(plan: Plan) -> dict[str, str]:
    """Stage by fingerprint, of all that a plan makes; nothing is made twice."""
    artifacts = [artifact for artifact, _ in plan.artifacts()]
    found = {artifact.fingerprint: artifact.stage for artifact in artifacts}
    assert len(found) == len(artifacts)
    return found


def test_an_alignment_has_what_dpo_says_then_its_own_then_its_objectives(folder: Path) -> None:
    found = Study.model_validate(values(folder, **NAMED)).aligned_by
    assert [*found] == ["dpo", "gentle", "ipo", "simpo"]
    assert [knobs.learning_rate for knobs in found.values()] == [4e-5, 4e-5, 4e-5, 6e-7]
    assert {knobs.max_grad_norm for knobs in found.values()} == {0.5}
    assert [knobs.beta for knobs in found.values()] == [0.1, 0.02, 0.1, 2.0]
    assert [knobs.gamma_beta_ratio for knobs in found.values()] == [None, None, None, 0.5]
    assert found["simpo"].examples_per_step == 128


def test_what_belongs_to_an_objective_is_for_alignments_of_the_same_one(folder: Path) -> None:
    """A beta of 0.3 says as much of SimPO as one of 0.001 of DPO."""
    of_dpo = {"beta": 0.3, "loss_weights": {"dpo": 1, "sft": 0.2}, "weight_decay": 0.1}
    own = {"same": {"num_epochs": 5}, "other": {"objective": "sppo-hard"}, "simpo": NAMED["simpo"]}
    found = Study.model_validate(values(folder, **own) | {"dpo": of_dpo}).aligned_by
    assert {knobs.weight_decay for knobs in found.values()} == {0.1}
    assert [knobs.beta for knobs in found.values()] == [0.3, 0.001, 2.0]
    assert found["same"].loss_weights == {"dpo": 1.0, "sft": 0.2}
    assert found["other"].loss_weights == {"sppo-hard": 1.0}
    of_simpo = {"objective": "simpo", "beta": 2.5, "gamma_beta_ratio": 0.3, "schedule": "constant"}
    own = {"same": {"num_epochs": 5}, "dpo": {"objective": "dpo"}}
    found = Study.model_validate(values(folder, **own) | {"dpo": of_simpo}).aligned_by
    assert found["dpo"] == DPOKnobs()
    assert found["same"] == DPOKnobs.model_validate(of_simpo | own["same"])


@pytest.mark.parametrize(
    ("dpo", "own"),
    [
        ({"objective": "robust-dpo", "label_smoothing": 0.2}, {"objective": "dpo"}),
        ({"loss_weights": {"dpo": 1, "simpo": 1}, "gamma_beta_ratio": 0.3}, {"loss_weights": None}),
        ({"objective": "kto", "desirable_weight": 2}, {"objective": "simpo"}),
    ],
)
def test_no_alignment_is_given_a_knob_that_it_has_not(
    folder: Path, dpo: dict[str, Any], own: dict[str, Any]
) -> None:
    found = Study.model_validate(values(folder, same={}, other=own) | {"dpo": dpo}).aligned_by
    assert found["same"] == DPOKnobs.model_validate(dpo)
    assert found["other"] == DPOKnobs.model_validate(own)


def test_without_alignments_dpo_is_the_only_one(folder: Path) -> None:
    plan = plan_of(values(folder))
    assert plan.study.aligned_by == {"dpo": plan.study.dpo}
    assert made(plan_of(values(folder, only={}))) == made(plan)
    assert plan.alignment_of == {}
    assert {*plan.labels.values()} == {str(cell.cell) for cell in plan.cells}


def test_an_alignment_more_makes_its_models_and_their_evaluations_alone(folder: Path) -> None:
    before = made(plan_of(values(folder, dpo={}, gentle={"beta": 0.02})))
    plan = plan_of(values(folder, dpo={}, gentle={"beta": 0.02}, ipo={"objective": "ipo"}))
    after = made(plan)
    third = [cell.aligned[2] for cell in plan.cells]
    added = [artifact for one in third for artifact in (one.model, *one.evaluations)]
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {artifact.fingerprint for artifact in added}


def test_another_beta_remakes_that_alignment_alone(folder: Path) -> None:
    before = plan_of(values(folder, **NAMED))
    after = plan_of(values(folder, **NAMED | {"gentle": {"beta": 0.03}}))
    for old, new in zip(before.cells, after.cells, strict=True):
        same = [a.model == b.model for a, b in zip(old.aligned, new.aligned, strict=True)]
        assert same == [True, False, True, True]
        assert old.sft == new.sft
        assert old.references == new.references


def test_names_decide_nothing(folder: Path) -> None:
    one = plan_of(values(folder, a={}, b={"objective": "ipo"}))
    other = plan_of(values(folder, c={"objective": "ipo"}, d={}))
    assert made(one) == made(other)
    assert one.cells[0].dpo == other.cells[0].aligned[1].model


def test_a_reference_is_scored_once_for_all_that_read_it(folder: Path) -> None:
    more = {"half": {"precision": "bfloat16"}, "kto": {"objective": "kto"}}
    cell = plan_of(values(folder, **NAMED, **more)).cells[0]
    by_name = {one.alignment: one.references for one in cell.aligned}
    assert len(by_name["kto"]) == 2
    assert len(cell.references) == 3  # own, in half precision, and KTO's mismatched one
    for one, other in itertools.pairwise(("dpo", "gentle", "ipo")):
        assert by_name[one][0] == by_name[other][0] == by_name["kto"][0]
    assert by_name["simpo"] == ()
    assert by_name["half"][0] not in by_name["dpo"]
    assert {id(one.model.parents["policy"]) for one in cell.aligned} == {id(cell.sft)}


def test_a_plan_says_what_is_shared(folder: Path) -> None:
    plan = plan_of(values(folder, **NAMED))
    assert str(sharing(plan)) == (
        "4 alignments share 4 SFT models and 4 references: 12 trainings and 8 references fewer"
    )
    shown = io.StringIO()
    show_plan(Console(file=shown, width=200), plan, FREE)
    assert f"\n{sharing(plan)}.\n" in shown.getvalue()
    assert "\nalignment dpo: DPO, beta 0.1 (arXiv 2305.18290, Eq. 7)\n" in shown.getvalue()
    assert "\nalignment gentle: DPO, beta 0.02 (arXiv" in shown.getvalue()
    assert "\nalignment simpo: SimPO, beta 2 (arXiv 2405.14734, Eq. 6)\n" in shown.getvalue()
    printed = plan_as_json(plan, FREE)
    assert printed["sharing"]["num_trainings_saved"] == 12
    assert printed["alignments"]["gentle"] == {"objective": "dpo", "beta": 0.02}
    of_stage = [s["alignment"] for s in printed["stages"] if s["stage"] == "dpo"]
    assert of_stage == 4 * [*NAMED]
    assert {s["alignment"] for s in printed["stages"] if s["stage"] in ("sft", "reference")} == {
        None
    }
    alone = sharing(plan_of(values(folder)))
    assert (alone.num_trainings_saved, alone.num_references_saved) == (0, 0)


# What an alignment may say, or ``dpo`` for all; null is no more than to leave it out.
SAID = st.fixed_dictionaries(
    {},
    optional={
        "objective": st.sampled_from(["dpo", "dpo-norm", "cdpo", "ipo", "simpo", "orpo"]),
        "beta": st.sampled_from([None, 0.3]),
        "learning_rate": st.sampled_from([None, 3e-6]),
        "num_epochs": st.sampled_from([None, 3]),
        "weight_decay": st.sampled_from([None, 0.1]),
        "adapter": st.sampled_from([None, "continue", {}, {"rank": 4, "modules": ["q_proj"]}]),
        "on_policy": st.sampled_from([None, {}, {"extract": "a", "num_responses": 4}]),
    },
)


def handed_on(study: Study) -> Iterator[Any]:
    """The study as it is stored, sent, handed out and kept."""
    yield study.stated()
    yield yaml.safe_load(yaml.safe_dump(study.stated(), sort_keys=False))
    yield study.model_dump()
    for nulls_are_said in (True, False):
        yield json.loads(study.model_dump_json(exclude_none=not nulls_are_said))
    yield {name: getattr(study, name) for name in Study.model_fields}


@given(dpo=SAID, own=st.dictionaries(st.sampled_from(["a", "b", "c"]), SAID, max_size=3))
def test_a_study_is_the_same_whichever_way_it_comes(
    folder: Path, dpo: dict[str, Any], own: dict[str, Any]
) -> None:
    """Whatever ``dpo`` sets and one of the alignments leaves unset."""
    said = values(folder, **own) | {"sft": {"adapter": {}}, "dpo": dpo}
    try:
        study = Study.model_validate(said)
    except ValidationError as error:
        assume("have the same knobs" not in str(error))
        raise
    typed = DPOKnobs.model_validate(dpo)
    stored = Study.model_validate(said | {"alignments": {}}).stated()
    others = [said | {"dpo": typed}, stored | {"alignments": own}, *handed_on(study)]
    for other in others:
        read = Study.model_validate(other)
        assert read == study
        assert [*read.aligned_by] == [*study.aligned_by]


@pytest.mark.parametrize(
    ("alignments", "says"),
    [
        ({"a": {}, "b": {"beta": 0.1}}, "'a' and 'b' have the same knobs"),
        ({"sft": {}}, "'sft' is what another model is called"),
        ({"a": {"bta": 0.1}}, "alignments.a.bta"),
        ({"a": {"beta": 0}}, "alignments.a.beta"),
        ({"a": 3}, "alignments.a"),
        ({"a b": {}}, "alignments.a b"),
        ({"a": {"adapter": "continue"}}, "'alignments.a.adapter: continue' goes on with"),
        ({"ipo": {"objective": "ipo", "gamma_beta_ratio": 1}}, "'gamma_beta_ratio' is of simpo"),
    ],
)
def test_what_makes_no_alignment_is_refused(
    folder: Path, alignments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Study.model_validate(values(folder, **alignments))
    assert says in str(caught.value)


def test_what_dpo_has_wrong_is_said_once_and_there(folder: Path) -> None:
    wrong = values(folder, a={}, b={"beta": 0.2}) | {"dpo": {"num_epochs": 0}}
    with pytest.raises(ValidationError) as caught:
        Study.model_validate(wrong)
    assert [error["loc"] for error in caught.value.errors()] == [("dpo", "num_epochs")]


def test_files_overrides_and_forms_set_them(folder: Path) -> None:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values(folder, dpo=None, ipo={"objective": "ipo"})))
    assert load_study(file, ["alignments.ipo.beta=0.3"]).aligned_by["ipo"].beta == 0.3
    added = load_study(file, ["alignments.kto={objective: kto}"])
    assert [*added.aligned_by] == ["dpo", "ipo", "kto"]
    request = StudyRequest(
        study_file=str(file), dpo_beta=0.2, settings=["alignments.gentle.beta=0.02"]
    )
    betas = {name: knobs.beta for name, knobs in request.load_study().aligned_by.items()}
    assert betas == {"dpo": 0.2, "ipo": 0.1, "gentle": 0.02}
    file.write_text("alignments:\n  ipo: {objective: ipo, bta: 1}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml:2: alignments\.ipo\.bta: unknown key"):
        load_study(file)


def test_what_cannot_be_done_is_said_of_the_alignment_that_asks_for_it(folder: Path) -> None:
    half = Study.model_validate(values(folder, dpo={}, half={"precision": "float16"}))
    with pytest.raises(ConfigError, match=r"^alignments\.half\.precision = float16: needs a GPU"):
        check_together(half, Runtime(device="cpu"))
    single = [{"prompt": "a", "response": "b", "label": True}]
    rows = {"preferences": {"path": str(write_jsonl(folder / "single.jsonl", single))}}
    kto = {"objective": "kto"}
    check_pairs(plan_of(values(folder, a=kto) | rows))
    says = r"^alignments\.ipo\.objective = ipo learns from pairs.*, or leave alignment 'ipo' out$"
    with pytest.raises(ConfigError, match=says):
        check_pairs(plan_of(values(folder, a=kto, ipo={"objective": "ipo"}) | rows))
    with pytest.raises(ConfigError, match=r"^dpo\.objective = dpo learns .*, or give pairs$"):
        check_pairs(plan_of(values(folder) | rows))


def test_an_identity_is_that_of_the_knobs_alone() -> None:
    one, other = (DPORecipe(seed=seed) for seed in (0, 1))
    assert alignment_id(one) == alignment_id(other) == alignment_id(DPORecipe(seed=0, beta=0.1))
    assert alignment_id(one) != alignment_id(DPORecipe(seed=0, beta=0.2))
