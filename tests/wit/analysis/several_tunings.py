"""Scores of a study of several ways of SFT, known to the last digit."""

from typing import Any

import pandas as pd
from reported import STUDY, row

from wit.config import Study

CELLS = [(0, 1), (0.2, 1)]
# Learned and kept at (0, 1), by tuning; of seed 1 both are so much more.
MEANS = {"full-e1": (0.6, 0.4), "full-e2": (0.8, 0.2), "lora-e1": (0.5, 0.6), "lora-e2": (0.6, 0.5)}
SHIFTS = {"full-e1": 0.02, "full-e2": 0.02, "lora-e1": 0.04, "lora-e2": 0.02}
# After all but the last one, weight on prompts makes it worse.
WORSE = {"full-e1": 0.1, "full-e2": 0.1, "lora-e1": 0.1, "lora-e2": -0.1}


def study_of(*names: str) -> Study:
    adapters = {"full": None, "lora": {"method": "lora"}}
    tunings = {name: {"adapter": adapters[name[:4]], "num_epochs": int(name[-1])} for name in names}
    values = STUDY.stated() | {"tunings": tunings, "seeds": [0, 1]}
    return Study.model_validate(
        values | {"weights": [{"prompt": p, "response": r} for p, r in CELLS]}
    )


def rows_of_tuning(name: str) -> list[dict[str, Any]]:
    found = []
    for place, cell in enumerate(CELLS):
        for seed in (0, 1):
            cell_name = f"p{cell[0]:g}-r{cell[1]:g}-s{seed}@{name}"
            of_model = {"tuning": name, "cell": cell_name, "stderr": 0.001, "num_items": 1000}
            learned, kept = (mean + seed * SHIFTS[name] for mean in MEANS[name])
            learned -= WORSE[name] * place
            for stage, gain in (("sft", 0.0), ("dpo", 0.05)):
                aligned = {"alignment": "dpo", "objective": "dpo", "beta": 0.1}
                how = of_model | (aligned if stage == "dpo" else {})
                how["fingerprint"] = f"{name}{cell}{seed}{stage}"
                found.append(row(stage, cell, seed, learned + gain, **how))
                more = {"benchmark": "cloze", "role": "forgetting"}
                found.append(row(stage, cell, seed, kept, **how, **more))
    return found


def table_of(*names: str) -> pd.DataFrame:
    base = [row("base", None, 0, 0.05)]
    base.append(base[0] | {"benchmark": "cloze", "role": "forgetting", "score": 0.9})
    return pd.DataFrame([*base, *(one for name in names for one in rows_of_tuning(name))])
