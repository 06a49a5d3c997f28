"""A study and tables of scores that a report is made of."""

import math

import pandas as pd

from wit.config import Study

WEIGHTS = [(0, 1), (0.2, 1), (0.5, 1), (1, 1), (0.2, 0.4)]
GRID = [(0, 1), (0.2, 1), (0.5, 1), (1, 1), (0.2, 0.4), (1, 0)]
STUDY = Study.model_validate(
    {
        "name": "quickstart",
        "base": {"path": "builtin"},
        "instructions": {"path": "builtin"},
        "preferences": {"path": "builtin"},
        "weights": [{"prompt": p, "response": r} for p, r in WEIGHTS],
        "benchmarks": [{"name": "unseen", "role": "select"}],
    }
)


def make_table(error: str = "loss <is> not finite </script>") -> pd.DataFrame:
    """Base and five pairs with two seeds; one cell failed."""
    rows = [row("base", None, 0, 0.05)]
    for seed in (0, 1):
        for place, weights in enumerate(WEIGHTS):
            if weights == (1, 1) and seed == 1:
                rows += [failed("sft", weights, error), failed("dpo", weights, error)]
                continue
            rows += [row("sft", weights, seed, 0.6 - 0.04 * place + seed / 100)]
            rows += [row("dpo", weights, seed, 0.62 - 0.03 * abs(place - 1) + seed / 100)]
    likelihoods = [{**row, "benchmark": "nll_prompt", "role": "diagnostic"} for row in rows[:5]]
    return pd.DataFrame(rows + likelihoods)


def row(stage, weights, seed, score, **more):
    prompt, response = weights or (math.nan, math.nan)
    return {
        "study": "quickstart",
        "cell": "base" if weights is None else f"p{prompt:g}-r{response:g}-s{seed}",
        "stage": stage,
        "weights": "base" if weights is None else f"p{prompt:g}-r{response:g}",
        "prompt_weight": prompt,
        "response_weight": response,
        "seed": seed,
        "benchmark": "unseen",
        "role": "select",
        "score": score,
        "stderr": 0.02,
        "higher_is_better": True,
        "status": "finished",
        "error": None,
        "fingerprint": "0123456789ab",
        "run_id": f"{stage}{weights}{seed}",
        "run_url": None,
    } | more


def failed(stage, weights, error):
    return row(stage, weights, 1, math.nan, benchmark=None, role=None, status="failed", error=error)


def scores(
    cells=GRID, seeds=(0, 1), names=("unseen",), stages=("sft", "dpo"), **more
) -> pd.DataFrame:
    """Scores that rise up to the fourth cell, with a little noise."""
    rows = [
        row(stage, cell, seed, 0.5 + 0.03 * place - 0.004 * seed * (-1) ** place, benchmark=name)
        for place, cell in enumerate(cells)
        for seed in seeds
        for stage in stages
        for name in names
    ]
    return pd.DataFrame(rows).assign(**more)
