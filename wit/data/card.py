"""The card of a prepared set: what a person wants to know of it, as JSON.

Rows are counted in both splits, tokens and lengths in those that are trained on.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wit.data.encode import INSTRUCTION_COLUMNS, PREFERENCE_COLUMNS, UNPAIRED_COLUMNS, Encoded
from wit.data.splits import HELD_OUT, TRAIN
from wit.roles import Role

CARD = "card.json"
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
SIDES = {
    PREFERENCE_COLUMNS: ("prompt", "chosen", "rejected"),
    UNPAIRED_COLUMNS: ("prompt", "response"),
}
PAIRS, UNPAIRED = "pairs", "unpaired"  # kinds of preferences


class Tally:
    """Counts what becomes of the rows of one source."""

    def __init__(self, where: str, num_rows: int, dropped: Counter[str], texts: list[str]) -> None:
        """Begins with what the first pass found.

        Args:
            where: Name of the source.
            num_rows: That it has.
            dropped: Rows by reason.
            texts: Boilerplate of its prompts.
        """
        self.where = where
        self.num_rows = num_rows
        self.dropped = Counter(dropped)
        self.boilerplate = texts
        self.rows = Counter({TRAIN: 0, HELD_OUT: 0})
        self.num_truncated = 0
        self.unspelled: str | None = None
        self.num_desirable = 0  # training rows, of responses that are good or bad
        self.counts: list[np.ndarray] = []  # of training rows: see ``_counts``

    def add(self, encoded: Encoded, train: pa.RecordBatch) -> None:
        """Adds what became of a batch.

        Args:
            encoded: The whole batch.
            train: Those of its rows that are trained on.
        """
        self.dropped += encoded.dropped
        self.num_truncated += encoded.num_truncated
        self.unspelled = self.unspelled or encoded.unspelled
        self.rows[TRAIN] += train.num_rows
        self.rows[HELD_OUT] += encoded.rows.num_rows - train.num_rows
        self.counts.append(_counts(train))
        if train.schema == UNPAIRED_COLUMNS:
            self.num_desirable += train["is_desirable"].true_count


def make_card(where: str, tallies: Mapping[str, Tally], columns: pa.Schema) -> dict[str, Any]:
    """The card of a set, and under ``sources`` those of its sources, if it has names for them."""
    card = _card(where, list(tallies.values()), columns)
    if "" not in tallies:
        card["sources"] = {
            name: _card(tally.where, [tally], columns) for name, tally in tallies.items()
        }
    return card


def _card(where: str, tallies: Sequence[Tally], columns: pa.Schema) -> dict[str, Any]:
    rows, dropped = Counter[str](), Counter[str]()
    for tally in tallies:
        rows.update(tally.rows)  # keeps a split without rows
        dropped += tally.dropped
    counts = [part for tally in tallies for part in tally.counts]
    none = np.zeros((0, len(SIDES.get(columns, Role))), dtype=np.int32)
    return {
        "source": where,
        "rows_in": sum(tally.num_rows for tally in tallies),
        "rows": dict(rows),
        "dropped": most_first(dropped),
        "truncated": sum(tally.num_truncated for tally in tallies),
        **_kind(tallies, rows[TRAIN], columns),
        **_figures(np.concatenate([none, *counts]), columns),
        "boilerplate": sorted({text for tally in tallies for text in tally.boilerplate}, key=len),
    }


def most_first(counts: Counter[str]) -> dict[str, int]:
    """Counts above 0, the largest first; equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _kind(tallies: Sequence[Tally], num_train: int, columns: pa.Schema) -> dict[str, Any]:
    """Of preferences, whether they are pairs, and if not, how many responses are good ones."""
    if columns == INSTRUCTION_COLUMNS:
        return {}
    if columns == PREFERENCE_COLUMNS:
        return {"kind": PAIRS}
    num_desirable = sum(tally.num_desirable for tally in tallies)
    labels = {"desirable": num_desirable, "undesirable": num_train - num_desirable}
    return {"kind": UNPAIRED, "labels": labels}


def _counts(rows: pa.RecordBatch) -> np.ndarray:
    """Of every row the tokens by role, or of a preference those of each side: [row, part]."""
    if rows.schema in SIDES:
        sides = [rows[f"{side}_ids"].value_lengths().to_numpy() for side in SIDES[rows.schema]]
        return np.stack(sides, axis=1)
    num_tokens = rows["roles"].value_lengths().to_numpy()
    row_of_token = np.repeat(np.arange(len(num_tokens)), num_tokens)
    cells = row_of_token * len(Role) + rows["roles"].flatten().to_numpy()
    counts = np.bincount(cells, minlength=len(num_tokens) * len(Role))
    return counts.reshape(-1, len(Role)).astype(np.int32)


def _figures(counts: np.ndarray, columns: pa.Schema) -> dict[str, Any]:
    """What the training rows hold; of preferences, how long their sides are."""
    if columns in SIDES:
        return {"lengths": dict(zip(SIDES[columns], map(_percentiles, counts.T), strict=True))}
    by_role = zip(Role, counts.sum(axis=0).tolist(), strict=True)
    row = counts.sum(axis=1)
    response = counts[:, [Role.RESPONSE, Role.STOP]].sum(axis=1)
    prompt = row - response - counts[:, Role.SPECIAL]
    ratios = response[prompt > 0] / prompt[prompt > 0]
    lengths = {"row": row, "prompt": prompt, "response": response}
    return {
        "train_tokens_by_role": {role.name.lower(): n for role, n in by_role if n},
        "lengths": {part: _percentiles(of_rows) for part, of_rows in lengths.items()},
        # Tokens that are generated, stop included, for each on the prompt's side: all but BOS.
        "generation_ratio": {
            "mean_of_rows": _ratio(ratios.sum(), ratios.size),
            "of_totals": _ratio(response.sum(), prompt.sum()),
        },
        "boilerplate_share": _ratio(counts[:, Role.BOILERPLATE].sum(), prompt.sum()),
    }


def _percentiles(lengths: np.ndarray) -> dict[str, int]:
    """Lengths that real rows have: that many percent of the rows are at most as long."""
    if not lengths.size:
        return {}
    values = np.percentile(lengths, PERCENTILES, method="inverted_cdf")
    return {f"p{p}": int(value) for p, value in zip(PERCENTILES, values, strict=True)}


def _ratio(part: float, whole: float) -> float | None:
    return round(float(part / whole), 4) if whole else None


def read_card(folder: Path) -> dict[str, Any]:
    """What ``write_card`` wrote."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))


def write_card(out: Path, card: dict[str, Any]) -> None:
    """Writes what a person wants to know of a prepared set."""
    (out / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
