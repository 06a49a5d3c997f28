"""A table of scores, one row per model and benchmark: what its columns mean, in one place.

``wit.lineage.table`` gives such a table, ``wit.analysis.reading`` reads one from a CSV file. Only
``stage, prompt_weight, response_weight, benchmark, score`` are needed; see ``rows_of`` for what
the others mean where they are not there.
"""

import math
from collections import Counter
from fractions import Fraction
from functools import cache
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from wit.config import Study
from wit.objectives import objectives

Row = dict[str, Any]  # of the table, by column
STAGES = ("base", "sft", "dpo")
INSTRUCTION_TUNING = "p0-r1"  # the usual loss, on responses only
MAX_IN_LABEL = 100  # of both sides of a ratio as a person reads it


class Result(BaseModel):
    """Immutable."""

    model_config = ConfigDict(frozen=True)


def weights_label(prompt: float, response: float) -> str:
    """Name of a pair of weights, such as ``p0.2-r1``."""
    return f"p{prompt:g}-r{response:g}"


@cache
def ray_label(prompt: float, response: float) -> str:
    """Name of the ray of a pair of weights: its ratio in lowest terms, such as ``1 : 4``."""
    if response == 0:
        return "1 : 0"
    exact = prompt / response
    ratio = Fraction(exact).limit_denominator(MAX_IN_LABEL)
    # Decimal weights such as 0.1 + 0.2 are not exact; what differs by more is another ratio.
    is_small = max(ratio.numerator, ratio.denominator) <= MAX_IN_LABEL
    if is_small and abs(float(ratio) - exact) <= 1e-9 * exact:
        return f"{ratio.numerator} : {ratio.denominator}"
    # The larger weight is 1, as in the names of weights that a search tries.
    return f"{exact:.10g} : 1" if exact < 1 else f"1 : {response / prompt:.10g}"


def by_angle(prompt: float | None, response: float | None, name: str) -> tuple[float, float, str]:
    """Sorts cells as they are listed: objectives by angle, of one objective the largest first.

    Args:
        prompt: Weight; None: the base, which comes first.
        response: Weight.
        name: Of the cell, where the weights do not tell it from another.
    """
    if prompt is None or response is None:
        return -1.0, 0.0, name
    return round(math.atan2(prompt, response), 9), -math.hypot(prompt, response), name


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The table's rows, with every column that the analysis reads; what is unknown is plain.

    ``weights`` names the pair of weights, or the base. ``ray`` names the objective: cells of one
    ray differ by noise only. Without that column it is the ratio of the two weights; a cell that
    gives some role a weight of its own is alone on its ray.
    """
    defaults = {
        "seed": 0,
        "role": "select",
        "stderr": math.nan,
        "num_items": math.nan,
        "higher_is_better": True,
    }
    # By column where it can be: ten thousand runs are a hundred thousand rows.
    table = table.assign(**{c: value for c, value in defaults.items() if c not in table})
    table["stderr"] = table["stderr"].astype(float)
    table["seed"] = table["seed"].astype(float).fillna(0).astype(int)  # the base has none
    has_weights = "weights" in table
    has_ray = table["ray"].notna() if "ray" in table else [False] * len(table)
    rows = _records(table)
    for row, is_done in zip(rows, has_ray, strict=True):
        if is_done and has_weights:
            continue
        pair = (row["prompt_weight"], row["response_weight"])
        is_base = any(pd.isna(weight) for weight in pair)
        if not has_weights:
            row["weights"] = "base" if is_base else weights_label(*pair)
        if not is_done:
            on_grid = not is_base and row["weights"] == weights_label(*pair)
            row["ray"] = ray_label(*pair) if on_grid else row["weights"]
    return rows


def _records(table: pd.DataFrame) -> list[Row]:
    """As ``to_dict("records")``, which takes ten times as long for columns of text."""
    columns = [column.to_numpy(dtype=object).tolist() for _, column in table.items()]
    names = list(table.columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def with_objectives(table: pd.DataFrame, study: Study | None) -> pd.DataFrame:
    """The table with the column ``ray`` after the study's own objectives.

    Whether cells of one ratio are one objective is up to the recipe: clipping sees the scale of a
    loss. Without a study, they are taken to be.
    """
    if study is None:
        return table
    rays = {tuning: _rays_of(study, tuning) for tuning in study.tuned_by}
    if not study.tunings:
        return table.assign(ray=[rays[None].get(weights) for weights in table["weights"]])
    both = zip(table["tuning"], table["weights"], strict=True)
    return table.assign(ray=[rays.get(tuning, {}).get(weights) for tuning, weights in both])


def _rays_of(study: Study, tuning: str | None) -> dict[str, str]:
    """By weights what their objective is called."""
    names = {str(w): _label_of(str(w), w.prompt, w.response) for w in study.weights}
    found = objectives(study, tuning)
    labels = [min(names[weights] for weights in one.weights) for one in found]
    counts, rays = Counter(labels), {}
    for one, label in zip(found, labels, strict=True):
        for weights in one.weights:
            rays[weights] = f"{label} ({weights})" if counts[label] > 1 else label
    return rays


def _label_of(weights: str, prompt: float, response: float) -> str:
    return ray_label(prompt, response) if weights == weights_label(prompt, response) else weights


def select_benchmarks(table: pd.DataFrame, role: str = "select") -> tuple[str, ...]:
    """Benchmarks of that role, by name; without roles, all select."""
    if "role" in table:
        values = table.loc[table["role"] == role, "benchmark"]
    else:
        values = table["benchmark"] if role == "select" else []
    return tuple(sorted({value for value in values if isinstance(value, str)}))


def alignments_in(table: pd.DataFrame) -> list[str]:
    """Names of the alignments whose models the table has, the main one first."""
    if "alignment" not in table:
        return []
    return [str(name) for name in table["alignment"].dropna().unique()]


def alignment_of(row: Row) -> str | None:
    """Name of the alignment of a row's model; None: it is not aligned, or nobody says how."""
    name = row.get("alignment")
    return name if isinstance(name, str) else None


def tuning_of(row: Row) -> str | None:
    """Name of the way of SFT of a row's model; None: it has none, or the study names none."""
    name = row.get("tuning")
    return name if isinstance(name, str) else None


def alignment_columns(row: Row) -> dict[str, Any]:
    """How a row's model was aligned; each of the three is None where it is not known."""
    objective, beta = row.get("objective"), row.get("beta")
    return {
        "alignment": alignment_of(row),
        "objective": objective if isinstance(objective, str) else None,
        "beta": None if beta is None or math.isnan(beta) else float(beta),
    }


def of_alignment(table: pd.DataFrame, name: str | None = None) -> pd.DataFrame:
    """The base, the SFT models and the models of one alignment; unset: of the main one."""
    names = alignments_in(table)
    if not names:
        return table
    is_its = table["alignment"] == (names[0] if name is None else name)
    return table.loc[table["alignment"].isna() | is_its]


def tunings_in(table: pd.DataFrame) -> list[str]:
    """Names of the ways of SFT that the study names, the main one first; of one way none."""
    if "tuning" not in table:
        return []
    return [str(name) for name in table["tuning"].dropna().unique()]


def of_tuning(table: pd.DataFrame, name: str | None = None) -> pd.DataFrame:
    """The base and the models of one way of SFT, aligned or not; unset: of the main one."""
    names = tunings_in(table)
    if not names:
        return table
    is_its = table["tuning"] == (names[0] if name is None else name)
    return table.loc[(table["stage"] == "base") | is_its]


def by_tuning(table: pd.DataFrame) -> dict[str | None, pd.DataFrame]:
    """What ``of_tuning`` gives of each; without names the table."""
    return {name: of_tuning(table, name) for name in tunings_in(table)} or {None: table}


def check_unmixed(table: pd.DataFrame) -> None:
    """Passes unless a mean over the table would mix models that were not made alike.

    Raises:
        ValueError: It would.
    """
    if len(names := alignments_in(table)) > 1:
        raise ValueError(f"alignments {', '.join(names)}: choose one with 'of_alignment'")
    if len(names := tunings_in(table)) > 1:
        raise ValueError(f"tunings {', '.join(names)}: choose one with 'of_tuning'")
