"""Cards and an overlap of a study, and what is known of its data by them."""

from typing import Any

from wit.analysis.data_summary import DataSummary
from wit.data.overlap import BenchmarkOverlap, Overlap, SharedText

LENGTHS = {"p0": 3, "p5": 5, "p25": 25, "p50": 1050, "p75": 1075, "p95": 1095, "p100": 2000}
OF_SOURCE = {
    "source": "math.jsonl",
    "rows_in": 44,
    "rows": {"train": 33, "held_out": 2},
    "dropped": {"duplicate": 9},
    "truncated": 1,
}
INSTRUCTIONS = {
    "source": "rows.jsonl",
    "rows_in": 1444,
    "rows": {"train": 1233, "held_out": 77},
    "dropped": {"duplicate": 120, "overlaps a benchmark": 14},
    "truncated": 0,
    "train_tokens_by_role": {"prompt": 6000, "response": 3000, "stop": 1000},
    "lengths": {"row": LENGTHS, "response": {key: 7 for key in LENGTHS}},
    "generation_ratio": {"mean_of_rows": 0.75, "of_totals": 0.6667},
    "boilerplate_share": 0.125,
    "boilerplate": ["Solve <this>:"],
    "sources": {"math": OF_SOURCE},
}
PREFERENCES = {
    **OF_SOURCE,
    "lengths": {side: LENGTHS for side in ("prompt", "chosen", "rejected")},
    "boilerplate": [],
}


def overlap(num_overlapping: int) -> Overlap:
    examples = [
        SharedText(item=7, data="instructions", row=1234, source="math", words="six < seven of"),
        SharedText(item=9, data="preferences", row=5, source="", words="eight nine"),
    ]
    benchmark = BenchmarkOverlap(
        num_items=1319,
        num_looked_for=1300,
        num_too_short=12,
        num_common=7,
        share=num_overlapping / 1300,
        overlapping=tuple(range(7, 7 + 2 * num_overlapping, 2)),
        examples=tuple(examples[:num_overlapping]),
    )
    return Overlap(
        num_words=13,
        num_rows={"instructions": 1233, "preferences": 33},
        benchmarks={"gsm8k": benchmark},
    )


def summary(**more: Any) -> DataSummary:
    cards = {"instructions": INSTRUCTIONS, "preferences": PREFERENCES}
    return DataSummary.model_validate({"cards": cards, "overlap": overlap(26)} | more)
