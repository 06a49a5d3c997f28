"""A table of scores after one alignment or several."""

import pandas as pd
from reported import row

CELLS = [(0, 1), (0.2, 1), (0.5, 1)]
# Of every cell and seed before alignment; the second is best.
BEFORE = [0.30, 0.60, 0.40]
# What each alignment adds. The second one turns the order round; the third gains in one cell alone.
GAINS = {"dpo": [0.1, 0.1, 0.1], "ipo": [0.5, 0.1, 0.1], "simpo": [-0.1, 0.01, -0.1]}
HOW = {"dpo": ("dpo", 0.1), "ipo": ("ipo", 0.3), "simpo": ("simpo", 2.0)}


def aligned(name, cell, seed, score, **more):
    objective, beta = HOW[name]
    of_model = {"fingerprint": f"{name}{cell}{seed}", "run_id": f"{name}{cell}{seed}"}
    how = {"alignment": name, "objective": objective, "beta": beta}
    return row("dpo", cell, seed, score, num_items=1000, **how, **of_model, **more)


def table_of(*names: str, stderr: float = 0.001) -> pd.DataFrame:
    """As MLflow gives it; items are many, and seeds differ by little."""
    rows = [row("base", None, 0, 0.05)]
    for place, cell in enumerate(CELLS):
        for seed in (0, 1):
            before = BEFORE[place] + seed / 1000
            rows.append(row("sft", cell, seed, before, stderr=stderr))
            rows += [
                aligned(name, cell, seed, before + GAINS[name][place], stderr=stderr)
                for name in names
            ]
    return pd.DataFrame(rows)
