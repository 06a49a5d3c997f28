"""What models answered to the same prompts, side by side."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from wit.artifacts import Artifact
from wit.config import Settings
from wit.evaluation_recipes import ResponsesEvaluation
from wit.files import shortened
from wit.plan import Plan

MAX_PROMPTS = 20  # that a page shows
MAX_CHARACTERS = 600  # of a response; the artifact has the rest
RESPONSES = "responses.jsonl"


class Samples(Settings):
    """Responses of every model of a study to a fixed set of prompts."""

    prompts: tuple[str, ...]  # turns are parted by a line
    # By cell, then by stage (base, sft, dpo): one for each prompt.
    responses: dict[str, dict[str, tuple[str, ...]]]

    @classmethod
    def of_plan(cls, plan: Plan) -> Self | None:
        """Those that are made; None where there are none."""
        models = [("base", "base", plan.base_evaluations)]
        for cell in plan.cells:
            models += [
                (str(cell.cell), "sft", cell.sft_evaluations),
                (str(cell.cell), "dpo", cell.dpo_evaluations),
            ]
        prompts: tuple[str, ...] = ()
        responses: dict[str, dict[str, tuple[str, ...]]] = {}
        for cell, stage, evaluations in models:
            for rows in _rows(evaluations):
                rows = rows[:MAX_PROMPTS]
                prompts = tuple("\n".join(row["prompts"]) for row in rows)
                said = tuple(shortened("\n".join(r["responses"]), MAX_CHARACTERS) for r in rows)
                responses.setdefault(cell, {})[stage] = said
        return cls(prompts=prompts, responses=responses) if responses else None


class SideBySide(NamedTuple):
    """A table of responses."""

    columns: list[str]  # models
    rows: list[tuple[str, list[str]]]  # a prompt, and what each model says


def side_by_side(samples: Samples | None, weights: Iterable[str]) -> SideBySide | None:
    """The base, and the first seed of each of these weights before and after DPO.

    Args:
        samples: Of all models.
        weights: Such as ``p0.2-r1``; each once, and in this order.
    """
    if samples is None:
        return None
    chosen = ["base"]
    for wanted in dict.fromkeys(weights):
        cells = [cell for cell in samples.responses if _weights_of(cell) == wanted]
        chosen += cells[:1]
    found = {
        f"{cell} {stage.upper()}" if cell != "base" else cell: responses
        for cell in chosen
        for stage, responses in samples.responses.get(cell, {}).items()
    }
    if not found:
        return None
    rows = [
        (prompt, [responses[number] for responses in found.values()])
        for number, prompt in enumerate(samples.prompts)
        if all(len(responses) > number for responses in found.values())
    ]
    return SideBySide(list(found), rows)


def _rows(evaluations: Iterable[Artifact]) -> Iterator[list[dict[str, Any]]]:
    for artifact in evaluations:
        recipe, file = artifact.recipe, artifact.path / RESPONSES
        if isinstance(recipe, ResponsesEvaluation) and not recipe.name and file.is_file():
            yield [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _weights_of(cell: str) -> str:
    point, _, _ = cell.partition("@")
    return point.rpartition("-s")[0]
