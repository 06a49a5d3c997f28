"""Every knob of the program, typed.

A *recipe* holds what can change a result and enters the fingerprint of its stage. *Runtime* holds
where and how fast it runs; changing it changes no fingerprint. A *study* is the recipes of one
YAML file: one base model, its data, a grid of loss weights, and the benchmarks that decide.
"""

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from wit.alignment_grid import ONLY_ALIGNMENT, check_alignments, with_shared_knobs
from wit.alignment_recipes import DPOKnobs
from wit.evaluation.suites import expand_suites
from wit.evaluation_recipes import Benchmark, JudgedPrompts, Prompts, Sensitivity
from wit.judging.settings import JudgeEndpoint, JudgeModel
from wit.judging.suites import expand_judged
from wit.objectives import check_rays, trained
from wit.places import Places
from wit.recipes import (
    BaseRecipe,
    InstructionsRecipe,
    Name,
    PreferencesRecipe,
    SFTKnobs,
    TextRecipe,
)
from wit.search.in_study import with_candidates
from wit.search.knobs import SearchKnobs
from wit.settings import Settings
from wit.study_checks import check_adapters, check_judge, check_names
from wit.tuning_grid import check_tunings, with_shared_sft
from wit.weights import TokenWeights, expand_weights

WORKER_GPUS = "WIT_GPUS"  # environment variable: all that ranks of a worker's trainings may use
BUILTIN = "builtin"  # as a path: what this package ships
PACKED_TOKENS = {"cuda": 8192, "cpu": 2048}  # a CPU is busy with fewer


def cell_name(point: str, tuning: str | None) -> str:
    """What a cell is called: weights and seed, and its tuning if the study names several."""
    return point if tuning is None else f"{point}@{tuning}"


class Cell(Settings):
    """One point of a study: a pair of weights and a seed; SFT and then DPO."""

    weights: TokenWeights
    seed: NonNegativeInt
    tuning: Name | None = None  # of a study that names several

    def __str__(self) -> str:
        return cell_name(f"{self.weights}-s{self.seed}", self.tuning)


class Study(Settings):
    """One question to the chain: these weights, this model, this data, these benchmarks."""

    name: Name
    base: BaseRecipe
    instructions: InstructionsRecipe
    preferences: PreferencesRecipe
    weights: Annotated[tuple[TokenWeights, ...], BeforeValidator(expand_weights)] = Field(
        min_length=1
    )
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0,), min_length=1)
    # Stands under ``weights``, which are its candidates then; it finds out which are tried.
    search: SearchKnobs | None = None
    sft: SFTKnobs = SFTKnobs()
    # By name, each with what differs from ``sft``; empty: ``sft`` is the only one.
    tunings: dict[Name, SFTKnobs] = Field(default_factory=dict)
    # Of weights that are one objective, whether only the first are trained.
    dedupe: Literal["none", "rays"] = "none"
    dpo: DPOKnobs = DPOKnobs()
    # By name, each with what differs from ``dpo``; empty: ``dpo`` is the only one.
    alignments: dict[Name, DPOKnobs] = Field(default_factory=dict)
    benchmarks: Annotated[tuple[Benchmark, ...], BeforeValidator(expand_suites)] = Field(
        min_length=1
    )
    text: TextRecipe | None = None  # plain text; what its likelihood loses was forgotten
    sensitivity: Sensitivity | None = None
    samples: Prompts | None = None  # whose responses the report shows side by side
    judge: JudgeModel | None = None  # where it is served, the runtime says
    judged: Annotated[tuple[JudgedPrompts, ...], BeforeValidator(expand_judged)] = ()
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where its keys were set; known of a study that was loaded from a file."""
        return self._places

    @property
    def tuned_by(self) -> dict[str | None, SFTKnobs]:
        """Every way of SFT by its name, the main one first; the only one may have none."""
        return {**self.tunings} or {None: self.sft}

    @property
    def aligned_by(self) -> dict[str, DPOKnobs]:
        """Every alignment of an SFT model, by its name; the first is the main one."""
        return self.alignments or {ONLY_ALIGNMENT: self.dpo}

    def key_of(self, alignment: str, knob: str) -> tuple[str, ...]:
        """The key that sets a knob of an alignment: its own, or that of all of them."""
        found = self.alignments.get(alignment, self.dpo)
        is_shared = getattr(found, knob) == getattr(self.dpo, knob)
        return ("dpo", knob) if is_shared else ("alignments", alignment, knob)

    def key_of_sft(self, tuning: str | None, knob: str) -> tuple[str, ...]:
        """The key that sets a knob of a tuning: its own, or that of all of them."""
        is_shared = getattr(self.tuned_by[tuning], knob) == getattr(self.sft, knob)
        if tuning is None or is_shared:
            return ("sft", knob)
        return (*map(str, self.places.as_written(("tunings", tuning))), knob)

    @model_validator(mode="before")
    @classmethod
    def _share_knobs(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return with_shared_sft(with_shared_knobs(with_candidates(given)))

    @field_serializer("tunings", "alignments")
    def _say_what_is_unset(self, several: dict[str, SFTKnobs | DPOKnobs]) -> dict[str, Any]:
        # A knob that is left out is read as that of ``sft`` or ``dpo``.
        return {name: knobs.model_dump(mode="json") for name, knobs in several.items()}

    def stated(self) -> dict[str, Any]:
        """As of all settings; tunings and alignments say what is unset, too."""
        whole = self.model_dump(mode="json")
        said = super().stated() | {key: whole[key] for key in ("tunings", "alignments")}
        if (search := said.pop("search", None)) is not None:
            del said["seeds"]
            said["weights"] = {"search": search}
        return said

    @field_validator("tunings")
    @classmethod
    def _tunings_differ(
        cls, tunings: dict[str, SFTKnobs], info: ValidationInfo
    ) -> dict[str, SFTKnobs]:
        if tunings and info.data.get("search") is not None:
            raise ValueError(
                "a search is of one way of SFT; leave 'tunings' out, or name weights in its place"
            )
        if "sft" in info.data:  # else it is wrong, and they do not have what it says
            check_tunings(tunings)
        return tunings

    @field_validator("alignments")
    @classmethod
    def _alignments_differ(
        cls, alignments: dict[str, DPOKnobs], info: ValidationInfo
    ) -> dict[str, DPOKnobs]:
        if "dpo" in info.data:
            check_alignments(alignments)
        return alignments

    @field_validator("weights")
    @classmethod
    def _sources_are_known(
        cls, weights: tuple[TokenWeights, ...], info: ValidationInfo
    ) -> tuple[TokenWeights, ...]:
        instructions = info.data.get("instructions")  # absent if it is wrong itself
        allowed = list(instructions.sources) if instructions else []
        for name in (name for of_cell in weights for name in of_cell.sources):
            if instructions and name not in allowed:
                raise ValueError(
                    f"'sources' names {name!r}, which is no source of the instructions; allowed: "
                    f"{', '.join(allowed) or 'none, for they have a single place'}"
                )
        for of_cell in weights:
            if allowed and not any(of_cell.of_source(name).learns for name in allowed):
                raise ValueError(
                    f"{of_cell}: every source has a table of its own there, and all weights in "
                    "them are 0, so nothing would be learned; leave one of them out of 'sources', "
                    f"or give it a weight above 0: {', '.join(allowed)}"
                )
        return weights

    @field_validator("search")
    @classmethod
    def _rung_is_measured(
        cls, search: SearchKnobs | None, info: ValidationInfo
    ) -> SearchKnobs | None:
        rows, stop = info.data.get("instructions"), search and search.stop
        if rows and stop and stop.reads_held_out and rows.held_out_fraction == 0:
            raise ValueError(
                "stop.sft_rungs and stop.by = nll_response read the likelihood of held-out rows, "
                "and none are held out; set instructions.held_out_fraction above 0, or "
                "leave sft_rungs out and set stop.by to select"
            )
        return search

    @field_validator("dedupe")
    @classmethod
    def _rays_are_objectives(cls, dedupe: str, info: ValidationInfo) -> str:
        if dedupe == "rays":
            check_rays(info.data, info.context or Places())
        return dedupe

    @field_validator("weights", "seeds", "benchmarks", "judged")
    @classmethod
    def _has_no_duplicates(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [str(getattr(value, "name", value)) for value in values]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands there {names.count(name)} times; once is enough")
        return values

    @field_validator("benchmarks")
    @classmethod
    def _something_selects(cls, benchmarks: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        if not any(benchmark.role == "select" for benchmark in benchmarks):
            raise ValueError("no benchmark has 'role: select', so no cell could be recommended")
        return benchmarks

    @model_validator(mode="after")
    def _goes_together(self, info: ValidationInfo) -> Self:
        if info.context is not None:
            self._places = info.context
        check_names(self)
        check_adapters(self)
        check_judge(self)
        return self

    @property
    def cells(self) -> list[Cell]:
        """What is trained: weights with every seed, seeds outermost: cut off it is still a grid.

        Of a search those that it may try.
        """
        points = product(self.seeds, self.tuned_by, trained(self))
        return [Cell(weights=w, seed=s, tuning=tuning) for s, tuning, w in points]


class Runtime(Settings):
    """Where and how fast: no value here changes a result or a fingerprint."""

    artifact_root: Path = Path("artifacts")
    tracking_uri: str | None = None  # MLflow; unset: MLFLOW_TRACKING_URI, else SQLite in the root
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_workers: PositiveInt = 1  # stages that run at the same time, each in its own process
    threads_per_worker: PositiveInt | None = None  # CPU threads; unset: cores / workers
    micro_batch_size: PositiveInt = 32  # rows per forward and backward; at most a step's
    evaluation_batch_size: PositiveInt = 64
    data_workers: PositiveInt | None = None  # cores that prepare rows; unset: all / num_workers
    # Of SFT: rows end to end, each seeing itself only, instead of padding; unset: if the model can.
    packing: bool | None = None
    # Per forward and backward, with packing; unset: see ``PACKED_TOKENS``.
    packed_tokens: PositiveInt | None = None
    attention: Literal["auto", "sdpa", "eager", "flex_attention", "flash_attention_2"] = "auto"
    gradient_checkpointing: bool = False  # less memory, about a third more time
    num_processes: PositiveInt = 1  # ranks of one SFT, one GPU each
    cells_at_once: PositiveInt = 1  # of SFT, on one base; adapters alone, see ``why_alone``
    sharding: Literal["none", "fsdp"] = "none"  # of weights and optimizer over the ranks
    checkpoint_seconds: PositiveFloat = 300.0  # between the trainer's checkpoints
    stage_timeout_seconds: PositiveFloat | None = None  # after which its process is ended
    # Cells of a study: where it runs, or as runs of the deployment "cell", on whatever worker.
    execution: Literal["local", "deployments"] = "local"
    # URL at which complete artifacts are kept for other machines; unset: they stay here.
    artifact_store: str | None = None
    judge: JudgeEndpoint | None = None  # where the judge of a study is served

    @field_validator("sharding")
    @classmethod
    def _has_ranks(cls, sharding: str, info: ValidationInfo) -> str:
        if sharding != "none" and info.data.get("num_processes") == 1:
            raise ValueError(
                "there is one process, so nothing to spread weights over; set num_processes above "
                "1, or sharding to none"
            )
        return sharding
