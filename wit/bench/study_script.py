"""A bare script: makes some artifacts in a process of its own, without Prefect and MLflow.

``python -m wit.bench.study_script JOB`` is what somebody would write who had the trainers and the
evaluation, and nothing that runs them: it imports, loads, makes, and ends. No lock, no record, no
checksum, no checkpoint.
"""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from wit.alignment_recipes import DPORecipe, ReferenceRecipe
from wit.artifacts import Artifact
from wit.config import Runtime
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
    """Makes them one after the other; returns the seconds that each took, by fingerprint."""
    seconds: dict[str, float] = {}
    for artifact in artifacts:
        started = time.perf_counter()
        _make(artifact, runtime)
        seconds[artifact.fingerprint] = time.perf_counter() - started
    return seconds


def _make(artifact: Artifact, runtime: Runtime) -> None:
    recipe, out = artifact.recipe, artifact.path
    out.mkdir(parents=True)
    match recipe:
        # Not as the stages do it, which look at records, and a script has none.
        case ReferenceRecipe():
            from wit.training.reference import write_reference

            policy, preferences = artifact.parents["policy"], artifact.parents["preferences"]
            model = policy.path / MODEL
            write_reference(recipe, model, policy.fingerprint, preferences.path, out, runtime)
        case DPORecipe():
            from wit.training.dpo import train_dpo

            folders = {part: parent.path for part, parent in artifact.parents.items()}
            policy, preferences = folders.pop("policy"), folders.pop("preferences")
            references = list(folders.values())
            train_dpo(recipe, policy, preferences, references, out, runtime, _say_nothing)
        case _:
            from wit.stages import maker

            maker(artifact, runtime, _say_nothing)(out)


def _say_nothing(figures: dict[str, float], step: int) -> None: ...


if __name__ == "__main__":
    given = Job.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    took = make_all(given.packed.artifacts(), given.runtime)
    given.seconds_file.write_text(json.dumps(took), encoding="utf-8")
