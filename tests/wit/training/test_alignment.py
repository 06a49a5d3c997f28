"""Every objective in training: what TRL's own trainer makes of a step, splits, learning, LoRA."""

from pathlib import Path
from typing import Any

import pytest
import torch
from aligned import align, recipe, reference_of, references_of
from datasets import Dataset
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers.models.llama.modeling_llama import LlamaAttention
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from wit.adapter_recipes import AdapterKnobs
from wit.alignment.objectives import NAMES, OBJECTIVES, ObjectiveName
from wit.alignment_recipes import DPORecipe
from wit.config import Runtime
from wit.data.prepare import TRAIN, read_split
from wit.errors import ArtifactError, ConfigError
from wit.likelihood import token_log_probs
from wit.models import load_model
from wit.tokenizers import load_tokenizer
from wit.training.adapters import ADAPTER
from wit.training.alignment_trainer import AlignmentTrainer
from wit.training.arguments import training_arguments
from wit.training.dpo import rows_of
from wit.training.reference import with_reference

# TRL's name for the same loss.
OF_TRL: dict[ObjectiveName, dict[str, Any]] = {
    "dpo": {"loss_type": ["sigmoid"]},
    "dpo-norm": {"loss_type": ["sigmoid_norm"]},
    "robust-dpo": {"loss_type": ["robust"], "label_smoothing": 0.1},
    "ipo": {"loss_type": ["ipo"]},
    "sppo-hard": {"loss_type": ["sppo_hard"]},
    "apo-zero": {"loss_type": ["apo_zero"]},
    "apo-down": {"loss_type": ["apo_down"]},
}
MIXED = {"loss_weights": {"dpo": 1.0, "ipo": 0.1, "sft": 0.5}}


def loss_of_trl(
    policy: Path, reference: Path, rows: list[Any], beta: float, out: Path, **knobs: Any
) -> float:
    """Of one batch, by TRL's own trainer with the reference model in memory."""
    tokenizer = load_tokenizer(reference / "model")
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    data: Any = [{name: row[name] for name in names} for row in rows]

    class Unprepared(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    trainer = Unprepared(
        model=load_model(policy),
        ref_model=load_model(reference / "model"),
        args=DPOConfig(
            output_dir=str(out),
            beta=beta,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            max_length=None,
            report_to="none",
            **knobs,
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
    )
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id or 0)(data)
    model: Any = trainer.model
    return trainer.compute_loss(model, dict(batch)).item()


def our_loss(policy: Path, folder: Path, rows: Any, chosen: DPORecipe, out: Path) -> float:
    trainer = AlignmentTrainer(
        load_model(policy),
        knobs=chosen,
        args=DPOConfig(
            **training_arguments(chosen, 0, Runtime(device="cpu"), out, len(rows)),
            precompute_ref_log_probs=True,
        ),
        train_dataset=rows,
        processing_class=load_tokenizer(folder / "model"),
    )
    batch: Any = trainer.data_collator(rows.to_list())
    model: Any = trainer.model.eval()
    return trainer.compute_loss(model, batch).item()


@pytest.mark.parametrize("name", OF_TRL)
def test_a_step_has_the_loss_that_trl_gives_it_with_the_reference_in_memory(
    policy: Path, base: Path, preferences: Path, tmp_path: Path, name: ObjectiveName
) -> None:
    """Read from the stage and computed on the fly, in other batches with other padding."""
    chosen = recipe(objective=name, beta=0.3)
    references = [
        reference_of(policy, preferences, tmp_path / "reference", evaluation_batch_size=3)
    ]
    rows = rows_of(chosen, preferences, references).select(range(11))
    # The base takes the place of a policy that has gone on: it differs from the reference.
    ours = our_loss(base, policy, rows, chosen, tmp_path / "ours")
    args = (base, policy, rows.to_list(), 0.3, tmp_path / "trl")
    assert ours == pytest.approx(loss_of_trl(*args, **OF_TRL[name]), rel=1e-5)


def test_a_mixture_has_the_loss_that_trl_gives_it(
    policy: Path, base: Path, preferences: Path, tmp_path: Path
) -> None:
    chosen = recipe(**MIXED)
    references = references_of(tmp_path / "reference", policy, preferences, chosen)
    rows = rows_of(chosen, preferences, references).select(range(11))
    ours = our_loss(base, policy, rows, chosen, tmp_path / "ours")
    knobs = {"loss_type": ["sigmoid", "ipo", "sft"], "loss_weights": [1.0, 0.1, 0.5]}
    args = (base, policy, rows.to_list(), 0.1, tmp_path / "trl")
    assert ours == pytest.approx(loss_of_trl(*args, **knobs), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_starts_where_it_should_and_moves_the_responses_apart(
    policy: Path, preferences: Path, tmp_path: Path, name: ObjectiveName
) -> None:
    chosen = recipe(objective=name, num_epochs=4, learning_rate=3e-3, examples_per_step=8)
    if name == "orpo":  # its likelihood term lifts both responses; let the odds weigh more
        chosen = chosen.model_copy(update={"beta": 5.0})
    figures, _ = align(tmp_path, policy, preferences, chosen)
    at_start = OBJECTIVES[name].at_start
    if at_start is not None:
        assert figures[1]["loss"] == pytest.approx(at_start(chosen.beta), rel=1e-3)
    steps = [step for step, logged in sorted(figures.items()) if "rewards/margins" in logged]
    epoch = len(steps) // 4

    def margin(of_steps: list[int]) -> float:
        apart = (figures[s]["logps/chosen"] - figures[s]["logps/rejected"] for s in of_steps)
        return sum(apart) / len(of_steps)

    assert margin(steps[-epoch:]) > margin(steps[:epoch])


SPLIT: list[dict[str, Any]] = [
    {"objective": "kto"},
    {"objective": "orpo"},
    {"objective": "simpo"},
    MIXED,
]


@pytest.mark.parametrize("knobs", SPLIT, ids=str)
def test_splitting_a_step_changes_no_objective(
    policy: Path, preferences: Path, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """Not by means over micro-batches, and not by KTO's divergence."""
    chosen = recipe(num_epochs=1, **{"examples_per_step": 8, **knobs})
    references = references_of(tmp_path / "reference", policy, preferences, chosen)
    whole, weights = align(
        tmp_path / "8", policy, preferences, chosen, references=references, micro_batch_size=8
    )
    split, other = align(
        tmp_path / "2", policy, preferences, chosen, references=references, micro_batch_size=2
    )
    kinds = ("loss", "rewards", "logps", "nll", "kl")
    shown = [name for name in whole[1] if name.startswith(kinds)]
    assert len(shown) > 6
    for step in range(1, max(whole) + 1):
        for name in shown:
            if name == "rewards/accuracies":
                if step > 1:  # else rewards are zeros but for rounding, which says who is better
                    assert abs(split[step][name] - whole[step][name]) <= 1 / 8, "one pair: a tie"
                continue
            assert split[step][name] == pytest.approx(whole[step][name], rel=5e-3, abs=2e-4), name
    for name, weight in weights.items():
        assert torch.allclose(weight, other[name], atol=2e-3), name


@pytest.mark.parametrize(
    "knobs", [{}, {"adapter": AdapterKnobs(rank=2)}, {"objective": "kto"}, MIXED], ids=str
)
def test_activations_that_are_computed_again_change_nothing(
    policy: Path, preferences: Path, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    chosen = recipe(num_epochs=1, **knobs)
    references = references_of(tmp_path / "reference", policy, preferences, chosen)
    forwards: list[Any] = []
    hook = register_module_forward_pre_hook(
        lambda module, _: forwards.append(module) if isinstance(module, LlamaAttention) else None
    )
    found, counts = [], []
    with hook:
        for is_asked in (False, True):
            folder = tmp_path / str(is_asked)
            how = {"references": references, "gradient_checkpointing": is_asked}
            found.append(align(folder, policy, preferences, chosen, **how))
            counts.append(len(forwards))
            forwards.clear()
    assert 1.4 * counts[0] < counts[1] <= 2 * counts[0]
    (figures, weights), (again, others) = found
    for step in range(1, max(figures) + 1):
        for name in ("loss", "grad_norm"):
            assert again[step][name] == pytest.approx(figures[step][name], rel=1e-6, abs=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_the_reference_has_the_log_probabilities_of_the_model(
    policy: Path, preferences: Path, tmp_path: Path, size: int
) -> None:
    folder = reference_of(policy, preferences, tmp_path, evaluation_batch_size=size)
    rows = with_reference(read_split(preferences, TRAIN), folder, TRAIN).to_list()
    model = load_model(policy / "model")
    for row in rows:
        for side in ("chosen", "rejected"):
            alone = [torch.tensor(row["prompt_ids"] + row[f"{side}_ids"])]
            with torch.no_grad():
                values = token_log_probs(model, alone)[0][len(row["prompt_ids"]) - 1 :]
            assert row[f"{side}_reference_logp"] == pytest.approx(values.sum().item(), rel=1e-5)


def test_the_divergence_of_kto_is_found_on_responses_to_other_prompts(
    policy: Path, preferences: Path, tmp_path: Path
) -> None:
    folder = reference_of(policy, preferences, tmp_path, responses="mismatched")
    rows = with_reference(read_split(preferences, TRAIN), folder, TRAIN).to_list()
    model = load_model(policy / "model")
    for number in (0, 1, len(rows) - 1):
        row, following = rows[number], rows[(number + 1) % len(rows)]
        response = following["rejected_ids" if number % 2 else "chosen_ids"]
        with torch.no_grad():
            values = token_log_probs(model, [torch.tensor(row["prompt_ids"] + response)])[0]
        expected = values[len(row["prompt_ids"]) - 1 :].sum().item()
        assert row["mismatched_reference_logp"] == pytest.approx(expected, rel=1e-5)


def test_an_adapter_that_goes_on_needs_one_that_is_there(
    policy: Path, base: Path, preferences: Path, tmp_path: Path
) -> None:
    assert not (policy / ADAPTER).exists()
    with pytest.raises(ArtifactError, match="no adapter"):
        align(tmp_path, policy, preferences, recipe(adapter="continue"), base=base)


def test_an_adapter_on_the_head_is_refused(policy: Path, preferences: Path, tmp_path: Path) -> None:
    on_head = recipe(adapter=AdapterKnobs(modules=("lm_head",)))
    with pytest.raises(ConfigError, match="LM head"):
        align(tmp_path, policy, preferences, on_head)
