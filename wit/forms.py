"""What the forms of the Prefect UI ask for: one model for each deployed flow.

Every field has a title, a default, and a description for somebody who never saw the code. What is
left empty stays as the study file says, so a request is a study file and what is to differ.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt

import wit
from wit.config import Runtime, Study
from wit.errors import ConfigError
from wit.evaluation_recipes import Benchmark
from wit.form_fields import BenchmarkChoice, Handed, Weights, file_of
from wit.loading import Override, load_runtime, load_study
from wit.settings import Settings
from wit.study_sources import TRAINED_ON

PROJECT = Path(wit.__file__).resolve().parent.parent
STUDIES = PROJECT / "configs" / "studies"
AS_IN_STUDY = "as in the study"
AS_IN_RUNTIME = "as in the runtime file"
# Fields that a form shows before all others.
FIRST = ("study", "study_file", "models", "weights", "seeds", "seed")


def study_names() -> list[str]:
    """Names of the studies that the checkout has."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def _offer_studies(schema: dict[str, JsonValue]) -> None:
    """Has the form offer a list; of an installed package, which has no studies, a line of text."""
    if names := study_names():
        schema["enum"] = [*names]


def _in_order(schema: dict[str, Any]) -> None:
    """Numbers the fields as Prefect's form wants them: what most runs change stands on top."""
    names = list(schema["properties"])
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    for position, name in enumerate(names):
        schema["properties"][name]["position"] = position


class Choice(Settings):
    """Which study, what is to differ from its file, and how it runs."""

    model_config = ConfigDict(json_schema_extra=_in_order)

    study: Annotated[str, Field(json_schema_extra=_offer_studies)] = Field(
        default="quickstart", title="Study", description="A file of configs/studies, by its name."
    )
    study_file: str | None = Field(
        default=None,
        title="Another study file",
        description="Path of a YAML file on the worker's machine, instead of the study above.",
    )
    max_rows: PositiveInt | None = Field(
        default=None,
        title="Data limit",
        description="At most this many instruction rows, and this many preference pairs.",
    )
    sft_loss: Literal["as in the study", "nll", "dft"] = Field(
        default=AS_IN_STUDY,
        title="SFT loss",
        description="nll: negative log-likelihood, the usual one.",
    )
    dpo_beta: PositiveFloat | None = Field(
        default=None, title="DPO beta", description="Of alignments that have dpo's objective."
    )
    benchmarks: list[BenchmarkChoice] = Field(
        default=[],
        title="Benchmarks",
        description="Instead of those of the study; at least one must have the role select.",
    )
    settings: list[str] = Field(
        default=[],
        title="Other settings",
        description="Any key of the study file as key.path=value, such as sft.num_epochs=3. "
        "docs/configuration.md lists them.",
    )
    device: Literal["as in the runtime file", "auto", "cpu", "cuda"] = Field(
        default=AS_IN_RUNTIME,
        title="Device",
        description="What models are trained and evaluated on.",
    )
    runtime_file: str | None = Field(
        default=None,
        title="Runtime file",
        description="Where and how fast: a YAML file such as configs/runtimes/gpu.yaml.",
    )
    runtime_settings: list[str] = Field(
        default=[],
        title="Other runtime settings",
        description="Any key of the runtime file as key=value, such as micro_batch_size=4.",
    )

    @property
    def label(self) -> str:
        """Names the study in the name of a run."""
        for setting in reversed(self.settings):
            key, _, value = setting.partition("=")
            if key.strip() == "name":
                return value.strip()
        return Path(self.study_file).stem if self.study_file else self.study

    def overrides(self) -> list[Override]:
        """What differs from the study file, each with the field that says so."""
        found = [self._said_by("settings", text) for text in self.settings]
        if self.max_rows is not None:
            found += [
                self._set_by("max_rows", f"{rows}.max_rows", self.max_rows) for rows in TRAINED_ON
            ]
        if self.sft_loss != AS_IN_STUDY:
            found.append(self._set_by("sft_loss", "sft.loss", self.sft_loss))
        if self.dpo_beta is not None:
            found.append(self._set_by("dpo_beta", "dpo.beta", self.dpo_beta))
        if self.benchmarks:
            chosen = [Benchmark(**b.model_dump()).model_dump(mode="json") for b in self.benchmarks]
            found.append(self._set_by("benchmarks", "benchmarks", chosen))
        return found

    def load_study(self) -> Study:
        """The study file with what differs.

        Raises:
            ConfigError: Naming every wrong key at once, with its field and what is allowed.
        """
        return load_study(self._file(), self.overrides())

    def runtime_overrides(self) -> list[Override]:
        """What differs from the runtime file, each with the field that says so."""
        found = [self._said_by("runtime_settings", text) for text in self.runtime_settings]
        if self.device != AS_IN_RUNTIME:
            found.append(self._set_by("device", "device", self.device))
        return found

    def load_runtime(self) -> Runtime:
        """The runtime file with what differs.

        Raises:
            ConfigError: As ``load_study``.
        """
        return load_runtime(file_of(self.runtime_file), self.runtime_overrides())

    def _said_by(self, field: str, text: str) -> Override:
        return Override(text, f"{type(self).model_fields[field].title}: {text}")

    def _set_by(self, field: str, key: str, value: Any) -> Override:
        # JSON is YAML, and stands in one line.
        return Override(f"{key}={json.dumps(value)}", f"{type(self).model_fields[field].title}")

    def _file(self) -> Path:
        if self.study_file:
            return Path(self.study_file)
        names = study_names()
        if self.study not in names:
            known = ", ".join(names) or "none; give 'study_file'"
            raise ConfigError(f"study: {self.study!r} is no file of {STUDIES}. There are: {known}")
        return STUDIES / f"{self.study}.yaml"


class StudyRequest(Choice):
    """A whole study: every cell, one table, one report."""

    weights: list[Weights] = Field(
        default=[],
        title="Loss weights",
        description="Pairs of prompt and response weight instead of those of the study.",
    )
    seeds: list[NonNegativeInt] = Field(
        default=[],
        title="Seeds",
        description="Every pair is trained once for each, instead of the study's.",
    )
    execution: Literal["as in the runtime file", "local", "deployments"] = Field(
        default=AS_IN_RUNTIME,
        title="Cells run",
        description="deployments: as runs of their own, on workers. local: where the study runs; "
        "refused on a worker whose machine has GPUs, for those are other workers'.",
    )

    def overrides(self) -> list[Override]:
        """What differs from the study file, each with the field that says so."""
        found = super().overrides()
        if self.weights:
            pairs = [pair.model_dump() for pair in self.weights]
            found.append(self._set_by("weights", "weights", pairs))
        if self.seeds:
            found.append(self._set_by("seeds", "seeds", self.seeds))
        return found

    def runtime_overrides(self) -> list[Override]:
        """What differs from the runtime file, each with the field that says so."""
        found = super().runtime_overrides()
        if self.execution != AS_IN_RUNTIME:
            found.append(self._set_by("execution", "execution", self.execution))
        return found


HANDED = Field(
    default=None,
    title="Handed out by a study",
    description="Leave it empty: a study that has its parts made by workers fills it in.",
)


class CellRequest(Choice):
    """One cell: SFT with one pair of weights and one seed, DPO from it, both evaluated."""

    weights: Weights = Field(
        default=Weights(), title="Loss weights", description="They need not be in the study's grid."
    )
    seed: NonNegativeInt = Field(
        default=0, title="Seed", description="Of the order of rows, in SFT and in DPO."
    )
    tuning: str | None = Field(
        default=None,
        title="Tuning",
        description="Of a study that names several ways of SFT; empty: its first.",
    )
    handed: Handed | None = HANDED

    @property
    def label(self) -> str:
        """Names the study and the cell in the name of a run."""
        point = f"p{self.weights.prompt:g}-r{self.weights.response:g}-s{self.seed}"
        return self.handed.label if self.handed else f"{super().label} {point}"

    def overrides(self) -> list[Override]:
        """What differs from the study file, each with the field that says so."""
        weights = self._set_by("weights", "weights", [self.weights.model_dump()])
        return [*super().overrides(), weights, self._set_by("seed", "seeds", [self.seed])]

    def load_study(self) -> Study:
        """Of this cell alone, named apart lest it replace the whole one; or what was handed."""
        if self.handed:
            return self.handed.load_study()
        study = super().load_study()
        if study.tunings:
            tuning = self.tuning or next(iter(study.tunings))
            if tuning not in study.tunings:
                names = ", ".join(study.tunings)
                raise ConfigError(f"Tuning: the study has no tuning {tuning!r}; it has {names}")
            study = study.model_copy(update={"tunings": {tuning: study.tunings[tuning]}})
        elif self.tuning is not None:
            raise ConfigError("Tuning: the study names no tunings; leave it empty")
        return _apart(study, str(study.cells[0]))


class EvaluationRequest(Choice):
    """Models that a study has made, evaluated: with its own benchmarks, or with others."""

    models: list[Literal["base", "sft", "dpo"]] = Field(
        default=["base", "sft", "dpo"], title="Models", description="Which models are evaluated."
    )
    handed: Handed | None = HANDED

    @property
    def label(self) -> str:
        """Names the study in the name of a run."""
        return self.handed.name if self.handed else super().label

    def load_study(self) -> Study:
        """The study whose models are evaluated, named apart as a cell is; or what was handed."""
        return (
            self.handed.load_study() if self.handed else _apart(super().load_study(), "evaluation")
        )


def _apart(study: Study, what: str) -> Study:
    """Under a name of its own: what is asked of a study's name is asked of all of it."""
    name = f"{study.name}-{what.replace('@', '-')}"
    return study.model_copy(update={"name": name[-80:].lstrip("-._")})
