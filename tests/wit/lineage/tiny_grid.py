"""The tiny study with two alignments."""

from pathlib import Path
from typing import NamedTuple

from tiny_study import STUDY, plan

from wit.alignment_recipes import DPORecipe
from wit.artifacts import Artifact
from wit.config import Study

IPO = {"objective": "ipo", "beta": 0.3}
VALUES = STUDY.model_dump(mode="json", exclude_none=True)
GRID = Study.model_validate(VALUES | {"alignments": {"plain": {}, "other": IPO}})


class Grid(NamedTuple):
    """Two cells, each aligned twice."""

    artifacts: list[Artifact]
    plain: list[Artifact]  # DPO models
    other: list[Artifact]
    other_evaluations: list[Artifact]


def grid_in(root: Path) -> Grid:
    of_one = plan(root)
    recipe = DPORecipe.model_validate({**GRID.alignments["other"].model_dump(), "seed": 0})
    other = [Artifact(root=root, recipe=recipe, parents=dpo.parents) for dpo in of_one.dpo]
    measured = of_one.evaluations[-len(other) :]
    evaluations = [
        Artifact(root=root, recipe=e.recipe, parents={**e.parents, "model": model})
        for e, model in zip(measured, other, strict=True)
    ]
    return Grid([*of_one.all, *other, *evaluations], of_one.dpo, other, evaluations)
