"""Every cell and seed side by side, measured or not."""

import math

import pandas as pd
import pytest
from simulated import table_of

from wit.analysis.comparison import compare

CELL = (0.0, 1.0)


def test_every_cell_and_seed_is_listed_measured_or_not():
    table = pd.concat(
        [
            table_of("sft", {CELL: [0.5, 0.6]}, role="select", status="finished", stderr=0.1),
            table_of("sft", {CELL: [2.0]}, "nll_prompt", role="diagnostic", status="finished"),
            table_of("dpo", {CELL: [math.nan]}).assign(benchmark=None, role=None, status="blocked"),
        ]
    )
    first, second = compare(table)
    assert (first.cell, second.cell) == ("p0-r1-s0", "p0-r1-s1")
    assert first.models["sft"].score == 0.5
    assert first.models["sft"].half_width == pytest.approx(0.1959964)
    assert first.models["sft"].diagnostics == {"nll_prompt": 2.0}
    # A score without a standard error has no interval, which is said and not left out.
    widths = first.models["sft"].half_widths
    assert widths == {"score": pytest.approx(0.1959964), "nll_prompt": None}
    assert (first.models["dpo"].status, first.models["dpo"].score) == ("blocked", None)
    assert "dpo" not in second.models


def test_the_base_comes_first_and_then_cells_by_weights():
    cells = {(1.0, 1.0): [1.0], (0.0, 1.0): [2.0], (0.5, 0.5): [3.0]}
    base = table_of("base", {CELL: [0.1]}).assign(prompt_weight=None, response_weight=None)
    table = pd.concat([table_of("sft", cells), base])
    weights = {"prompt_weight": float, "response_weight": float}
    found = compare(table.astype(weights))
    assert [cell.cell for cell in found] == ["base", "p0-r1-s0", "p1-r1-s0", "p0.5-r0.5-s0"]
    assert found[0].models["base"].score == 0.1


def test_cells_are_listed_by_objective_and_the_largest_of_one_first():
    """(0.2, 0.4) stands beside (0.5, 1), as one objective with it, and not behind all others."""
    pairs = [(0.2, 0.4), (1, 0), (1, 1), (0, 0.5), (0.5, 1), (0.2, 1), (0, 1), (0.5, 0.5)]
    listed = compare(table_of("dpo", {pair: [1.0, 2.0] for pair in pairs}))
    assert [(cell.prompt_weight, cell.response_weight) for cell in listed[::2]] == [
        (0, 1),
        (0, 0.5),
        (0.2, 1),
        (0.5, 1),
        (0.2, 0.4),
        (1, 1),
        (0.5, 0.5),
        (1, 0),
    ]
    assert [cell.seed for cell in listed[:4]] == [0, 1, 0, 1]
