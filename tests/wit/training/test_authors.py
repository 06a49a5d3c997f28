"""The stage against the procedure of the authors' script, said again in our own words.

Source: kowndinya-renduchintala/WIT@3cde54fb ``instruction_tuner_wit_loss_no_fsdp.py``. Differs: one
device and float32, where the script's weights are bfloat16; the order of rows is ours.
"""

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from samples import write_jsonl
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_scheduler,
)

from wit.builtin import DATA_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer
from wit.models import load_model
from wit.recipes import InstructionsRecipe, SFTKnobs, SFTRecipe, TokenizerRecipe
from wit.roles import Role
from wit.training.arguments import training_arguments
from wit.training.sft import train_sft
from wit.weights import TokenWeights

PAIRS = [(0.0, 1.0), (1.0, 1.0), (0.4, 0.6), (0.2, 0.0)]
SEED = 23
ROWS = 44  # before some are held out
STEP = 8  # rows; the last step of an epoch is short
EPOCHS = 4
LEARNING_RATE = 5e-3  # the paper's 2e-5 would hardly move a model in 20 steps
WARMUP = 0.05  # one of 20 steps; the paper's 1 % would be none
# Boundaries at which a tokenizer is tempted to join prompt and response.
AWKWARD = [
    {"prompt": "Two spaces  ", "response": "and one more"},
    {"prompt": "A line ends here\n", "response": "and another begins"},
    {"prompt": "It begins with a line:", "response": "\nlike this\n"},
    {"prompt": "It begins with spaces:", "response": "  like this "},
    {"prompt": "naïve 東京", "response": "東京 👩\u200d👧"},
    {"prompt": "1 + 1 =", "response": "2"},
]


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


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Single turns of the embedded data; some prompts end in a space, which the script strips."""
    found = []
    with (DATA_DIR / "instructions.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            turns = json.loads(line)["messages"]
            if [turn["role"] for turn in turns] == ["user", "assistant"]:
                space = " " if number % 3 == 0 else ""
                prompt, response = (turn["content"] for turn in turns)
                found.append({"prompt": prompt + space, "response": response})
    return AWKWARD + found[:ROWS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> Path:
    """Tiny, with a tokenizer like Llama 3's: it joins a space to a word, and puts BOS in front."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<bos>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([f"{r['prompt']} {r['response']}" for r in rows], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>"
    )
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], base: Path
) -> tuple[Path, Path]:
    """Folders of instructions and tokenizer, as the data stages make them."""
    folder = tmp_path_factory.mktemp("data")
    tokenizer, instructions = folder / "tokenizer", folder / "instructions"
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(template="plain"), base, tokenizer)
    file = write_jsonl(folder / "rows.jsonl", rows)
    recipe = InstructionsRecipe(path=str(file), held_out_fraction=0.2)
    make_instructions(recipe, file, tokenizer, instructions)
    return instructions, tokenizer


@pytest.fixture(scope="module")
def examples(
    base: Path, rows: list[dict[str, str]], prepared: tuple[Path, Path]
) -> dict[tuple[float, float], list[Example]]:
    """What the script makes of the training rows, for every pair of weights."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    numbers = pq.read_table(prepared[0] / f"{TRAIN}.parquet")["row"].to_pylist()
    return {
        pair: [authors_example(tokenizer, rows[number - 1], *pair) for number in numbers]
        for pair in PAIRS
    }


def our_orders(num_rows: int) -> list[list[int]]:
    """Rows of every epoch. The script shuffles too, but with other random numbers."""
    sampler = SeedableRandomSampler(range(num_rows), data_seed=SEED)
    orders = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return orders


def our_losses(
    base: Path, prepared: tuple[Path, Path], out: Path, pair: tuple[float, float], **knobs: Any
) -> list[float]:
    recipe = SFTRecipe(
        weights=TokenWeights(prompt=pair[0], response=pair[1]),
        seed=SEED,
        learning_rate=LEARNING_RATE,
        num_epochs=EPOCHS,
        examples_per_step=STEP,
        warmup_fraction=WARMUP,
        **knobs,
    )
    losses = []

    def log(figures: dict[str, float], step: int) -> None:
        if "loss" in figures:
            losses.append(figures["loss"])

    runtime = Runtime(device="cpu", micro_batch_size=3)
    out.mkdir(parents=True)
    train_sft(recipe, base, *prepared, out, runtime, log)
    return losses


def test_the_script_counts_the_joining_space_to_the_response(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    example = authors_example(tokenizer, AWKWARD[-1], 0.4, 0.6)
    texts = [tokenizer.decode(id) for id in example.ids]
    assert texts == ["<bos>", *texts[1:-2], " 2", "<eos>"]
    assert example.weights == [0.4] * (len(texts) - 2) + [0.6, 0.6]


@pytest.mark.parametrize("pair", PAIRS)
def test_rows_have_the_tokens_and_weights_of_the_authors_script(
    pair: tuple[float, float],
    prepared: tuple[Path, Path],
    examples: dict[tuple[float, float], list[Example]],
) -> None:
    table = TokenWeights(prompt=pair[0], response=pair[1]).by_role()
    rows = pq.read_table(prepared[0] / f"{TRAIN}.parquet").to_pylist()
    assert len(rows) == len(examples[pair])
    for row, example in zip(rows, examples[pair], strict=True):
        assert row["input_ids"] == example.ids
        # The first token is no target: the script gives BOS the weight of the prompt.
        assert [table[Role(role)] for role in row["roles"][1:]] == example.weights[1:]


@pytest.mark.parametrize("pair", PAIRS)
def test_losses_are_those_of_the_authors_script_step_for_step(
    pair: tuple[float, float],
    base: Path,
    prepared: tuple[Path, Path],
    examples: dict[tuple[float, float], list[Example]],
    tmp_path: Path,
) -> None:
    ours = our_losses(base, prepared, tmp_path / "sft", pair, decay_norms=True)
    orders = our_orders(len(examples[pair]))
    theirs = authors_losses(base, examples[pair], orders, decays_all=True)
    assert len(ours) == len(theirs) == 20
    assert len(examples[pair]) % STEP, "the last step of an epoch is short"
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_norms_decay_only_if_asked_to(
    base: Path,
    prepared: tuple[Path, Path],
    examples: dict[tuple[float, float], list[Example]],
    tmp_path: Path,
) -> None:
    ours = our_losses(base, prepared, tmp_path / "sft", (0.4, 0.6))
    orders = our_orders(len(examples[0.4, 0.6]))
    theirs = authors_losses(base, examples[0.4, 0.6], orders, decays_all=False)
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(("num_rows", "epochs"), [(150_000, 1), (51_760, 2), (1_000, 5)])
def test_the_learning_rate_of_the_papers_runs_is_theirs_but_for_parts_of_a_step(
    num_rows: int, epochs: int, tmp_path: Path
) -> None:
    """Eight devices with accumulation over eight: a tick is an eighth of a step."""
    num_ticks = epochs * math.ceil(num_rows / 8)
    knobs = SFTKnobs(num_epochs=epochs)
    arguments = training_arguments(knobs, SEED, Runtime(device="cpu"), tmp_path, num_rows)
    num_steps = epochs * math.ceil(num_rows / 64)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    scheduler = get_scheduler(
        arguments["lr_scheduler_type"], optimizer, arguments["warmup_steps"], num_steps
    )
    for step in range(num_steps):
        [ours] = scheduler.get_last_lr()
        theirs = authors_schedule(8 * step, num_ticks, knobs.warmup_fraction)
        assert ours == pytest.approx(theirs, abs=0.025)
        assert ours != 0 or step == 0, "the first update alone changes nothing"
        assert theirs != 0 or step == 0
        optimizer.step()
        scheduler.step()
