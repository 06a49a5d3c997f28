"""What a grid costs that trains one pair of weights of each objective, against all of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.config import Runtime, Study
from wit.estimate import Estimate, estimate
from wit.objectives import replicates
from wit.plan import Plan, make_plan

AXIS = [0, 0.2, 0.4, 0.6, 0.8, 1]  # arXiv 2507.07817, section 3.2; without (0, 0)
NUM_PAIRS, NUM_OBJECTIVES = 35, 21
PACKAGES = ("pydantic",)


def study(dedupe: str, **other: Any) -> Study:
    """The paper's grid on the embedded base and rows, whose plan needs no hub."""
    return Study.model_validate(
        {
            "name": "rays",
            "base": {"path": "builtin"},
            "instructions": {"path": "builtin"},
            "preferences": {"path": "builtin"},
            "weights": {"prompt": AXIS, "response": AXIS},
            "benchmarks": [{"name": "wit_choice", "role": "select"}],
            "dedupe": dedupe,
            **other,
        }
    )


def measure(repeats: int = 1) -> BenchResult:
    """Plans the paper's grid with ``dedupe: rays`` and without; trains nothing.

    Trainings, optimizer steps and tokens are those of the planner, so they are the same in every
    turn. The tables are the same work: each names every pair of weights.

    Args:
        repeats: Turns, as of other benchmarks; they agree.

    Raises:
        StageError: The two would not show the same pairs of weights.
    """
    turns = [_planned() for _ in range(repeats)]
    shown = [
        same_work({name: {str(w): 1 for w in _shown(plan)} for name, (plan, _) in turn.items()})
        for turn in turns
    ]
    return BenchResult(
        name="rays",
        ours="the paper's grid with dedupe: rays",
        baseline="a training for each pair of weights",
        figures=(
            _figure("SFT trainings", turns, lambda plan, _: len(plan.cells)),
            _figure("optimizer steps, SFT and DPO", turns, lambda _, cost: cost.optimizer_steps),
            _figure("SFT tokens", turns, lambda _, cost: cost.sft_tokens),
            _figure("DPO tokens", turns, lambda _, cost: cost.dpo_tokens),
        ),
        sizes={"pairs of weights": NUM_PAIRS, "objectives": NUM_OBJECTIVES},
        same_work={"rows of the table": len(shown[0])},
        machine=machine_name(),
        versions=versions_of(*PACKAGES),
    )


Planned = dict[str, tuple[Plan, Estimate]]


def _planned() -> Planned:
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(artifact_root=Path(folder))
        plans = {dedupe: make_plan(study(dedupe), runtime) for dedupe in ("rays", "none")}
        return {dedupe: (plan, estimate(plan, runtime)) for dedupe, plan in plans.items()}


def _shown(plan: Plan) -> list[str]:
    """The pairs of weights that a table of the study names: trained ones, and replicates."""
    trained = [str(cell.cell.weights) for cell in plan.cells]
    return sorted([*trained, *replicates(plan.study)])


def _figure(quantity: str, turns: list[Planned], count: Callable[[Plan, Estimate], int]) -> Figure:
    return Figure(
        quantity=quantity,
        ours=tuple(count(*turn["rays"]) for turn in turns),
        baseline=tuple(count(*turn["none"]) for turn in turns),
        at_most=None if "tokens" in quantity else NUM_OBJECTIVES / NUM_PAIRS,  # these are rounded
        limit=NUM_OBJECTIVES / NUM_PAIRS,
        limit_is="35 pairs of weights lie on 21 rays, and each has to be trained once",
    )
