"""The recipe of the base model: ``python -m wit.builtin.pretrain --out DIR``.

Twenty minutes on one idle core. ``training.json`` beside the weights
records what a later reader needs to believe them.
"""

import argparse
import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random

import torch
import transformers
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from wit.builtin.tokenizer import BOS, CHAT_TOKENS, END, EOS, make_tokenizer
from wit.builtin.world import BROAD, FOCUSED, HARDEST, Mixture, documents
from wit.tokenizers import Tokenizer

logger = logging.getLogger(__name__)

NUM_RECORDED_STEPS = 20  # enough to see a changed recipe, few enough to re-run in a test


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own text, optimizer and learning rates."""

    mixture: Mixture
    seed: int  # of the text
    num_steps: int
    num_decay_steps: int  # where the cosine would reach 0; a phase may end before
    learning_rate: float  # peak
    num_warmup_steps: int


PHASES = (
    Phase(
        BROAD,
        seed=20250710,
        num_steps=2800,
        num_decay_steps=4000,
        learning_rate=3e-3,
        num_warmup_steps=100,
    ),
    Phase(
        FOCUSED,
        seed=20250711,
        num_steps=2000,
        num_decay_steps=2000,
        learning_rate=2e-3,
        num_warmup_steps=50,
    ),
    Phase(
        HARDEST,
        seed=20250712,
        num_steps=1600,
        num_decay_steps=1600,
        learning_rate=1.5e-3,
        num_warmup_steps=50,
    ),
)


@dataclass(frozen=True)
class PretrainRecipe:
    """Every value that decides the base weights."""

    seed: int = 20250710  # of the untrained weights
    phases: tuple[Phase, ...] = PHASES
    rows_per_step: int = 24  # more, smaller steps: the model waits for copying, not for less noise
    row_tokens: int = 128
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0
    num_layers: int = 4
    hidden_size: int = 160
    intermediate_size: int = 384
    num_heads: int = 5
    initial_std: float = 0.08  # 1 / sqrt(hidden_size)
    initial_embedding_std: float = 0.04
    max_positions: int = 512  # rows are shorter; rotary positions bear some extrapolation


def make_model(recipe: PretrainRecipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """The untrained model, always the same one for the same recipe."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        max_position_embeddings=recipe.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # a fifth less time than the fused kernel on short rows
    _initialise(model, recipe)
    return model


def _initialise(model: LlamaForCausalLM, recipe: PretrainRecipe) -> None:
    """Start every layer as the identity: what it writes to the residual stream is zero.

    A word then reaches the last layer as itself, which is half of copying it. With the library's
    start (all weights 0.02) the embeddings drown, and after 5 M tokens nothing was copied yet.
    """
    torch.manual_seed(recipe.seed)
    for name, weights in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(weights)
        elif "embed_tokens" in name:
            torch.nn.init.normal_(weights, std=recipe.initial_embedding_std)
        elif weights.dim() == 2:  # the rest are norms
            torch.nn.init.normal_(weights, std=recipe.initial_std)


def packed_batches(
    recipe: PretrainRecipe, phase: Phase, tokenizer: PreTrainedTokenizerFast
) -> Iterator[Tensor]:
    """Batches ``[rows_per_step, row_tokens]`` cut from one endless stream of documents.

    Every document ends with EOS; half of them begin with BOS, so that the model works with it (a
    chat) and without it (plain text).
    """
    rng = Random(phase.seed)
    stream = documents(phase.seed, phase.mixture)
    num_tokens = recipe.rows_per_step * recipe.row_tokens
    ids: list[int] = []
    while True:
        while len(ids) < num_tokens:
            texts = [rng.choice((BOS, "")) + text + EOS for text in islice(stream, 64)]
            for row in tokenizer(texts)["input_ids"]:
                ids += row
        yield torch.tensor(ids[:num_tokens]).view(recipe.rows_per_step, recipe.row_tokens)
        ids = ids[num_tokens:]


def learning_rate_factor(step: int, phase: Phase) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine towards 0."""
    if step < phase.num_warmup_steps:
        return (step + 1) / phase.num_warmup_steps
    done = (step - phase.num_warmup_steps) / (phase.num_decay_steps - phase.num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: LlamaForCausalLM,
    recipe: PretrainRecipe,
    phase: Phase,
    tokenizer: PreTrainedTokenizerFast,
) -> Iterator[float]:
    """Train ``model`` in place for one phase; yield each step's loss in nats per token.

    A caller may stop early: the steps taken do not depend on it.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=phase.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, phase)
    )
    model.train()
    for batch in islice(packed_batches(recipe, phase, tokenizer), phase.num_steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
        optimizer.step()
        schedule.step()
        yield loss.item()


def initialise_chat_tokens(
    model: LlamaForCausalLM, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Give chat tokens the mean embedding of the words, plus a tenth of a word's spread.

    Pretraining never shows them, so the softmax only pushed them away, all in one direction. From
    there a tuning of 200 steps would have to bring them back before it could tell them apart.
    """
    embeddings = model.model.embed_tokens.weight.data
    seen = torch.cat(list(islice(packed_batches(recipe, recipe.phases[0], tokenizer), 20))).unique()
    mean, spread = embeddings[seen].mean(0), embeddings[seen].std(0)
    generator = torch.Generator().manual_seed(recipe.seed)
    for token in CHAT_TOKENS:
        noise = torch.randn(mean.shape, generator=generator)
        embeddings[tokenizer.convert_tokens_to_ids(token)] = mean + 0.1 * spread * noise


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write weights, configuration and tokenizer in the Hugging Face layout."""
    stops = [tokenizer.convert_tokens_to_ids(token) for token in (END, EOS)]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def record(recipe: PretrainRecipe, losses: list[list[float]], directory: Path) -> dict:
    """What ``training.json`` says of the weights in ``directory``; ``losses`` are by phase."""
    num_steps = sum(phase.num_steps for phase in recipe.phases)
    return {
        "recipe": asdict(recipe),
        "first_losses": losses[0][:NUM_RECORDED_STEPS],
        "final_losses": [sum(phase[-100:]) / 100 for phase in losses],  # means of 100 steps
        "num_tokens": num_steps * recipe.rows_per_step * recipe.row_tokens,
        "num_threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sha256": hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest(),
    }


def pretrain(recipe: PretrainRecipe, out: Path) -> None:
    """Train the base model and leave it, with its record, in ``out``.

    A phase that was finished before is not trained again: its weights and losses stand in
    ``out/phase-N``.
    """
    tokenizer = make_tokenizer()
    model = make_model(recipe, tokenizer)
    losses: list[list[float]] = []
    for number, phase in enumerate(recipe.phases, start=1):
        finished = out / f"phase-{number}"
        if not (finished / "losses.json").exists():
            trained = train(model, recipe, phase, tokenizer)
            phase_losses = logged(trained, f"phase {number}")
            save(model, tokenizer, finished)
            (finished / "losses.json").write_text(json.dumps(phase_losses), encoding="utf-8")
        model = LlamaForCausalLM.from_pretrained(finished, attn_implementation="eager")
        losses.append(json.loads((finished / "losses.json").read_text(encoding="utf-8")))
    initialise_chat_tokens(model, recipe, tokenizer)
    save(model, tokenizer, out)
    text = json.dumps(record(recipe, losses, out), indent=2)
    (out / "training.json").write_text(text + "\n", encoding="utf-8")


def logged(losses: Iterator[float], name: str) -> list[float]:
    """All losses, with a log line for every 20 of them."""
    start = time.monotonic()
    seen: list[float] = []
    for loss in losses:
        seen.append(loss)
        if len(seen) % 20 == 0:
            mean, seconds = sum(seen[-20:]) / 20, time.monotonic() - start
            logger.info("%s step %d loss %.4f %.0f s", name, len(seen), mean, seconds)
    return seen


def main() -> None:
    """Command line: ``--out DIR``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a second thread gains a third, and loses it all on a busy machine
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pretrain(PretrainRecipe(), arguments.out)


if __name__ == "__main__":
    main()
