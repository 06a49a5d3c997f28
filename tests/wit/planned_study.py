"""A study whose inputs are all there, and the fingerprints of its plan; nothing is ever trained."""

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from samples import embedded_tokenizer, save_tokenizer, write_jsonl

from wit.config import Runtime, Study
from wit.evaluation_recipes import EvaluationRecipe
from wit.plan import Plan, make_plan

BENCHMARKS, MEASURED = ("seen", "unseen"), ("base", "sft", "dpo")
JUDGED = ("opinion responses", "opinion")
ASKED = ("sensitivity", "responses", *JUDGED)  # on prompts of the study's own


def evaluations(*measures: str, of: tuple[str, ...] = MEASURED) -> set[str]:
    """Names of evaluations, such as ``seen of dpo``; of everything, if nothing is named."""
    named = measures or (*BENCHMARKS, "likelihood", "alignment", "forgetting", *ASKED)
    found = {f"{measure} of {model}" for measure in named for model in of}
    return found - {"alignment of base"}


# Groups of stages.
DPO = {"dpo"} | evaluations(of=("dpo",))
REFERENCE = {"reference"}  # what DPO reads of the SFT model
SFT = {"sft"} | evaluations(of=("sft",))
EVALUATIONS = evaluations()
MODELS = SFT | REFERENCE | DPO | EVALUATIONS
ITEMS = {"items", "overlap"}
TUNED = SFT | REFERENCE | DPO  # what comes of the instructions
INSTRUCTIONS = {"instructions", "overlap"} | TUNED | evaluations("likelihood")
PREFERENCES = {"preferences", "overlap"} | REFERENCE | DPO | evaluations("likelihood", "alignment")
TEXT = evaluations("forgetting")
EVERYTHING = {"tokenizer", "instructions", "preferences", "overlap"} | MODELS  # but the items
NOTHING: set[str] = set()


def inputs_in(folder: Path) -> Path:
    """A base, rows, pairs and a benchmark."""
    base = save_tokenizer(embedded_tokenizer(), folder / "base")
    save_file({"weight": torch.zeros(2)}, base / "model.safetensors")
    (base / "config.json").write_text('{"hidden_size": 8}')
    (base / "generation_config.json").write_text('{"eos_token_id": 2}')
    write_jsonl(folder / "rows.jsonl", [{"prompt": "a", "response": "b", "q": "c"}])
    write_jsonl(folder / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    write_jsonl(folder / "text.jsonl", [{"text": "a b c"}])
    for name in ("wordings", "prompts", "questions"):
        write_jsonl(folder / f"{name}.jsonl", [{"prompt": name}])
    reference = {"question_id": 1, "choices": [{"turns": ["d"]}]}
    write_jsonl(folder / "references.jsonl", [reference])
    write_jsonl(folder / "items.jsonl", [{"question": "a", "answer": "b"}])
    benchmark = {
        "task": "seen",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    }
    for name in ("seen", "unseen"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**benchmark, "task": name}))
    (folder / "other.jinja").write_text("{{ messages[0]['content'] }}")
    return folder


def study_in(folder: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "base": {"path": str(folder / "base"), "template": "own"},
        "instructions": {"path": str(folder / "rows.jsonl")},
        "preferences": {"path": str(folder / "pairs.jsonl")},
        "weights": [{"prompt": 0, "response": 1}],
        "seeds": [0],
        "sft": {},
        "dpo": {},
        "text": {"path": str(folder / "text.jsonl")},
        "sensitivity": {"path": str(folder / "wordings.jsonl")},
        "samples": {"path": str(folder / "prompts.jsonl")},
        "judge": {"model": "judge"},
        "judged": [
            {
                "name": "opinion",
                "kind": "ratings",
                "role": "report",
                "path": str(folder / "questions.jsonl"),
                "references": str(folder / "references.jsonl"),
            }
        ],
        "benchmarks": [
            {"name": "seen", "role": "select", "path": str(folder / "seen.yaml")},
            {"name": "unseen", "role": "report", "path": str(folder / "unseen.yaml")},
        ],
    }


def mixture_in(folder: Path) -> dict[str, Any]:
    """Instructions from two files of different rows."""
    write_jsonl(folder / "more.jsonl", [{"prompt": "d", "response": "e", "q": "f"}])
    places = {"one": folder / "rows.jsonl", "two": folder / "more.jsonl"}
    sources = {name: {"path": str(path), "share": 1} for name, path in places.items()}
    return study_in(folder) | {"instructions": {"sources": sources}}


def plan_of(values: dict[str, Any], runtime: Runtime | None = None) -> Plan:
    return make_plan(Study.model_validate(values), runtime or Runtime())


def fingerprints(plan: Plan, cell: int = 0) -> dict[str, str]:
    shared = [artifact for artifact in plan.shared if artifact not in plan.base_evaluations]
    found = {artifact.stage: artifact.fingerprint for artifact in shared}
    chosen = plan.cells[cell]
    for model, measured in (
        ("base", plan.base_evaluations),
        ("sft", chosen.sft_evaluations),
        ("dpo", chosen.dpo_evaluations),
    ):
        for artifact in measured:
            assert isinstance(artifact.recipe, EvaluationRecipe)
            found[f"{artifact.recipe.measures} of {model}"] = artifact.fingerprint
    found |= {artifact.stage: artifact.fingerprint for artifact in chosen.references}
    return found | {"sft": chosen.sft.fingerprint, "dpo": chosen.dpo.fingerprint}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


def put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *holders, last = dotted.split(".")
    for key in holders:
        values = values[int(key) if key.isdecimal() else key]  # pyright: ignore
    values[int(last) if last.isdecimal() else last] = value  # pyright: ignore
