"""Alignments of a tiny SFT model, with the reference's log-probabilities made before."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wit.adapter_recipes import AdapterKnobs
from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.config import Runtime
from wit.models import load_model
from wit.training import dpo
from wit.training.reference import write_reference


class Aligned(NamedTuple):
    figures: dict[int, dict[str, float]]  # by step
    weights: dict[str, Tensor]


def recipe(**knobs: Any) -> DPORecipe:
    defaults = {"learning_rate": 2e-3, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    return DPORecipe(**{**defaults, **knobs})


def reference_of(policy: Path, preferences: Path, out: Path, **knobs: Any) -> Path:
    """What a model finds of the responses, as the stage writes it."""
    runtime = {name: knobs.pop(name) for name in ("evaluation_batch_size",) if name in knobs}
    out.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(device="cpu", **runtime)
    model = policy / "model"
    write_reference(ReferenceRecipe(**knobs), model, str(policy), preferences, out, runtime)
    return out


def references_of(folder: Path, policy: Path, preferences: Path, chosen: DPORecipe) -> list[Path]:
    """All that an objective reads."""
    if not chosen.has_reference:
        return []
    kinds = ("own", "mismatched") if chosen.is_for_unpaired else ("own",)
    return [
        reference_of(policy, preferences, folder / kind, precision=chosen.precision, responses=kind)
        for kind in kinds
    ]


def align(
    folder: Path,
    policy: Path,
    preferences: Path,
    chosen: DPORecipe,
    *,
    references: list[Path] | None = None,
    base: Path | None = None,
    adapter: AdapterKnobs | None = None,
    starts_at_reference: bool = True,
    **runtime: Any,
) -> Aligned:
    figures: dict[int, dict[str, float]] = {}

    def log(logged: dict[str, float], step: int) -> None:
        figures.setdefault(step, {}).update(logged)

    if references is None:
        references = references_of(folder / "reference", policy, preferences, chosen)
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    where = Runtime(device="cpu", **runtime)
    more = {"base": base, "adapter": adapter, "starts_at_reference": starts_at_reference}
    dpo.train_dpo(chosen, policy, preferences, references, out, where, log, **more)
    return Aligned(figures, load_model(out / "model").state_dict())
