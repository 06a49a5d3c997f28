"""The report's tables of what is known of models beside how good they are."""

from typing import Any

import pandas as pd

from wit.analysis.forgetting import FORGETTING, forgetting_sentence
from wit.analysis.report_tables import figures_of
from wit.analysis.score_labels import in_order, signal_name
from wit.analysis.scores import select_benchmarks
from wit.analysis.selection import Recommendation
from wit.score_names import (
    ALIGNMENT,
    CUT_PROMPTS,
    JUDGED,
    RESPONSES,
    SAMPLED_CUT,
    SENSITIVITY,
    WORDING,
)


def diagnostics_of(table: pd.DataFrame, choice: Recommendation) -> dict[str, Any]:
    """What the page shows of it, by sections."""
    measured = select_benchmarks(table, "diagnostic")
    judged = [n for n in measured if n.partition("/")[2] in JUDGED and not is_uncut(table, n)]
    known = {name for name in measured if "/" not in name} - {*FORGETTING, *ALIGNMENT}
    responses = [n for n in in_order(known) if n in RESPONSES and not is_uncut(table, n)]
    wording = [n for n in in_order(known) if n in WORDING or n.startswith(SENSITIVITY)]
    diagnostics = in_order(known - {*wording, *RESPONSES})
    forgotten = [*select_benchmarks(table, "forgetting"), *FORGETTING]
    return {
        "judged": figures_of(table, judged, choice),
        "judged_names": {name: signal_name(name) for name in judged},
        "forgetting": figures_of(table, forgotten, choice),
        "forgetting_names": {name: signal_name(name) for name in FORGETTING},
        "forgetting_sentence": forgetting_sentence(table, choice),
        "wording": figures_of(table, wording, choice),
        "wording_names": {name: signal_name(name) for name in wording},
        "responses": figures_of(table, responses, choice),
        "responses_names": {name: signal_name(name) for name in responses},
        "diagnostics": figures_of(table, diagnostics, choice),
        "diagnostic_names": {name: signal_name(name) for name in diagnostics},
    }


def is_uncut(table: pd.DataFrame, name: str) -> bool:
    """Whether it counts prompts that were cut, and there are none."""
    is_zero = not table.loc[table["benchmark"] == name, "score"].any()
    return is_zero and name.rpartition("/")[2] in (CUT_PROMPTS, SAMPLED_CUT)
