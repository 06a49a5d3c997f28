"""Studies whose models answer items as a test says, in real artifacts and a real MLflow store."""

import json
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import tiny_study
from tiny_study import STUDY, Plan, plan

from wit import lineage
from wit.artifacts import Artifact
from wit.champion import Registration, register
from wit.choice import Choice, choose
from wit.config import Study
from wit.data.card import CARD
from wit.evaluation.results import BenchmarkRun, EvaluationResult, Score, share_score
from wit.evaluation.samples import Sample, hash_of_samples, write_samples

SELECT, REPORT = "unseen", "cloze"
# Columns of MLflow's database that name the artifact root.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("tags", "value"),
    ("datasets", "dataset_source"),
    ("logged_models", "artifact_location"),
    ("logged_model_tags", "tag_value"),
)
# Credit for every item of the select benchmark, by cell.
Answers = Mapping[str, Sequence[float | None]]


class Contest(NamedTuple):
    """A finished study."""

    study: Study
    plan: Plan
    uri: str

    def choose(self) -> Choice:
        name, root = self.study.name, self.plan.dpo[0].root
        return choose(lineage.table(name, self.uri), name, root, self.uri)

    def register(self, name: str = "tiny-model") -> Registration:
        return register(name, self.choose(), self.uri)


def hold(root: Path, uri: str, name: str, answers: Answers, topic: str = "item") -> Contest:
    """Runs a study of the cells of ``answers``, such as ``p0.2-r1-s0``, to its end."""
    cells = [cell.removeprefix("p").split("-") for cell in answers]
    weights = sorted({(float(p), float(r[1:])) for p, r, _ in cells})
    study = Study.model_validate(
        STUDY.model_dump(mode="json", exclude_none=True)
        | {
            "name": name,
            "weights": [{"prompt": p, "response": r} for p, r in weights],
            "seeds": sorted({int(seed[1:]) for *_, seed in cells}),
        }
    )
    artifacts = plan(root, study)
    run = lineage.start_study(study, artifacts.all, uri)
    for artifact in artifacts.all:
        if not artifact.exists():
            with lineage.tracked(artifact, run, uri), artifact.writing() as directory:
                _write(artifact, directory, answers, topic)
    lineage.link(artifacts.all, run, uri)
    lineage.end_study(run, uri, is_failed=False)
    return Contest(study, artifacts, uri)


def held_again(contest: Contest, root: Path) -> Contest:
    """The same in another root, with its store: a copy takes a twentieth of the time."""
    old = contest.plan.dpo[0].root
    shutil.copytree(old, root, dirs_exist_ok=True)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        for table, column in PLACES:
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(change, (str(old), str(root)))
        database.commit()
    return Contest(contest.study, plan(root, contest.study), f"sqlite:///{root}/mlflow.db")


def _write(artifact: Artifact, directory: Path, answers: Answers, topic: str) -> None:
    if artifact.stage != "evaluation":
        tiny_study.write(artifact, directory)
        if (directory / CARD).is_file():
            card = json.loads((directory / CARD).read_text())
            (directory / CARD).write_text(json.dumps(card | {"rows_in": 102, "truncated": 0}))
        return
    model = artifact.parents["model"]
    credits = [0.5] * 8  # what is not after DPO has no say
    if isinstance(model, Artifact) and model.stage == "dpo":
        policy = model.parents["policy"]
        assert isinstance(policy, Artifact)
        recipe = policy.recipe.model_dump()
        cell = f"p{recipe['weights']['prompt']:g}-r{recipe['weights']['response']:g}"
        credits = answers[f"{cell}-s{recipe['seed']}"]
    _result(directory, credits, topic).save(directory)


def _result(directory: Path, credits: list[float | None], topic: str) -> EvaluationResult:
    samples = [
        Sample(
            item=item, prompt=f"{topic} {item}", target="x", responses=("x",), logps=None, score=s
        )
        for item, s in enumerate(credits)
    ]
    write_samples(directory, samples)
    known = [score for score in credits if score is not None]
    value = sum(known) / len(known) if known else 0.5
    run = BenchmarkRun(
        version="1",
        items_hash=hash_of_samples(samples),
        num_items=len(samples),
        num_fewshot=0,
        is_chat=True,
        empty_response_share=0.0,
        num_cut_prompts=0,
    )
    report = Score(
        benchmark=REPORT,
        metric="bits",
        value=2.5,
        stderr=0.2,
        num_items=10,
        higher_is_better=False,
        is_main=True,
    )
    return EvaluationResult(
        scores=(
            share_score(SELECT, "exact_match", value, len(samples)),
            report,
            tiny_study.nll("prompt"),
        ),
        runs={SELECT: run, REPORT: run.model_copy(update={"num_items": 10})},
    )
