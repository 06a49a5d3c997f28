"""Contestants of the benchmark of a GPU: each trains two epochs, of which the second counts."""

import resource
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from wit.adapter_recipes import AdapterKnobs
from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.bench.arms import Run, peak_since, reset_peak, timed
from wit.bench.gpu_rows import SIZES, Training, rows_of
from wit.bench.sft import rows_and_tokens
from wit.builtin import BASE_DIR
from wit.config import Runtime
from wit.data.splits import TRAIN, lengths_of, read_split
from wit.errors import ConfigError, OutOfMemoryError
from wit.memory import is_out_of_memory
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training.adapters import with_adapters
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.reference import with_reference, write_reference
from wit.training.responses import SIDES
from wit.training.sft import make_trainer
from wit.training.steps import best_fit
from wit.weights import TokenWeights

Arm = Literal["ours", "plain", "reference"]
Precision = Literal["float32", "bfloat16"]
NUM_EPOCHS = 2  # the first warms up
WEIGHTS = TokenWeights(prompt=0.5, response=1)  # every token is a target, as in plain training
FINGERPRINT = "bench"


class Task(NamedTuple):
    """What a process is told."""

    training: Training
    num_steps: int  # of an epoch
    base: Path
    rows: Path  # a prepared set
    reference: Path  # where the reference stage writes, and DPO reads
    attention: str
    precision: Precision
    memory_bytes: int | None  # that it may take; None: all there is
    scratch: Path


class Clock(TrainerCallback):
    """Counts what goes through a model, and from half of the steps on takes the time."""

    def __init__(self, trainer: Trainer) -> None:
        """Listens to forwards of SFT, and to the collator of DPO, whose pairs share prompts.

        A GPU is not waited for until the time is taken.
        """
        self.counted: Any = 0
        self.before: Any = 0
        self.began = self.seconds = 0.0
        self.num_steps = 0
        if isinstance(trainer, AlignmentTrainer):
            self.collator: Any = trainer.data_collator
            trainer.data_collator = self._collate
        else:
            model: Any = trainer.model
            model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _collate(self, pairs: list[dict[str, Any]]) -> Any:
        lengths = [len(p["prompt_ids"]) + len(p[f"{side}_ids"]) for p in pairs for side in SIDES]
        self.counted = self.counted + torch.tensor([len(lengths), sum(lengths)])
        return self.collator(pairs)

    def _count(self, model: Any, args: Any, inputs: dict[str, torch.Tensor]) -> None:
        self.counted = self.counted + rows_and_tokens(inputs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Half of all steps are those of the first epoch."""
        if state.global_step * NUM_EPOCHS == state.max_steps:
            _finish()
            self.before, self.num_steps = self.counted, state.global_step
            self.began = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """All that was asked of the GPU has been done."""
        _finish()
        self.seconds = time.perf_counter() - self.began
        self.num_steps = state.global_step - self.num_steps

    @property
    def counts(self) -> dict[str, int]:
        """Of the epoch that counts; tokens without padding."""
        rows, tokens = (self.counted - self.before).tolist()
        return {"rows": rows, "tokens": tokens, "steps": self.num_steps}


def run(arm: Arm, task: Task) -> Run:
    """One contestant, in the process that calls it.

    Raises:
        OutOfMemoryError: Its message is the contestant's name.
    """
    try:
        if task.memory_bytes is not None:
            _limit_memory(task.memory_bytes)
        if arm == "reference":
            return _score(task)
        before = reset_peak()
        trainer = _trainer_of(arm, task)
        trainer.remove_callback(PrinterCallback)
        clock = Clock(trainer)
        trainer.add_callback(clock)
        trainer.train()
        return Run(clock.seconds, peak_since(before), clock.counts)
    except Exception as error:
        _lift_limit()  # or there is too little to say so
        if is_out_of_memory(error):
            raise OutOfMemoryError(arm) from None
        raise


def write_base(folder: Path, shape: dict[str, Any]) -> None:
    """A model with random weights in bfloat16, as they are published."""
    from transformers import LlamaConfig

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def sequences_per_step(training: Training, num_steps: int) -> int:
    """How many packed sequences the plain trainer takes at a time, which packs all rows at once.

    Raises:
        ConfigError: It would have another number of steps.
    """
    size = SIZES[training.size]
    rows = rows_of(training, num_steps * size.rows_per_step)
    num_sequences = len(best_fit(rows.sequences, size.tokens_at_once))
    of_step = -(-num_sequences // num_steps)
    if -(-num_sequences // of_step) != num_steps:
        raise ConfigError(
            f"--steps {num_steps}: the plain trainer packs the rows of {training.name} into "
            f"{num_sequences} sequences, which make no {num_steps} steps; give another number, "
            "such as 6"
        )
    return of_step


def _trainer_of(arm: Arm, task: Task) -> Trainer:
    rows = read_split(task.rows, TRAIN)
    if task.training.method == "dpo":
        return _of_dpo(task, with_reference(rows, task.reference, TRAIN))
    return _weighted(task, rows) if arm == "ours" else _plain(task, rows)


def _runtime(task: Task) -> Runtime:
    training, size = task.training, SIZES[task.training.size]
    return Runtime.model_validate(
        {
            "packing": training.layout == "packed",
            "packed_tokens": size.tokens_at_once,
            "micro_batch_size": max(1, size.tokens_at_once // training.length),
            "evaluation_batch_size": max(1, size.tokens_at_once // training.length),
            "attention": task.attention,
            "gradient_checkpointing": size.is_checkpointed,
        }
    )


def _knobs(task: Task) -> dict[str, Any]:
    return {
        "seed": 0,
        "num_epochs": NUM_EPOCHS,
        "examples_per_step": SIZES[task.training.size].rows_per_step,
        "learning_rate": 1e-6,  # random weights would diverge at more
        "precision": task.precision,
        "adapter": AdapterKnobs() if task.training.trained == "lora" else None,
    }


def _weighted(task: Task, rows: Dataset) -> Trainer:
    recipe = SFTRecipe(weights=WEIGHTS, **_knobs(task))
    tokenizer = load_tokenizer(BASE_DIR)
    return make_trainer(recipe, task.base, rows, tokenizer, task.scratch, _runtime(task))


def _plain(task: Task, rows: Dataset) -> Trainer:
    """TRL's own: its padding or packing, its loss, its steps."""
    recipe, runtime = SFTRecipe(weights=WEIGHTS, **_knobs(task)), _runtime(task)
    arguments = training_arguments(recipe, 0, runtime, task.scratch, len(rows))
    more: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    if runtime.packing:
        arguments["per_device_train_batch_size"] = 1
        arguments["gradient_accumulation_steps"] = sequences_per_step(task.training, task.num_steps)
        more = {"packing": True, "packing_strategy": "bfd"}
        arguments["max_length"] = runtime.packed_tokens
    ids = rows["input_ids"][:]
    model = load_model(task.base, attention=_attention(runtime))
    return SFTTrainer(
        model=_trainable(task, model, "sft.adapter"),
        args=SFTConfig(**arguments, **more, completion_only_loss=False),
        train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
        processing_class=load_tokenizer(BASE_DIR),
    )


def _of_dpo(task: Task, rows: Dataset) -> Trainer:
    recipe = DPORecipe(**_knobs(task))
    arguments = training_arguments(recipe, 0, _runtime(task), task.scratch, len(rows))
    trainer = AlignmentTrainer(
        _trainable(task, load_model(task.base), "dpo.adapter"),
        knobs=recipe,
        args=DPOConfig(**arguments, disable_dropout=True, precompute_ref_log_probs=True),
        train_dataset=rows,
        processing_class=load_tokenizer(BASE_DIR),
    )
    model: Any = trainer.model
    if task.training.trained == "lora" and "ref" in model.peft_config:
        model.delete_adapter("ref")  # as the stage does
    return trainer


def _score(task: Task) -> Run:
    """The reference stage, after a first time that loads the model and warms up."""
    recipe, runtime = ReferenceRecipe(precision=task.precision), _runtime(task)
    before = reset_peak()

    def write() -> None:
        write_reference(recipe, task.base, FINGERPRINT, task.rows, task.reference, runtime)

    task.reference.mkdir(parents=True, exist_ok=True)
    write()
    seconds = timed(write)
    peak = peak_since(before)
    rows = read_split(task.rows, TRAIN)
    prompts, *responses = (lengths_of(rows, f"{name}_ids") for name in ("prompt", *SIDES))
    num_tokens = sum(sum(prompts) + sum(of_side) for of_side in responses)
    return Run(seconds, peak, {"rows": 2 * len(rows), "tokens": num_tokens})


def _trainable(task: Task, model: Any, key: str) -> Any:
    adapter = _knobs(task)["adapter"]
    if adapter is None:
        return model
    torch.manual_seed(0)
    return with_adapters(model, adapter, key)


def _attention(runtime: Runtime) -> str | None:
    return None if runtime.attention == "auto" else runtime.attention


def _limit_memory(num_bytes: int) -> None:
    """Of the GPU; without one, of what this process may add to its addresses."""
    if torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, num_bytes / whole))
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + num_bytes
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _lift_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
