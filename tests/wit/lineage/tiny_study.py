"""A study of two cells whose artifacts are real directories, made without any training."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from wit import lineage
from wit.alignment_recipes import DPORecipe
from wit.artifacts import Artifact, Source
from wit.config import Study
from wit.errors import TrainingError
from wit.evaluation.results import BenchmarkRun, EvaluationResult, Score, share_score
from wit.evaluation_recipes import BenchmarkEvaluation, BenchmarkRecipe
from wit.lineage.description import cell_of
from wit.lineage.store import open_store
from wit.recipes import InstructionsRecipe, PreferencesRecipe, SFTRecipe, TokenizerRecipe

STUDY = Study.model_validate(
    {
        "name": "tiny",
        "base": {"path": "builtin"},
        "instructions": {"path": "rows.jsonl"},
        "preferences": {"path": "pairs.jsonl"},
        "weights": [{"prompt": 0, "response": 1}, {"prompt": 0.2, "response": 1}],
        "benchmarks": [
            {"name": "unseen", "role": "select"},
            {"name": "cloze", "role": "report"},
        ],
    }
)
BASE = Source(kind="model", fingerprint="ba5eba5eba5e", location="/models/base")


# Before DPO, weight on prompts helps; after it, instruction tuning is best.
SHARES = {
    ("base", "base"): 0.1,
    ("sft", "p0-r1-s0"): 0.3,
    ("sft", "p0.2-r1-s0"): 0.5,
    ("dpo", "p0-r1-s0"): 0.7,
    ("dpo", "p0.2-r1-s0"): 0.6,
}


class Plan(NamedTuple):
    """All artifacts of a study, known before they are made."""

    data: list[Artifact]
    sft: list[Artifact]
    dpo: list[Artifact]
    evaluations: list[Artifact]  # of the base, then of every SFT, then of every DPO model

    @property
    def all(self) -> list[Artifact]:
        return [*self.data, *self.sft, *self.dpo, *self.evaluations]


def plan(root: Path, study: Study = STUDY, base: Source = BASE) -> Plan:
    tokenizer = Artifact(root=root, recipe=TokenizerRecipe(), parents={"base": base})
    rows = Source(kind="rows", fingerprint="f11ef11ef11e", location="rows.jsonl")
    instructions = Artifact(
        root=root,
        recipe=InstructionsRecipe(path="rows.jsonl"),
        parents={"tokenizer": tokenizer, "rows": rows},
    )
    preferences = Artifact(
        root=root, recipe=PreferencesRecipe(path="pairs.jsonl"), parents={"tokenizer": tokenizer}
    )
    sft = [
        Artifact(
            root=root,
            recipe=SFTRecipe(weights=cell.weights, seed=cell.seed),
            parents={"base": base, "instructions": instructions},
        )
        for cell in study.cells
    ]
    dpo = [
        Artifact(
            root=root,
            recipe=DPORecipe(seed=model.recipe.model_dump()["seed"]),
            parents={"policy": model, "preferences": preferences},
        )
        for model in sft
    ]
    evaluations = [
        Artifact(
            root=root,
            recipe=BenchmarkEvaluation(benchmark=BenchmarkRecipe.of(study.benchmarks[0])),
            parents={
                "model": model,
                "tokenizer": tokenizer,
                "instructions": instructions,
                "preferences": preferences,
            },
        )
        for model in [base, *sft, *dpo]
    ]
    return Plan([tokenizer, instructions, preferences], sft, dpo, evaluations)


def scores_of(artifact: Artifact) -> EvaluationResult:
    """Scores that a test can foresee."""
    cell = cell_of(artifact)
    assert cell is not None
    known = SHARES.get((cell.model_stage, str(cell)))
    share = int(artifact.fingerprint[4], 16) / 20 if known is None else known
    lower = Score(
        benchmark="cloze",
        metric="bits",
        value=2.5,
        stderr=None,
        num_items=10,
        higher_is_better=False,
        is_main=True,
    )
    return EvaluationResult(
        scores=(
            share_score("unseen", "exact_match", share, 50),
            lower,
            nll("prompt"),
            share_score("preference_accuracy", "accuracy", 0.75, 40),
        ),
        runs={
            name: BenchmarkRun(
                version="1",
                items_hash=f"1739{number}",
                num_items=num_items,
                num_fewshot=0,
                is_chat=True,
                empty_response_share=None,
                num_cut_prompts=0,
            )
            for number, (name, num_items) in enumerate({"unseen": 50, "cloze": 10}.items())
        },
    )


def nll(role: str) -> Score:
    return Score(
        benchmark=f"nll_{role}",
        metric="nll",
        value=2.0,
        stderr=None,
        num_items=9,
        higher_is_better=False,
        is_main=True,
    )


def write(artifact: Artifact, directory: Path) -> None:
    """What a stage would leave in ``directory``."""
    if artifact.stage == "evaluation":
        scores_of(artifact).save(directory)
    elif artifact.stage in ("sft", "dpo"):
        lines = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, 6)]
        (directory / "history.jsonl").write_text("".join(lines))
        (directory / "model").mkdir(exist_ok=True)
        (directory / "model" / "weights").write_text(artifact.fingerprint)
    else:
        card = {"rows": {"train": 90, "held_out": 10}, "dropped": {"empty": 2}}
        card |= {"lengths": {"row": {"p50": 40}}, "boilerplate": ["Answer this:"]}
        (directory / "card.json").write_text(json.dumps(card))


def make(
    artifact: Artifact,
    uri: str,
    study: lineage.StudyRun | None = None,
    telling: lineage.Telling | None = None,
) -> None:
    with (
        lineage.tracked(artifact, study, uri, telling) as tracker,
        artifact.writing() as directory,
    ):
        write(artifact, directory)
        tracker.log({"loss": 1.0}, 1)


def fail(
    artifact: Artifact,
    uri: str,
    message: str,
    study: lineage.StudyRun | None = None,
    telling: lineage.Telling | None = None,
) -> None:
    def attempt() -> None:
        with lineage.tracked(artifact, study, uri, telling) as tracker:
            tracker.log({"loss": float("nan")}, 1)
            raise TrainingError(message)

    with pytest.raises(TrainingError):
        attempt()


def make_without_lineage(artifacts: list[Artifact]) -> None:
    for artifact in artifacts:
        with artifact.writing() as directory:
            write(artifact, directory)


def runs(uri: str):
    store = open_store(uri)
    return {
        run.data.tags["wit.fingerprint"]: run
        for run in store.search("tags.`wit.fingerprint` LIKE '%'")
    }


def num_runs(uri: str) -> int:
    return len(open_store(uri).search("attributes.status != 'nonsense'"))
