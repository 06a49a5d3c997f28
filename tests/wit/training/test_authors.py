"""The stage against the procedure of the authors' script; the order of rows is ours."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from authors_script import (
    LEARNING_RATE,
    STEP,
    WARMUP,
    Example,
    authors_example,
    authors_losses,
    authors_schedule,
)
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
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer, read_table
from wit.recipes import InstructionsRecipe, SFTKnobs, SFTRecipe, TokenizerRecipe
from wit.roles import Role
from wit.training.arguments import training_arguments
from wit.training.sft import train_sft
from wit.weights import TokenWeights

PAIRS = [(0.0, 1.0), (1.0, 1.0), (0.4, 0.6), (0.2, 0.0)]
SEED = 23
ROWS = 44  # before some are held out
EPOCHS = 4
# Boundaries at which a tokenizer is tempted to join prompt and response.
AWKWARD = [
    {"prompt": "Two spaces  ", "response": "and one more"},
    {"prompt": "A line ends here\n", "response": "and another begins"},
    {"prompt": "It begins with a line:", "response": "\nlike this\n"},
    {"prompt": "It begins with spaces:", "response": "  like this "},
    {"prompt": "naïve 東京", "response": "東京 👩\u200d👧"},
    {"prompt": "1 + 1 =", "response": "2"},
]


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
    numbers = read_table(prepared[0], TRAIN)["row"].to_pylist()
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
    rows = read_table(prepared[0], TRAIN).to_pylist()
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
