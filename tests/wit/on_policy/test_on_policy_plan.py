"""Rounds on policy in a plan: what is made of what, what is shared, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from planned_study import inputs_in, plan_of, study_in
from pydantic import ValidationError
from reward_models import known_reward_model
from samples import write_jsonl

from wit.alignment_recipes import DPOKnobs, DPORecipe
from wit.artifacts import Artifact
from wit.cell_plan import AlignedPlan
from wit.config import Study
from wit.errors import ConfigError
from wit.estimate import sharing
from wit.lineage.description import cell_of, run_name
from wit.machine import asks_the_judge, check_pairs
from wit.on_policy.recipes import OnPolicyKnobs, PairsRecipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inputs_in(tmp_path_factory.mktemp("inputs"))


def aligned(folder: Path, **alignments: Any) -> dict[str, AlignedPlan]:
    [cell] = plan_of(study_in(folder) | {"alignments": alignments}).cells
    return {one.alignment: one for one in cell.aligned}


def on_policy(**knobs: Any) -> dict[str, Any]:
    return {"on_policy": {"max_new_tokens": 8, **knobs}}


def parent(artifact: Artifact, part: str) -> Artifact:
    found = artifact.parents[part]
    assert isinstance(found, Artifact)
    return found


def test_every_round_begins_where_the_last_ended_beside_the_sft_model(folder: Path) -> None:
    plan = plan_of(study_in(folder) | {"dpo": on_policy(rounds=3)})
    [cell] = plan.cells
    [one] = cell.aligned
    assert [step.stage for step in one.made] == ["pairs", "reference", "dpo"] * 3
    policy = cell.sft
    for number in range(3):
        pairs, reference, dpo = one.made[3 * number : 3 * number + 3]
        assert isinstance(pairs.recipe, PairsRecipe)
        assert pairs.recipe.round == number + 1
        assert parent(pairs, "policy") == parent(dpo, "policy") == policy
        assert parent(pairs, "preferences") == plan.preferences
        assert parent(reference, "policy") == cell.sft, "the reference is the SFT model throughout"
        assert parent(reference, "preferences") == parent(dpo, "preferences") == pairs
        assert parent(dpo, "reference") == reference
        policy = dpo
    assert one.model == policy
    measured = [e for e in one.evaluations if "preferences" in e.parents]
    assert {parent(e, "preferences").fingerprint for e in measured} == {
        plan.preferences.fingerprint
    }, "what is measured is measured on the preferences that are held out"


def test_rounds_are_shared_by_those_who_go_on(folder: Path) -> None:
    one, two = on_policy(rounds=1), on_policy(rounds=2)
    found = aligned(folder, one=one, two=two)
    assert found["two"].made[:3] == found["one"].made
    plan = plan_of(study_in(folder) | {"alignments": {"one": one, "two": two}})
    artifacts = [artifact.fingerprint for artifact, _ in plan.artifacts()]
    assert len(artifacts) == len(set(artifacts))
    assert sharing(plan).num_trainings_saved == 1 + 1  # SFT, and the first round
    names = plan.alignment_of
    assert names[found["one"].model.fingerprint] == "one"
    assert {names.get(step.fingerprint) for step in found["two"].made[:2]} == {None}
    assert {names[step.fingerprint] for step in found["two"].made[3:]} == {"two"}


def test_another_seed_or_knob_draws_anew_and_another_objective_does_not(folder: Path) -> None:
    one = aligned(
        folder,
        dpo=on_policy(),
        ipo={"objective": "ipo", **on_policy()},
        warm=on_policy(temperature=0.7),
        more=on_policy(num_responses=4),
    )
    pairs = {name: plan.made[0].fingerprint for name, plan in one.items()}
    assert pairs["dpo"] == pairs["ipo"]
    assert len(set(pairs.values())) == 3
    assert one["dpo"].made[1] == one["ipo"].made[1], "so is the reference"


KNOBS: dict[str, Any] = {
    "scorer": "judge",
    "extract": "a+",
    "num_responses": 3,
    "temperature": 0.5,
    "max_new_tokens": 9,
    "min_margin": 0.5,
    "max_prompts": 7,
}


def test_every_knob_of_the_draws_draws_anew(folder: Path) -> None:
    assert KNOBS.keys() == OnPolicyKnobs.model_fields.keys() - {"rounds", "reward_model"}
    changed = {name: on_policy(**{name: value}) for name, value in KNOBS.items()}
    found = aligned(folder, usual=on_policy(), **changed)
    assert len({one.made[0].fingerprint for one in found.values()}) == 1 + len(KNOBS)
    assert len({one.model.fingerprint for one in found.values()}) == 1 + len(KNOBS)


def test_a_reward_model_counts_by_its_content(folder: Path, tmp_path: Path) -> None:
    def model(**place: Any) -> tuple[str, str]:
        knobs = on_policy(scorer="reward_model", reward_model=place)
        made = aligned(folder, only=knobs)["only"].made
        return made[0].fingerprint, made[-1].fingerprint

    here = known_reward_model(tmp_path / "here")
    there = shutil.copytree(here, tmp_path / "there")
    first = model(path=str(here))
    assert model(path=str(there)) == first, "where it was found is not what it is"
    (there / "chat_template.jinja").write_text("{{ messages }}")
    assert not {*model(path=str(there))} & {*first}
    on_hub = {"repo": "some/rewards", "revision": "a" * 40}
    assert not {*model(**on_hub)} & {*first}
    with pytest.raises(ConfigError, match=r"dpo.on_policy.reward_model.path: .* no such folder"):
        plan_of(
            study_in(folder)
            | {"dpo": on_policy(scorer="reward_model", reward_model={"path": "/no/folder"})}
        )


def test_another_judge_ranks_anew(folder: Path) -> None:
    values = study_in(folder) | {"dpo": on_policy(scorer="judge")}
    other = values | {"judge": {"model": "another"}}
    first, second = (plan_of(v).cells[0].aligned[0].made[0] for v in (values, other))
    assert first.fingerprint != second.fingerprint


def test_without_rounds_nothing_has_another_identity() -> None:
    recipe = DPORecipe(seed=0)
    assert "on_policy" not in recipe.identity()
    assert DPORecipe(seed=0, **on_policy()).identity()["on_policy"]["rounds"] == 1


def test_runs_are_named_after_their_cell_and_round(folder: Path) -> None:
    plan = plan_of(study_in(folder) | {"dpo": on_policy(rounds=2)})
    [one] = plan.cells[0].aligned
    for number, steps in ((1, one.made[:3]), (2, one.made[3:])):
        for step in steps:
            assert run_name(step) == f"{step.stage} p0-r1-s0 round {number}"
            assert plan.labels[step.fingerprint] == f"p0-r1-s0 round {number}"
    [seen, *_] = one.evaluations
    assert run_name(seen) == "seen dpo p0-r1-s0 round 2"
    assert plan.labels[seen.fingerprint] == "p0-r1-s0"
    cell = cell_of(one.model)
    assert cell is not None
    assert cell.model_stage == "dpo"


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"on_policy": {"extract": "("}}, "is no regular expression"),
        ({"on_policy": {"extract": "(a)(b)"}}, "has 2 groups"),
        ({"on_policy": {"scorer": "reward_model"}}, "needs 'reward_model'"),
        ({"on_policy": {"reward_model": {"path": "x"}}}, "the scorer is 'exact_match'"),
        ({"on_policy": {"scorer": "judge", "extract": "a"}}, "'extract' is of exact_match"),
        ({"on_policy": {"min_margin": 2}}, "more than exact_match can give"),
        ({"on_policy": {"num_responses": 1}}, "greater than or equal to 2"),
        ({"on_policy": {"rounds": 2}, "adapter": "continue"}, "set 'on_policy.rounds' to 1"),
    ],
)
def test_what_cannot_be_is_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DPOKnobs.model_validate(knobs)
    assert said in str(caught.value)


def test_single_responses_say_no_right_answer_and_are_ranked_by_others(folder: Path) -> None:
    single = [{"prompt": "a", "response": "b", "label": True}]
    rows = {"preferences": {"path": str(write_jsonl(folder / "single.jsonl", single))}}
    check_pairs(plan_of(study_in(folder) | rows | {"dpo": on_policy(scorer="judge")}))
    says = (
        r"^dpo\.on_policy\.scorer = exact_match asks .*; set dpo\.on_policy\.scorer: reward_model"
    )
    with pytest.raises(ConfigError, match=says):
        check_pairs(plan_of(study_in(folder) | rows | {"dpo": on_policy()}))


def test_a_plan_knows_that_the_judge_will_be_asked(folder: Path) -> None:
    unjudged = study_in(folder) | {"judged": []}
    assert not asks_the_judge(plan_of(unjudged | {"dpo": on_policy()}))
    assert asks_the_judge(plan_of(unjudged | {"dpo": on_policy(scorer="judge")}))


def test_a_judge_ranks_only_where_there_is_one(folder: Path) -> None:
    values = study_in(folder) | {"dpo": on_policy(scorer="judge")}
    Study.model_validate(values)
    del values["judge"]
    values["judged"] = []
    with pytest.raises(ValidationError, match=r"'dpo.on_policy.scorer: judge' needs 'judge'"):
        Study.model_validate(values)
