"""Recipes of what is measured: benchmarks and their items, and everything about one model."""

from typing import Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from wit.judging.settings import JudgeModel
from wit.recipes import CommitHash, Name, Recipe, TextRecipe
from wit.sensitivity.recipe import SensitivityKnobs
from wit.settings import Settings


class Benchmark(Settings):
    """One lm-eval task file, and what its score is for.

    ``select`` chooses the best cell, ``report`` says how good it is, and ``forgetting`` what is
    left of what the base knew.
    """

    name: Name
    role: Literal["select", "report", "forgetting"]
    path: str | None = None  # an lm-eval YAML; unset: wit/evaluation/benchmarks, then lm-eval's own
    data: str | None = None  # rows to ask instead of its own: a file of one split, or a folder
    revision: CommitHash | None = None  # of the hub's repository that has its rows
    num_fewshot: NonNegativeInt = 0
    limit: PositiveInt | None = None  # first items only; such scores say so wherever they are shown
    system: str | None = None  # text of the chat template's system turn

    @model_validator(mode="after")
    def _rows_are_in_one_place(self) -> Self:
        if self.data is not None and self.revision is not None:
            raise ValueError("'revision' is of rows on the hub; those of 'data' count by content")
        return self


class BenchmarkRecipe(Settings):
    """The part of a benchmark that decides its scores."""

    name: str
    num_fewshot: int
    limit: int | None
    system: str | None = None
    revision: str | None = None
    data: str | None = None  # where its rows are; they count by their content

    @classmethod
    def of(cls, benchmark: Benchmark) -> Self:
        """That part of it."""
        return cls.model_validate({name: getattr(benchmark, name) for name in cls.model_fields})

    @property
    def items(self) -> Self:
        """The same items, however they are asked."""
        return self.model_copy(update={"num_fewshot": 0, "system": None})


class ItemsRecipe(Recipe):
    """The text of every item of the benchmarks, to be looked for in training rows."""

    stage: ClassVar[str] = "items@1"

    benchmarks: tuple[BenchmarkRecipe, ...]

    def identity(self) -> dict[str, Any]:
        """As of every recipe; rows count by their content, not by their path."""
        return self.model_dump(mode="json", exclude={"benchmarks": {"__all__": {"data"}}})


class OverlapRecipe(Recipe):
    """Which items of the benchmarks stand in the training rows."""

    stage: ClassVar[str] = "overlap@2"

    num_words: PositiveInt = 13  # in a row, in both; GPT-3's (arXiv 2005.14165, appendix C)


class EvaluationRecipe(Recipe):
    """One thing that is measured on one model.

    Each is an artifact, so that a benchmark more is all that is made. All of them are of one
    stage. What follows the stage's ``@`` tells the kinds apart.
    """

    @property
    def measures(self) -> str:
        """What is measured, such as the name of a benchmark."""
        return self.stage.partition("@")[2].partition("-")[0]


class BenchmarkEvaluation(EvaluationRecipe):
    """The scores of one benchmark."""

    stage: ClassVar[str] = "evaluation@benchmark-2"

    benchmark: BenchmarkRecipe
    seed: NonNegativeInt = 1234  # of few-shot sampling

    @property
    def measures(self) -> str:
        """Name of the benchmark."""
        return self.benchmark.name

    def identity(self) -> dict[str, Any]:
        """As of every recipe; rows count by their content, not by their path."""
        return self.model_dump(mode="json", exclude={"benchmark": {"data"}})


class LikelihoodEvaluation(EvaluationRecipe):
    """Held-out negative log-likelihoods by role, and preference accuracy."""

    stage: ClassVar[str] = "evaluation@likelihood-1"


class AlignmentEvaluation(EvaluationRecipe):
    """Held-out preferences and drawn responses; of an aligned model, beside its SFT parent."""

    stage: ClassVar[str] = "evaluation@alignment-2"

    num_prompts: PositiveInt = 64  # that are answered: the first so many that are held out
    max_new_tokens: PositiveInt = 128  # of a response; half of the model's context, if that is less
    seed: NonNegativeInt = 1234  # of the draws


class ForgettingEvaluation(EvaluationRecipe):
    """How far a model has gone from the base: likelihood of plain text, and KL on held-out rows."""

    stage: ClassVar[str] = "evaluation@forgetting-1"

    text: TextRecipe | None = None  # None: KL alone

    def identity(self) -> dict[str, Any]:
        """As of every recipe; text counts by its content, not by its path."""
        return self.model_dump(mode="json", exclude={"text": {"path"}})


class Sensitivity(SensitivityKnobs):
    """How sensitive models are to the wording of these prompts."""

    path: str  # prompts with paraphrases and targets; or "builtin"


class SensitivityEvaluation(EvaluationRecipe):
    """POSIX, and the spread of accuracy over wordings."""

    stage: ClassVar[str] = "evaluation@sensitivity-1"

    knobs: SensitivityKnobs


class Prompts(Settings):
    """What models are asked, to be read or judged: a file, and how long a response may be."""

    path: str  # a file of prompts of one or several turns; or "builtin"
    max_new_tokens: PositiveInt = 256  # of a response, the stop token included
    num_prompts: PositiveInt | None = None  # the first so many; unset: all


class JudgedPrompts(Prompts):
    """Prompts whose responses a judge compares with references, or rates."""

    name: Name
    kind: Literal["pairs", "ratings"]  # as AlpacaEval, or as MT-Bench
    role: Literal["select", "report"]
    references: str | None = None  # path; pairs need them, ratings for maths, reasoning and coding


class ResponsesEvaluation(EvaluationRecipe):
    """Responses to prompts, how many are empty or not ended, and how many prompts were cut."""

    stage: ClassVar[str] = "evaluation@responses-2"

    name: str  # of the set that is judged; empty: they are shown
    max_new_tokens: int
    num_prompts: int | None

    @property
    def measures(self) -> str:
        """What is answered."""
        return f"{self.name} responses".strip()


class JudgeEvaluation(EvaluationRecipe):
    """What a judge says of responses."""

    stage: ClassVar[str] = "evaluation@judge-3"

    name: str
    kind: Literal["pairs", "ratings"]
    judge: JudgeModel

    @property
    def measures(self) -> str:
        """Name of the set that is judged."""
        return self.name


EVALUATIONS: tuple[type[EvaluationRecipe], ...] = (
    BenchmarkEvaluation,
    LikelihoodEvaluation,
    AlignmentEvaluation,
    ForgettingEvaluation,
    SensitivityEvaluation,
    ResponsesEvaluation,
    JudgeEvaluation,
)
"""All kinds."""
