"""The procedure of the authors' script, said again in our own words.

Source: kowndinya-renduchintala/WIT@3cde54fb ``instruction_tuner_wit_loss_no_fsdp.py``. Differs: one
device and float32, where the script's weights are bfloat16.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wit.models import load_model

STEP = 8  # rows; the last step of an epoch is short
LEARNING_RATE = 5e-3  # the paper's 2e-5 would hardly move a model in 20 steps
WARMUP = 0.05  # one of 20 steps; the paper's 1 % would be none


class Example(NamedTuple):
    """What the script makes of a row."""

    ids: list[int]
    labels: list[int]
    weights: list[float]


def authors_example(tokenizer: Any, row: dict[str, str], p: float, r: float) -> Example:
    """Prompt, one space and response tokenised together; the prompt's length is found alone."""
    prompt = row["prompt"].removesuffix(" ")
    # Their rows have a placeholder for the stop token; here it stands at the end of every row.
    ids = tokenizer(f"{prompt} {row['response']}{tokenizer.eos_token}").input_ids
    of_prompt = len(tokenizer(prompt).input_ids)
    weights = [p if place < of_prompt else r for place in range(len(ids))]
    labels = [-100 if weight == 0.0 else id for id, weight in zip(ids, weights, strict=True)]
    return Example(ids, labels, weights)


def authors_schedule(tick: int, num_ticks: int, warmup_fraction: float) -> float:
    """Part of the peak learning rate; the scheduler ticks once per update and device."""
    warmup = math.floor(warmup_fraction * num_ticks)
    if tick < warmup:
        return tick / warmup
    return 0.5 * (1 + math.cos(math.pi * (tick - warmup) / (num_ticks - warmup)))


def authors_losses(
    base: Path, examples: list[Example], orders: list[list[int]], *, decays_all: bool
) -> list[float]:
    """Loss of every update; an epoch's rows come one by one, ``STEP`` of them to an update."""
    model = load_model(base).train()
    named = dict(model.named_parameters())
    matrices = [weight for name, weight in named.items() if "norm" not in name]
    others = [weight for name, weight in named.items() if "norm" in name]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": 0.1},
            {"params": others, "weight_decay": 0.1 if decays_all else 0.0},
        ]
    )
    groups = [g for order in orders for g in groups_of(STEP, (examples[row] for row in order))]
    losses = []
    for update, group in enumerate(groups):
        for of_group in optimizer.param_groups:
            of_group["lr"] = LEARNING_RATE * authors_schedule(update, len(groups), WARMUP)
        count = sum(label != -100 for example in group for label in example.labels[1:])
        losses.append(0.0)
        for example in group:
            logits = model(torch.tensor([example.ids])).logits[0, :-1].float()
            labels = torch.tensor(example.labels[1:])
            weights = torch.tensor(example.weights[1:])
            kept = labels != -100
            log_probs = logits.log_softmax(-1)[kept].gather(1, labels[kept][:, None])[:, 0]
            loss = -(weights[kept] * log_probs).sum() / count
            loss.backward()
            losses[-1] += loss.item()
        optimizer.step()
        optimizer.zero_grad()
    return losses


def groups_of(size: int, items: Iterator[Example]) -> Iterator[list[Example]]:
    while group := list(islice(items, size)):
        yield group
