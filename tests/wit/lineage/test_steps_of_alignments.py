"""What is made between SFT and an aligned model, and whom it blocks where it fails."""

from pathlib import Path
from typing import Any

from planned_study import inputs_in, plan_of, study_in
from tiny_study import STUDY, fail
from tiny_study import plan as plan_of_one

from wit import lineage
from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact
from wit.config import Study
from wit.lineage.cells import alignments_in, step
from wit.lineage.description import run_params
from wit.on_policy.recipes import PairsRecipe

VALUES = STUDY.model_dump(mode="json", exclude_none=True)


def test_mlflow_is_told_what_is_made_before_a_model(tmp_path: Path) -> None:
    mixed = {"objective": "simpo", "loss_weights": {"simpo": 1, "dpo": 0.5}}
    more: dict[str, Any] = {
        "dpo": {},
        "simpo": {"objective": "simpo"},
        "half": {"precision": "bfloat16"},
        "kto": {"objective": "kto"},
        "mixed": mixed,
    }
    more |= {f"in-{n}": {"on_policy": {"rounds": n}} for n in (1, 3)}
    more["judged"] = {"on_policy": {"scorer": "judge"}, "objective": "kto"}
    plan = plan_of(study_in(inputs_in(tmp_path)) | {"alignments": more})
    for cell in plan.cells:
        for told, planned in zip(alignments_in(plan.study), cell.aligned, strict=True):
            steps = [step(made.stage, run_params(made)) for made in planned.made[:-1]]
            assert told.needs == ",".join(steps), told.name
            assert len({*steps}) == len(steps)


def test_what_fails_on_policy_blocks_those_that_go_on_from_it(uri: str, tmp_path: Path) -> None:
    knobs = {"num_responses": 4}
    named: dict[str, Any] = {
        "offline": {},
        "once": {"on_policy": knobs},
        "twice": {"on_policy": {**knobs, "rounds": 2}},
        "hot": {"on_policy": {**knobs, "temperature": 1.5}},
    }
    study = Study.model_validate(VALUES | {"alignments": named})
    of_one = plan_of_one(tmp_path)
    policy = {"policy": of_one.sft[0]}
    once = study.alignments["once"]
    assert once.on_policy is not None
    recipe = PairsRecipe.of(once.on_policy, 1, 0, None)
    pairs = Artifact(
        root=tmp_path, recipe=recipe, parents={**policy, "preferences": of_one.data[2]}
    )
    starts = {**policy, "preferences": pairs}
    reference = Artifact(root=tmp_path, recipe=ReferenceRecipe(), parents={**starts})
    first = Artifact(
        root=tmp_path,
        recipe=DPORecipe.model_validate({**once.model_dump(), "seed": 0}),
        parents={**starts, "reference": reference},
    )
    said = {"offline": "missing", "once": "blocked", "twice": "blocked", "hot": "missing"}
    for number, failing in enumerate((pairs, reference, first)):
        name = f"study-{number}"
        one = study.model_copy(update={"name": name})
        run = lineage.start_study(one, [*of_one.all, pairs, reference, first], uri)
        fail(failing, uri, "it broke", run)
        table = lineage.table(name, uri)
        of_cell = table[(table.cell == "p0-r1-s0") & (table.stage == "dpo")]
        if failing is first:
            said["once"] = "failed"
        assert of_cell.set_index("alignment").status.to_dict() == said, failing.stage
