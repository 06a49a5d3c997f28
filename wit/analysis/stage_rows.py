"""The rows of one stage of a table, by model: read once, however many scores are made of them."""

from typing import NamedTuple

import pandas as pd

from wit.analysis.scores import Row, check_unmixed, rows_of, select_benchmarks


class StageRows(NamedTuple):
    """What was measured on the models of a stage."""

    stage: str  # base, sft or dpo
    models: dict[tuple[str, int], dict[str, Row]]  # by weights and seed, then by benchmark
    select: tuple[str, ...]  # benchmarks of the table that choose
    lower_is_better: frozenset[str]  # benchmarks of the table


def stage_rows(table: pd.DataFrame, stage: str) -> StageRows:
    """The rows of a stage.

    Args:
        table: Of one study, and of one alignment.
        stage: base, sft or dpo.
    """
    check_unmixed(table)
    models: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows_of(table.loc[table["stage"] == stage]):
        models.setdefault((row["weights"], row["seed"]), {})[row["benchmark"]] = row
    lower: set[str] = set()
    if "higher_is_better" in table:
        lower = set(table["benchmark"][table["higher_is_better"].eq(False)])
    return StageRows(stage, models, select_benchmarks(table), frozenset(lower))
