"""Groups of fields that the forms of ``wit.forms`` hold."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from wit.config import Runtime, Study
from wit.errors import InputError
from wit.lineage import StudyRun
from wit.provenance import commit
from wit.recipes import Name
from wit.settings import Settings


class Weights(Settings):
    """Loss weights of one cell."""

    prompt: NonNegativeFloat = Field(
        default=0.2, title="Prompt weight", description="Loss weight of prompt tokens, λp."
    )
    response: NonNegativeFloat = Field(
        default=1.0, title="Response weight", description="Loss weight of response tokens, λr."
    )


class BenchmarkChoice(Settings):
    """One benchmark, and what its score is for."""

    name: Name = Field(
        title="Benchmark", description="A name of wit/evaluation/benchmarks, or of lm-eval."
    )
    role: Literal["select", "report", "forgetting"] = Field(
        default="report",
        title="Role",
        description="select: may choose the best cell; one has to. report: shows what that "
        "choice is worth. forgetting: shows what is left of what the base knew.",
    )
    num_fewshot: NonNegativeInt = Field(
        default=0, title="Worked examples", description="How many stand before each item."
    )
    limit: PositiveInt | None = Field(
        default=None, title="Item limit", description="Only the first items; empty: all."
    )


class Handed(Settings):
    """What a study hands to a worker together with a part of it, so that both mean the same."""

    part: str = Field(title="Part", description="The cell, or base.")
    study: str = Field(title="Study", description="The study as it was planned, in JSON.")
    version: str = Field(title="Version", description="Of the study, as MLflow knows it.")
    run_id: str | None = Field(default=None, title="Run", description="Of the study in MLflow.")
    run_url: str | None = Field(default=None, title="Address", description="Of that run.")
    fingerprint: str = Field(title="Fingerprint", description="Of all that the part is made of.")
    commit: str | None = Field(
        default=None, title="Commit", description="Of the wit that planned the study."
    )

    @property
    def name(self) -> str:
        """Of the study, which another version of wit may have planned."""
        return json.loads(self.study)["name"]

    @property
    def label(self) -> str:
        """Names the study and the part in the name of a run."""
        return f"{self.name} {self.part}"

    def load_study(self) -> Study:
        """The study as it was planned.

        Raises:
            InputError: Another version of wit planned it, whose studies are not those of this one.
        """
        try:
            return Study.model_validate_json(self.study)
        except ValidationError:
            raise self.refused("the study has keys or values that this worker does not know") from (
                None
            )

    def refused(self, why: str) -> InputError:
        """What a worker says that would make another part."""
        return InputError(
            f"{self.part}: {why}: it has another version of wit, or reads other files, than the "
            f"machine where the study was planned. wit there: commit {self.commit or 'unknown'}, "
            f"here: commit {commit() or 'unknown'}. Give both the same"
        )

    def study_run(self, study: Study, runtime: Runtime) -> StudyRun:
        """The study's run in MLflow."""
        root = runtime.artifact_root.resolve()
        return StudyRun(study.name, self.run_id, self.version, self.run_url, root)


def file_of(path: str | None) -> Path | None:
    """Path that a field gives; one that was left empty may be an empty line, too."""
    return Path(path) if path else None
