"""The recipe of the base model: ``python -m wit.builtin.pretrain --out DIR``.

A quarter of an hour on two idle cores. Snapshots are saved on the way; ``training.json`` beside the
weights records what a later reader needs to believe them.
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
from wit.builtin.world import documents

logger = logging.getLogger(__name__)

NUM_RECORDED_STEPS = 20  # enough to see a changed recipe, few enough to re-run in a test
SNAPSHOT_STEPS = 200


@dataclass(frozen=True)
class PretrainRecipe:
    """Every value that decides the base weights."""

    seed: int = 20250710
    num_steps: int = 4000
    rows_per_step: int = 24  # more, smaller steps: the model waits for copying, not for less noise
    row_tokens: int = 128
    learning_rate: float = 3e-3  # peak
    num_warmup_steps: int = 100
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


def make_model(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model, always the same one for the same recipe."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        max_position_embeddings=recipe.max_positions,
        attn_implementation="eager",  # a fifth less time than the fused kernel on rows this short
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
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


def packed_batches(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Tensor]:
    """Batches ``[rows_per_step, row_tokens]`` cut from one endless stream of documents.

    Every document ends with EOS; half of them begin with BOS, so that the model works with it (a
    chat) and without it (plain text).
    """
    rng = Random(recipe.seed)
    stream = documents(recipe.seed)
    num_tokens = recipe.rows_per_step * recipe.row_tokens
    ids: list[int] = []
    while True:
        while len(ids) < num_tokens:
            texts = [rng.choice((BOS, "")) + text + EOS for text in islice(stream, 64)]
            for row in tokenizer(texts)["input_ids"]:
                ids += row
        yield torch.tensor(ids[:num_tokens]).view(recipe.rows_per_step, recipe.row_tokens)
        ids = ids[num_tokens:]


def learning_rate_factor(step: int, recipe: PretrainRecipe) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to 0."""
    if step < recipe.num_warmup_steps:
        return (step + 1) / recipe.num_warmup_steps
    done = (step - recipe.num_warmup_steps) / (recipe.num_steps - recipe.num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: LlamaForCausalLM, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast
) -> Iterator[float]:
    """Train ``model`` in place; yield each step's loss in nats per token.

    A caller may stop early: the steps taken do not depend on it.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, recipe)
    )
    model.train()
    for batch in islice(packed_batches(recipe, tokenizer), recipe.num_steps):
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
    embeddings = model.get_input_embeddings().weight.data
    seen = torch.cat(list(islice(packed_batches(recipe, tokenizer), 20))).unique()
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


def record(recipe: PretrainRecipe, losses: list[float], directory: Path, seconds: float) -> dict:
    """What ``training.json`` says of the weights in ``directory``."""
    final = losses[-100:]
    return {
        "recipe": asdict(recipe),
        "first_losses": losses[:NUM_RECORDED_STEPS],
        "final_loss": sum(final) / len(final),  # mean of the last 100 steps
        "num_tokens": len(losses) * recipe.rows_per_step * recipe.row_tokens,
        "num_threads": torch.get_num_threads(),
        "seconds": round(seconds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sha256": hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest(),
    }


def pretrain(recipe: PretrainRecipe, out: Path) -> None:
    """Train the base model and leave it, with its record, in ``out``."""
    tokenizer = make_tokenizer()
    model = make_model(recipe, tokenizer)
    losses: list[float] = []
    start = time.monotonic()
    for step, loss in enumerate(train(model, recipe, tokenizer), start=1):
        losses.append(loss)
        if step % 20 == 0:
            seconds = time.monotonic() - start
            logger.info("step %d loss %.4f %.0f s", step, sum(losses[-20:]) / 20, seconds)
        if step % SNAPSHOT_STEPS == 0:
            save(model, tokenizer, out / "snapshot")
    initialise_chat_tokens(model, recipe, tokenizer)
    save(model, tokenizer, out)
    text = json.dumps(record(recipe, losses, out, time.monotonic() - start), indent=2)
    (out / "training.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Command line: ``--out DIR`` and, for trials, ``--num-steps N``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-steps", type=int, default=PretrainRecipe.num_steps)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a second thread gains a third, and loses it all on a busy machine
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pretrain(PretrainRecipe(num_steps=arguments.num_steps), arguments.out)


if __name__ == "__main__":
    main()
