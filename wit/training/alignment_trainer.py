"""TRL's preference trainer with our losses, whole steps and checked start."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from wit.alignment.losses import Responses, kto_divergence, losses_of, rewards
from wit.alignment.objectives import loss_at_start
from wit.alignment_recipes import DPOKnobs
from wit.errors import HandOverError
from wit.training.figures import peak_memory
from wit.training.head import add_head
from wit.training.quantised import adapters_kept
from wit.training.responses import (
    MISMATCHED,
    POSITION,
    REFERENCE,
    SIDES,
    PreferenceCollator,
    logps_of_prompts,
    logps_of_responses,
    longest_of,
    score,
    targets_of,
)
from wit.training.shared_prompts import can_share
from wit.training.steps import SortedSteps, Steps, seed_of_order

# Policy and reference see a row in batches of other shapes, so log-probabilities differ by
# rounding: about so many nats a token, and by the square root of the tokens in a sum.
ROUNDING = {"float32": 1e-4, "float16": 0.005, "bfloat16": 0.02}
MAX_ROUNDINGS = 5
PROMPT_NLL = "sft-with-prompt"


class AlignmentTrainer(DPOTrainer):
    """TRL's trainer on rows that are tokenised already, with every objective of ours.

    Differs from upstream: the losses of a step's micro-batches add up to the mean over the step,
    also of unequal micro-batches and of terms that are means over tokens; KTO's divergence is
    that of the step; a reference is read, never kept in memory; and one that is not the model
    that training starts from is refused.
    """

    loss_is_scaled_for_ga = True  # by what the whole optimizer step holds, below

    def __init__(
        self,
        model: Any,
        *,
        knobs: DPOKnobs,
        args: DPOConfig,
        train_dataset: Dataset,
        processing_class: Any,
        starts_at_reference: bool = True,
    ) -> None:
        """Takes rows with the reference's log-probabilities beside them, if there is one.

        Args:
            model: What training starts from; on top of it, adapters if there are any.
            knobs: The objective and all that it has.
            args: Of the library.
            train_dataset: Rows; see ``wit.training.responses``.
            processing_class: Tokenizer.
            starts_at_reference: Whether ``model`` is the reference, so that the start is checked.
        """
        self.knobs = knobs
        self._is_start_known = starts_at_reference and knobs.has_reference
        rows = None
        if knobs.is_for_unpaired:
            rows = train_dataset
            positions: Any = torch.arange(len(rows), dtype=torch.int32).numpy()
            train_dataset = train_dataset.add_column(POSITION, positions)
        with adapters_kept(model):
            super().__init__(
                model=model,
                args=args,
                data_collator=PreferenceCollator(processing_class.pad_token_id, mismatched_of=rows),
                train_dataset=train_dataset,
                processing_class=processing_class,
            )
        policy: Any = self.model
        inner: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        add_head(inner)
        collator: Any = self.data_collator
        collator.shares_prompts = not knobs.is_for_unpaired and can_share(policy)
        self._divisors: dict[str, int] = {}
        self._divergence = torch.zeros(())
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._began = 0.0

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of an optimizer step; notes what they hold together."""
        self._began = time.perf_counter()
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        parts = [_counts_of(batch, self.knobs) for batch in batches]
        self._divisors = {name: sum(part[name] for part in parts) for name in _COUNTED}
        if self.knobs.is_for_unpaired:
            self._divergence = self._divergence_of(batches)
        return batches, num_items

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A micro-batch's share of the loss of its step.

        Raises:
            HandOverError: At step 0 policy and reference are not the same model.
        """
        knobs = self.knobs
        outputs = score(model, inputs, with_prompt=PROMPT_NLL in knobs.loss_weights)
        responses = _responses(outputs, inputs)
        is_good = inputs["is_desirable"]
        losses = losses_of(responses, is_good, knobs, self._divergence)
        divisors = self._divisors or _counts_of(inputs, knobs)
        loss = losses.sum() / max(divisors["losses"], 1)
        of_good = responses.logps * is_good
        if weight := knobs.loss_weights.get("sft"):
            loss = loss - weight * of_good.sum() / max(divisors["good_tokens"], 1)
        if weight := knobs.loss_weights.get(PROMPT_NLL):
            of_good = of_good + logps_of_prompts(outputs, inputs) * is_good
            loss = loss - weight * of_good.sum() / max(divisors["good_targets"], 1)
        if self.state.global_step == 0 and model.training and self._is_start_known:
            self._check_start(losses.mean().item(), responses, is_good)
        self._add_figures(responses, is_good)
        return (loss, outputs) if return_outputs else loss

    def _check_start(self, loss: float, responses: Responses, is_good: Tensor) -> None:
        """Refuses a reference that is another model: log-ratios at the start must be 0."""
        knobs, log_ratios = self.knobs, responses.log_ratios.detach()
        most = MAX_ROUNDINGS * ROUNDING[knobs.precision] * responses.num_tokens.sqrt()
        assert responses.reference_logps is not None
        # The loss may be off by what log-ratios within rounding make of it.
        allowed, signs = [], torch.where(is_good, 1.0, -1.0)
        for direction in (-1, 0, 1):
            rounded = responses._replace(logps=responses.reference_logps + direction * signs * most)
            found = losses_of(rounded, is_good, knobs, torch.zeros(()))
            allowed.append(found.mean().item())
        constant = loss_at_start(knobs.loss_weights, knobs.beta)
        expected = allowed[1] if constant is None or knobs.is_for_unpaired else constant
        tolerance = max(abs(found - expected) for found in allowed) + 1e-6
        is_off = bool((log_ratios.abs() > most).any()) or abs(loss - expected) > tolerance
        if is_off:
            worst = log_ratios[log_ratios.abs().argmax()].item()
            shown = "ln 2 = 0.69315" if math.isclose(expected, math.log(2)) else f"{expected:.5f}"
            raise HandOverError(
                f"at step 0 the {knobs.method.title} loss is {loss:.5f}, and a response's "
                f"log-probability is {worst:+.5f} nats from the reference's; they must be {shown} "
                "and 0, because policy and reference are the same SFT model. The reference is "
                "another model, or something random is left in the policy"
            )

    def _divergence_of(self, batches: list[dict[str, Tensor]]) -> Tensor:
        """KTO's KL of the step, on responses to other prompts; takes them out of the batches."""
        found = []
        prefix = f"{MISMATCHED}_"
        for batch in batches:
            names = [name for name in batch if name.startswith(prefix)]
            mismatched = {name.removeprefix(prefix): batch.pop(name) for name in names}
            inputs: Any = self._prepare_inputs(mismatched)
            with torch.no_grad(), self.compute_loss_context_manager():
                found.append(_responses(score(self.model, inputs), inputs))
        whole = [torch.cat(parts) for parts in zip(*found, strict=True)]
        divergence = kto_divergence(Responses(*whole))
        self._note("kl", divergence, 1)
        return divergence

    @torch.no_grad()
    def _add_figures(self, responses: Responses, is_good: Tensor) -> None:
        """Adds up what is shown of a step: means over its responses, or over their tokens."""
        reward = rewards(responses, self.knobs)
        for name, which in (("chosen", is_good), ("rejected", ~is_good)):
            count = int(which.sum())
            self._note(f"rewards/{name}", reward[which].sum(), count)
            self._note(f"logps/{name}", responses.logps[which].sum(), count)
            num_tokens = int(responses.num_tokens[which].sum())
            self._note(f"nll/{name}", -responses.logps[which].sum(), num_tokens)
        if self._has_pairs():
            chosen, rejected = reward.chunk(2)
            self._note("rewards/margins", (chosen - rejected).sum(), len(chosen))
            self._note("rewards/accuracies", (chosen > rejected).sum(), len(chosen))

    def _has_pairs(self) -> bool:
        rows: Any = self.train_dataset
        return "chosen_ids" in rows.column_names

    def _note(self, name: str, total: Tensor, count: int) -> None:
        if count:
            self._sums[name] += total.item()
            self._counts[name] += count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the loss does not say: rewards, likelihoods, speed, memory."""
        if "loss" in logs:
            logs.update({name: self._sums[name] / self._counts[name] for name in self._sums})
            seconds = time.perf_counter() - self._began
            logs["tokens_per_second"] = self._divisors["tokens"] / seconds
            device: Any = self.args.device
            logs["peak_memory_bytes"] = float(peak_memory(device))
            self._sums.clear()
            self._counts.clear()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedSteps:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        arguments = self.args
        examples_per_step = (
            arguments.train_batch_size
            * arguments.gradient_accumulation_steps
            * arguments.world_size
        )
        steps = Steps(longest_of(rows), examples_per_step, seed_of_order(arguments))
        return SortedSteps(steps)

    def _set_signature_columns_if_needed(self) -> None:
        """Columns that the collator reads."""
        names = (*SIDES, "response")
        self._signature_columns = [
            "prompt_ids",
            "is_desirable",
            POSITION,
            *(f"{name}_ids" for name in names),
            *(f"{name}_{REFERENCE}" for name in (*names, MISMATCHED)),
        ]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return dataset  # they stand beside the rows already

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the artifact's record says how the model was made."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # of the ids that SFT would train on: same template, same stop token


_COUNTED = ("losses", "good_tokens", "good_targets", "tokens")


def _counts_of(batch: Mapping[str, Tensor], knobs: DPOKnobs) -> dict[str, int]:
    """What the sums of a micro-batch are divided by, once added up over the step."""
    is_good, targets = batch["is_desirable"], targets_of(batch)
    of_responses, of_prompts = (int(part[is_good].sum()) for part in targets)
    return {
        "losses": len(is_good) if knobs.is_for_unpaired else len(is_good) // 2,
        "good_tokens": of_responses,
        "good_targets": of_responses + of_prompts,
        "tokens": targets.num_tokens,
    }


def _responses(outputs: Any, batch: Mapping[str, Tensor]) -> Responses:
    return Responses(
        logps_of_responses(outputs, batch),
        targets_of(batch).of_responses,
        batch.get("reference_logps"),
    )
