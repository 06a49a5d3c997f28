"""Weighted SFT, packed, against the way of the loop that was published with the paper.

That loop takes padded batches, computes all logits, and gathers from their ``log_softmax`` in
float32; it is stated again here. Both take the same rows in every step.
"""

import gc
import multiprocessing
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist, median
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from wit.bench import sft
from wit.bench.arms import Run, in_turns, peak_since, reset_peak, timed
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.builtin import BASE_DIR
from wit.config import Runtime
from wit.data.collate import RoleCollator
from wit.data.prepare import TRAIN, read_split
from wit.errors import StageError
from wit.models import choose_device, load_model
from wit.recipes import SFTRecipe
from wit.roles import Role
from wit.tokenizers import load_tokenizer
from wit.training.sft import make_trainer
from wit.weights import TokenWeights

Size = Literal["embedded base", "vocabulary 128k"]
Way = Literal["packed", "published"]
VOCABULARY = 128_256
LONGEST = 2048  # tokens
SPREAD = 1.0  # standard deviation of the logarithm of a row's length
TOLERANCE = 1e-4  # of the loss, and of a gradient over its norm: rounding


class Contest(NamedTuple):
    """What both ways train on, and the aims."""

    num_rows: int
    examples_per_step: int
    micro_batch: int  # rows in a batch of the published way
    least_speed: float  # times the tokens/s of the published way
    most_memory: float | None = None  # times its peak


CONTESTS: dict[Size, Contest] = {
    "embedded base": Contest(256, 32, 32, least_speed=1.3),
    "vocabulary 128k": Contest(4, 4, 2, least_speed=2.0, most_memory=0.5),
}


class Parts(NamedTuple):
    """What both ways get."""

    base: Path
    rows: Dataset
    tokenizer: Any
    recipe: SFTRecipe
    micro_batch: int


def measure(repeats: int, sizes: Iterable[Size] = tuple(CONTESTS)) -> BenchResult:
    """Trains both ways in turns, each in a process of its own, once they agree on a first step.

    Args:
        repeats: Turns.
        sizes: Of the model and its rows.

    Raises:
        StageError: Loss or gradients differ, or one way did more or less than the other.
    """
    figures: list[Figure] = []
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for size in sizes:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                process.apply(check_first_step, (size, Path(folder)))
            arms = {way: (run, (size, way, Path(folder))) for way in ("packed", "published")}
            runs = in_turns(arms, repeats)
            figures += figures_of(size, runs["packed"], runs["published"], Path(folder))
            did = same_work({way: turns[0].counts for way, turns in runs.items()})
            counts |= {f"{size}: {name}": number for name, number in did.items()}
    return BenchResult(
        name="sft-reference",
        ours="weighted SFT, rows packed end to end, head and loss in one pass",
        baseline="padded batches, all logits in float32, log_softmax, gather, sum / count",
        figures=tuple(figures),
        sizes={f"{size}, rows per batch": CONTESTS[size].micro_batch for size in sizes},
        same_work=counts,
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl"),
    )


def figures_of(size: Size, ours: list[Run], baseline: list[Run], folder: Path) -> list[Figure]:
    """Speed, with what the device's fastest products would allow, and peak memory."""
    parts = parts_of(size, folder)
    limit, why = sft.limit_of(parts.base, parts.rows)
    theirs = tuple(sft.tokens_per_second(run) for run in baseline)
    return [
        Figure(
            quantity=f"tokens/s, {size}",
            ours=tuple(sft.tokens_per_second(run) for run in ours),
            baseline=theirs,
            at_least=CONTESTS[size].least_speed,
            limit=limit / median(theirs),
            limit_is=why,
        ),
        Figure(
            quantity=f"peak memory, MiB, {size}",
            ours=tuple(sft.peak_mib(run) for run in ours),
            baseline=tuple(sft.peak_mib(run) for run in baseline),
            at_most=CONTESTS[size].most_memory,
        ),
    ]


def prepare(folder: Path) -> None:
    """The embedded instructions, and a little model whose vocabulary is as large as Llama 3's."""
    sft.prepare(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "large vocabulary")


def parts_of(size: Size, folder: Path) -> Parts:
    """Model, rows and recipe."""
    contest = CONTESTS[size]
    if size == "embedded base":
        base = BASE_DIR
        rows = read_split(folder / "instructions", TRAIN).select(range(contest.num_rows))
    else:
        base, rows = folder / "large vocabulary", random_rows(contest.num_rows)
    recipe = SFTRecipe(
        weights=TokenWeights(prompt=0.4, response=0.8),
        seed=0,
        num_epochs=1,
        schedule="constant",
        warmup_fraction=0.0,
        decay_norms=True,
        examples_per_step=contest.examples_per_step,
    )
    return Parts(base, rows, load_tokenizer(folder / "tokenizer"), recipe, contest.micro_batch)


def random_rows(num_rows: int) -> Dataset:
    """Random ids, a third of them a prompt; lengths spread as those of instruction data do."""
    places = [NormalDist().inv_cdf((row + 0.5) / num_rows) for row in range(num_rows)]
    shares = [2.718281828 ** (SPREAD * (place - places[-1])) for place in places]
    generator = torch.Generator().manual_seed(0)
    lengths = [max(8, round(LONGEST * shares[i])) for i in torch.randperm(num_rows).tolist()]
    ids = [torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths]
    prompts = [length // 3 for length in lengths]
    return Dataset.from_dict(
        {
            "input_ids": [row.tolist() for row in ids],
            "roles": [
                [int(Role.PROMPT)] * of_prompt + [int(Role.RESPONSE)] * (length - of_prompt)
                for of_prompt, length in zip(prompts, lengths, strict=True)
            ],
            "source": [""] * num_rows,
            "factors": [None] * num_rows,
        }
    )


def run(size: Size, way: Way, folder: Path) -> Run:
    """One way, in the process that calls it; the shortest rows warm it up."""
    gc.freeze()  # as a worker does: what was imported stays, and need not be looked at again
    parts = parts_of(size, folder)
    before = reset_peak()
    train = {"packed": _train_packed, "published": _train_published}[way]
    train(parts._replace(rows=_shortest(parts)))
    gc.collect()
    seconds, counts = train(parts)
    return Run(seconds, peak_since(before), counts)


def check_first_step(size: Size, folder: Path) -> None:
    """Compares loss and gradients of both ways on a step of the shortest rows.

    Raises:
        StageError: They differ by more than rounding.
    """
    parts = parts_of(size, folder)
    parts = parts._replace(rows=_shortest(parts))
    trainer: Any = _trainer(parts, folder)
    [step], totals = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, "cpu")
    ours = trainer.training_step(trainer.model, step, totals)
    model = _model(parts)
    theirs, _ = published_step(model, _padded(parts, range(len(parts.rows))))
    of_ours = dict(trainer.model.named_parameters())
    errors = {"loss": abs(ours.item() / theirs - 1)} | {
        name: ((weight.grad - of_ours[name].grad).norm() / weight.grad.norm()).item()
        for name, weight in model.named_parameters()
    }
    name, error = max(errors.items(), key=lambda each: each[1])
    if not error <= TOLERANCE:
        raise StageError(f"{size}: the two ways differ by {error:.2g} in {name}")


def published_step(model: Any, batches: list[dict[str, Tensor]]) -> tuple[float, int]:
    """Forward and backward of one optimizer step, as published; its loss, and its targets."""
    total = 0.0
    count = sum(int((batch["token_weights"][:, 1:] != 0).sum()) for batch in batches)
    for batch in batches:
        ids, mask, weights = (
            batch[name].to(model.device)
            for name in ("input_ids", "attention_mask", "token_weights")
        )
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        log_probs = torch.log_softmax(logits[:, :-1], dim=-1)
        of_targets = log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        loss = -(of_targets * weights[:, 1:]).sum() / count
        loss.backward()
        total += loss.item()
    return total, count


def _train_published(parts: Parts) -> tuple[float, dict[str, int]]:
    model = _model(parts)
    counter, recipe = sft.Counter(model), parts.recipe
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    size = recipe.examples_per_step
    order = torch.randperm(len(parts.rows), generator=torch.Generator().manual_seed(0)).tolist()
    steps = [order[start : start + size] for start in range(0, len(order), size)]

    def train() -> None:
        for rows in steps:
            _, count = published_step(model, _padded(parts, rows))
            counter.counts["targets"] += count
            optimizer.step()
            optimizer.zero_grad()

    seconds = timed(train)
    return seconds, {**counter.counts, "steps": len(steps)}


def _train_packed(parts: Parts) -> tuple[float, dict[str, int]]:
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft.silent(_trainer(parts, Path(scratch)))
        counter = sft.Counter(trainer.model)  # pyright: ignore[reportArgumentType]
        seconds = timed(trainer.train)
    return seconds, {**counter.counts, "steps": trainer.state.global_step}


def _trainer(parts: Parts, scratch: Path) -> Any:
    runtime = Runtime(packing=True, micro_batch_size=parts.micro_batch)
    return make_trainer(parts.recipe, parts.base, parts.rows, parts.tokenizer, scratch, runtime)


def _model(parts: Parts) -> Any:
    return load_model(parts.base, choose_device("auto")).train()


def _padded(parts: Parts, rows: Iterable[int]) -> list[dict[str, Tensor]]:
    collator = RoleCollator(parts.recipe.weights, 0)
    chosen: Any = parts.rows.select(list(rows)).to_list()
    starts = range(0, len(chosen), parts.micro_batch)
    return [collator(chosen[start : start + parts.micro_batch]) for start in starts]


def _shortest(parts: Parts) -> Dataset:
    lengths = [len(ids) for ids in parts.rows["input_ids"]]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return parts.rows.select(order[: parts.recipe.examples_per_step // 2])
