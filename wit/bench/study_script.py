"""A bare script: makes some artifacts in a process of its own, without Prefect and MLflow.

``python -m wit.bench.study_script JOB`` is what somebody would write who had the trainers and the
evaluation, and nothing that runs them: it imports, loads, makes, and ends. No lock, no record, no
checksum, no checkpoint.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.evaluation_recipes import EvaluationRecipe
from wit.lineage.spool import Packed
from wit.records import MODEL
from wit.settings import Settings


class Job(Settings):
    """What one script makes."""

    packed: Packed  # artifacts, parents first
    runtime: Runtime
    seconds_file: Path  # for how long each took, by fingerprint


def write_job(job: Job, file: Path) -> None:
    """Leaves it for a script."""
    file.write_text(job.model_dump_json(), encoding="utf-8")


def make_all(artifacts: Iterable[Artifact], runtime: Runtime) -> dict[str, float]:
    """Makes them one after the other; returns the seconds that each took, by fingerprint.

    Without what had to be imported for it first, which a process that lives on imports once.
    """
    seconds: dict[str, float] = {}
    for artifact in artifacts:
        make = _maker(artifact, runtime)
        artifact.path.mkdir(parents=True)
        started = time.perf_counter()
        make(artifact.path)
        seconds[artifact.fingerprint] = time.perf_counter() - started
    return seconds


def _maker(artifact: Artifact, runtime: Runtime) -> Callable[[Path], Any]:
    recipe, folders = artifact.recipe, {part: p.path for part, p in artifact.parents.items()}
    match recipe:
        # Not as the stages do it, which look at records, and a script has none.
        case ReferenceRecipe():
            from wit.training.reference import write_reference

            policy = artifact.parents["policy"]
            model, pairs = policy.path / MODEL, folders["preferences"]
            return lambda out: write_reference(
                recipe, model, policy.fingerprint, pairs, out, runtime
            )
        case DPORecipe():
            from wit.training.dpo import train_dpo

            policy, pairs = folders.pop("policy"), folders.pop("preferences")
            references = list(folders.values())
            return lambda out: train_dpo(
                recipe, policy, pairs, references, out, runtime, _say_nothing
            )
        case EvaluationRecipe():
            import wit.evaluation.harness  # noqa: F401  which evaluations import later
    from wit.stages import maker

    return maker(artifact, runtime, _say_nothing)


def _say_nothing(figures: dict[str, float], step: int) -> None: ...


if __name__ == "__main__":
    given = Job.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    took = make_all(given.packed.artifacts(), given.runtime)
    given.seconds_file.write_text(json.dumps(took), encoding="utf-8")
