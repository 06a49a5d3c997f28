"""Tables of several studies, simulated."""

import numpy as np
import pandas as pd
from simulated import noisy, table_of

CELLS = [(0, 1), (0, 0.5), (0, 0.2), (0.5, 1), (0.2, 0.4), (1, 1), (0.5, 0.5), (1, 0.5), (1, 0)]


def study(name, generator, effects=None, noise=1.0, cells=CELLS, stages=("sft", "dpo"), seeds=1):
    frames = [
        table_of(stage, noisy(generator, effects or {}, noise=noise, num_seeds=seeds, cells=cells))
        for stage in stages
    ]
    return pd.concat(frames).assign(study=name)


def studies(count, effects=None, seed=0, **more):
    generator = np.random.default_rng(seed)
    return pd.concat([study(f"model {n}/data", generator, effects, **more) for n in range(count)])
