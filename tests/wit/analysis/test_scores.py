"""Which cells of a table are one objective."""

import pandas as pd
import pytest
from simulated import table_of

from wit.analysis.grid import stage_scores
from wit.analysis.rays import rays_of
from wit.analysis.scores import rows_of, select_benchmarks, with_objectives
from wit.config import Study

CELLS = {(0.0, 1.0): [1.0], (0.2, 0.4): [2.0], (0.5, 1.0): [3.0]}


def study(**sft):
    weights = [{"prompt": prompt, "response": response} for prompt, response in CELLS]
    return Study.model_validate(
        {
            "name": "rays",
            "base": {"path": "builtin"},
            "instructions": {"path": "builtin"},
            "preferences": {"path": "builtin"},
            "weights": [*weights, {"prompt": 0.2, "response": 0.4, "template": 1}],
            "benchmarks": [{"name": "wit_seen", "role": "select"}],
            "sft": sft,
        }
    )


def table():
    found = table_of("dpo", CELLS)
    labels = [f"p{p:g}-r{r:g}" for p, r in CELLS]
    finer = found.iloc[[1]].assign(score=9.0)
    names = [*labels, next(str(w) for w in study().weights if str(w) not in labels)]
    return pd.concat([found, finer]).assign(weights=names)


def rays(found):
    return {ray.ray: ray.weights for ray in rays_of(stage_scores(found, "dpo")).rays}


def test_without_clipping_cells_of_one_ratio_are_one_objective():
    found = rays(with_objectives(table(), study(max_grad_norm=0)))
    assert found["1 : 2"] == ("p0.2-r0.4", "p0.5-r1")
    assert len(found) == 3  # a cell that gives a role a weight of its own is alone
    assert rays(table()) == found


def test_with_clipping_the_scale_counts_and_each_cell_is_one():
    found = rays(with_objectives(table(), study(max_grad_norm=1.0)))
    assert found["1 : 2 (p0.2-r0.4)"] == ("p0.2-r0.4",)
    assert found["1 : 2 (p0.5-r1)"] == ("p0.5-r1",)
    assert found["0 : 1"] == ("p0-r1",)
    assert len(found) == 4


def test_rows_of_a_base_have_no_ray_of_their_own_and_unknown_columns_stay():
    base = pd.DataFrame(
        [{"stage": "base", "prompt_weight": None, "response_weight": None, "benchmark": "a"}]
    ).assign(score=1.0, remark="hm")
    [row] = rows_of(base)
    assert (row["weights"], row["ray"], row["seed"], row["remark"]) == ("base", "base", 0, "hm")


@pytest.mark.parametrize("role", ["select", "report"])
def test_without_roles_every_benchmark_selects(role):
    assert select_benchmarks(table_of("sft", CELLS), role) == (("score",) * (role == "select"))
