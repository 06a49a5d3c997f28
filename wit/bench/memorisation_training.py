"""One training on pairs of UUIDs, and what the model recalls of them on the way."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from wit.adapter_recipes import AdapterKnobs
from wit.bench.memorisation_pairs import (
    LENGTH,
    Pair,
    accuracy_without_keys,
    character_accuracy,
    draw_pairs,
)
from wit.bench.memorisation_results import Training
from wit.bench.sft import Counter
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_instructions, make_tokenizer, read_split
from wit.data.schema import Message
from wit.generation.encoding import PromptEncoder
from wit.generation.greedy import generate
from wit.models import check_finite, evaluating, load_model
from wit.recipes import InstructionsRecipe, SFTRecipe, TokenizerRecipe
from wit.tokenizers import Tokenizer, load_tokenizer
from wit.training.adapters import merged
from wit.training.sft import make_trainer, save_model
from wit.training.trainer import WeightedSFTTrainer
from wit.weights import TokenWeights

WARM_UP_STEPS = 20
FORM_SEED = 1_000_000  # of UUIDs that are repeated, not memorised
FORM_RATE = 2e-3
UUIDS_PER_STEP = 8  # of those
NUM_ASKED = 64  # others of those, that it shall repeat
PAIRS_AT_ONCE = 256  # that are generated; no response depends on it
MAX_NEW_TOKENS = LENGTH + 4  # the stop token, and room to be too long
NEGLIGIBLE = 1e-3  # of the largest singular value


class Size(NamedTuple):
    """How much is memorised, and for how long."""

    num_pairs: int
    pairs_per_step: int
    looks: tuple[int, ...]  # optimizer steps after which accuracy is measured; the last ends it


class Taught(NamedTuple):
    """A base that knows what UUIDs look like."""

    base: Path
    accuracy: float  # of repeating others than it was taught with


class Prepared(NamedTuple):
    """Pairs of one seed, as they are trained on."""

    pairs: list[Pair]
    seed: int
    base: Path
    folder: Path

    @property
    def floor(self) -> float:
        """Accuracy of the best response that heeds no key."""
        return accuracy_without_keys([pair.partner for pair in self.pairs])


def prepare(pairs: list[Pair], seed: int, base: Path, folder: Path) -> Prepared:
    """Tokenises pairs as rows of a study, with the template of the base."""
    folder.mkdir()
    rows, tokenizer, instructions = (folder / n for n in ("pairs.jsonl", "tokenizer", TRAIN))
    lines = [json.dumps({"prompt": one.key, "response": one.partner}) + "\n" for one in pairs]
    rows.write_text("".join(lines), encoding="utf-8")
    tokenizer.mkdir()
    instructions.mkdir()
    make_tokenizer(TokenizerRecipe(), base, tokenizer)
    recipe = InstructionsRecipe(path=str(rows), held_out_fraction=0.0)
    make_instructions(recipe, rows, tokenizer, instructions)
    return Prepared(pairs, seed, base, folder)


def teach_form(base: Path, num_uuids: int, folder: Path) -> Taught:
    """Trains all weights of the base to repeat UUIDs, each of which it sees once.

    The embedded base was pretrained on text without the tokens b, c, d, f and the dash. Adapters
    train no embedding, so full tuning alone would learn to tell them apart, and what is measured
    would be that. LLaMA, which the paper tunes, knows them.

    Args:
        base: Folder of the model.
        num_uuids: How many; none is of the pairs that are memorised then.
        folder: Where to write.
    """
    echoes = [Pair(pair.key, pair.key) for pair in draw_pairs(num_uuids + NUM_ASKED, FORM_SEED)]
    taught, asked = echoes[:num_uuids], echoes[num_uuids:]
    data = prepare(taught, FORM_SEED, base, folder)
    num_steps = -(-num_uuids // UUIDS_PER_STEP)
    size = Size(num_uuids, UUIDS_PER_STEP, (num_steps,))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer_of(data, None, FORM_RATE, size, Path(scratch))
        trainer.train()
    model: Any = trainer.model
    tokenizer = data.folder / "tokenizer"
    responses = recall(model, load_tokenizer(tokenizer), asked)
    save_model(model, tokenizer, folder / "taught")
    return Taught(folder / "taught", character_accuracy(responses, [one.key for one in asked]))


def train(
    method: str, adapter: AdapterKnobs | None, learning_rate: float, size: Size, data: Prepared
) -> Training:
    """Trains the base to answer every key with its partner, and asks it on the way.

    Loss is on responses alone. The learning rate falls linearly after a short warm-up, to 0 at the
    last look: where else one looks changes nothing.

    Raises:
        TrainingError: A weight is not finite.
    """
    tokenizer = load_tokenizer(data.folder / "tokenizer")
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer_of(data, adapter, learning_rate, size, Path(scratch))
        model: Any = trainer.model
        counter = _OfTraining(model)
        recalled: list[list[str]] = []

        def look() -> None:
            recalled.append(recall(model, tokenizer, data.pairs))

        trainer.add_callback(_Looks(size.looks, look))
        num_trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        trainer.train()
    partners = [pair.partner for pair in data.pairs]
    plain = merged(model)
    check_finite(plain, f"{method}, learning rate {learning_rate:g}")
    return Training(
        method=method,
        learning_rate=learning_rate,
        seed=data.seed,
        num_trained=num_trained,
        accuracies=tuple(character_accuracy(responses, partners) for responses in recalled),
        update_rank=median(ranks_of_update(plain, data.base)),
        work={**counter.counts, "steps": trainer.state.global_step},
    )


def make_trainer_of(
    data: Prepared, adapter: AdapterKnobs | None, learning_rate: float, size: Size, scratch: Path
) -> WeightedSFTTrainer:
    """That of a study, for the pairs."""
    tokenizer = load_tokenizer(data.folder / "tokenizer")
    rows = read_split(data.folder / TRAIN, TRAIN)
    recipe = recipe_of(adapter, learning_rate, size, data.seed)
    trainer = make_trainer(recipe, data.base, rows, tokenizer, scratch, Runtime())
    trainer.remove_callback(PrinterCallback)  # a line for every step
    return trainer


def recipe_of(
    adapter: AdapterKnobs | None, learning_rate: float, size: Size, seed: int
) -> SFTRecipe:
    """Of a training that has more steps than its warm-up, and at least as many as are wanted."""
    steps_per_epoch = -(-size.num_pairs // size.pairs_per_step)
    num_epochs = -(-max(size.looks[-1], WARM_UP_STEPS + 1) // steps_per_epoch)
    return SFTRecipe(
        weights=TokenWeights(prompt=0, response=1),
        seed=seed,
        learning_rate=learning_rate,
        num_epochs=num_epochs,
        examples_per_step=size.pairs_per_step,
        weight_decay=0.0,
        schedule="linear",
        warmup_fraction=WARM_UP_STEPS / (num_epochs * steps_per_epoch),
        max_grad_norm=1.0,
        adapter=adapter,
    )


def recall(model: Any, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[str]:
    """What the model answers to every key, as it is now."""
    encoder = PromptEncoder(tokenizer)
    prompts = [encoder.ids((Message("user", pair.key),)) for pair in pairs]
    with evaluating(model):
        found = generate(
            model, tokenizer, prompts, max_new_tokens=MAX_NEW_TOKENS, batch_size=PAIRS_AT_ONCE
        )
    return [response.text for response in found]


def ranks_of_update(model: Any, base: Path) -> list[int]:
    """Of what was added to each linear layer: singular values that are not negligible."""
    before: dict[str, Any] = dict(load_model(base, model.device).named_modules())
    return [
        rank_of(module.weight.detach() - before[name].weight.detach())
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]


def rank_of(matrix: Tensor) -> int:
    """Singular values above a thousandth of the largest one."""
    values = torch.linalg.svdvals(matrix.double())
    return int((values > NEGLIGIBLE * values.max()).sum())


class _OfTraining(Counter):
    """Counts what is trained on, and not what is generated."""

    def _count(self, model: Any, args: Any, inputs: dict[str, Tensor]) -> None:
        if model.training:
            super()._count(model, args, inputs)


class _Looks(TrainerCallback):
    """Calls ``look()`` after some steps, and ends the training after the last of them."""

    def __init__(self, steps: Sequence[int], look: Callable[[], None]) -> None:
        self.steps = steps
        self.look = look

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step in self.steps:
            self.look()
        if state.global_step == self.steps[-1]:
            control.should_training_stop = True
