"""Recipes: what a stage is told, and its part of the stage's identity.

Every knob that can change a result stands in one of them, typed, and enters the fingerprint.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from wit.adapter_recipes import CONTINUE, Adapter, AdapterKnobs, as_before, with_own_rate
from wit.settings import Settings
from wit.weights import TokenWeights

CommitHash = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]  # of a training: some of it, and not all
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]


class Recipe(Settings):
    """What a stage is told, and its part of the stage's identity."""

    stage: ClassVar[str]  # "name@version"; raise the version when the code changes its meaning
    not_identity: ClassVar[frozenset[str]] = frozenset()  # knobs that say where, not what

    @property
    def stage_name(self) -> str:
        """Name of the stage without its version, such as ``sft``."""
        return self.stage.partition("@")[0]

    def identity(self) -> dict[str, Any]:
        """The values that enter the fingerprint, as JSON."""
        return self.model_dump(mode="json", exclude=set(self.not_identity))


class LocatedInput(Settings):
    """Something that we did not make: a local path, or a pinned commit on the Hugging Face hub."""

    path: str | None = None  # relative to the file that names it; or "builtin"
    repo: str | None = None  # on the hub
    revision: CommitHash | None = None  # of ``repo``; a branch name would move

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.path is None) == (self.repo is None):
            raise ValueError("give either 'path' (local) or 'repo' with 'revision' (hub)")
        if self.repo is not None and self.revision is None:
            raise ValueError("'repo' needs 'revision', the 40 hex digits of a commit")
        if self.repo is None and self.revision is not None:
            raise ValueError("'revision' is of a 'repo'; a local path counts by its content")
        return self


class BaseRecipe(LocatedInput):
    """The pretrained model that every cell starts from, and the chat template of the study."""

    template: str = "own"  # "own": the tokenizer's; a name from wit/data/templates; a .jinja file


class TokenizerRecipe(Recipe):
    """The base's tokenizer with the study's chat template, stop token and padding."""

    stage: ClassVar[str] = "tokenizer@1"
    not_identity: ClassVar[frozenset[str]] = frozenset({"template"})  # counts by its content

    template: str = "own"


class RowsRecipe(LocatedInput):
    """Where rows come from, and which column means what."""

    subset: str | None = None  # configuration of ``repo``
    split: str = "train"  # of ``repo``
    columns: dict[str, str] = Field(
        default_factory=dict
    )  # our name -> column; empty: common shapes are recognised
    max_rows: PositiveInt | None = None  # keep this many, chosen by content


class SourceRecipe(RowsRecipe):
    """One source of a mixture."""

    share: PositiveFloat | None = None  # of the mixture's rows, relative to the other shares


class DataRecipe(RowsRecipe, Recipe):
    """Rows of one place or of a mixture, and how many tokens they may have.

    A mixture is as large as its shares allow: no row stands in it twice. Sources without shares
    give all their rows.
    """

    sources: dict[Name, SourceRecipe] = Field(default_factory=dict)  # instead of path or repo
    max_tokens: PositiveInt = 1024  # per row, prompt and response together
    held_out_fraction: Fraction = 0.05  # of the rows, chosen by content
    # Jaccard similarity of word 5-grams from which rows count as one; unset: equal ones only. What
    # many rows share is left aside where 20 5-grams or a fifth of a row are its own: see
    # wit/data/duplicates.py. Rows that are less than half alike are no near-duplicates, and to look
    # for them takes twenty times as long and kilobytes a row.
    near_duplicates: Annotated[float, Field(ge=0.5, le=1, strict=True)] | None = None
    overlap: Literal["report", "remove"] = "report"  # rows that hold text of a benchmark's items

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if not self.sources:
            return LocatedInput._is_in_one_place(self)  # pyright: ignore[reportCallIssue]  pydantic's
        # A stored study says what is unset too.
        given = [
            repr(name)
            for name in ("path", "repo", "revision", "subset", "split", "columns")
            if getattr(self, name)
            != type(self).model_fields[name].get_default(call_default_factory=True)
        ]
        if given:
            raise ValueError(
                f"give either 'sources' or {' and '.join(given)}; each source has its own"
            )
        with_share = [name for name, source in self.sources.items() if source.share]
        if with_share and len(with_share) < len(self.sources):
            missing = ", ".join(name for name in self.sources if name not in with_share)
            raise ValueError(f"either every source has a 'share' or none has; without: {missing}")
        return self

    def by_source(self) -> dict[str, RowsRecipe]:
        """Every source by its name, in the order of names; a single place has the empty name."""
        return dict(sorted(self.sources.items())) or {"": self}

    def identity(self) -> dict[str, Any]:
        """As of every recipe; rows count by their content, not by their path."""
        located = {"path": True, "sources": {"__all__": {"path"}}}
        return self.model_dump(mode="json", exclude=located)


class InstructionsRecipe(DataRecipe):
    """Instruction rows, tokenised once, every token with its role."""

    stage: ClassVar[str] = "instructions@3"

    turns: Literal["all", "last"] = "all"  # "last": earlier responses count as prompt


class TextRecipe(RowsRecipe):
    """Plain text without a template, such as the base was pretrained on; its column is ``text``."""

    max_tokens: PositiveInt = 1024  # per document; the rest of it is left out


class PreferencesRecipe(DataRecipe):
    """Preference pairs, or good and bad responses, tokenised once; the columns say which."""

    stage: ClassVar[str] = "preferences@3"

    # Least difference of the scores of a pair, in their unit. Answers that score alike are dropped
    # in any case.
    min_margin: NonNegativeFloat = 0.0

    def identity(self) -> dict[str, Any]:
        """As of all rows; a margin that nobody asked for is none, as before there was any."""
        values = super().identity()
        return values if self.min_margin else {k: v for k, v in values.items() if k != "min_margin"}


class TrainingKnobs(Recipe):
    """What SFT and DPO have in common. The optimizer is AdamW."""

    learning_rate: PositiveFloat  # peak, reached after warm-up
    num_epochs: PositiveInt
    examples_per_step: PositiveInt  # rows (DPO: pairs) per optimizer step, over all devices
    weight_decay: NonNegativeFloat
    schedule: Literal["cosine", "linear", "constant"]  # after warm-up; the first two end at 0
    warmup_fraction: Fraction  # of the optimizer steps
    max_grad_norm: NonNegativeFloat  # 0 does not clip
    adam_beta1: Fraction = 0.9
    adam_beta2: Fraction = 0.999
    adam_epsilon: PositiveFloat = 1e-8
    precision: Literal["float32", "bfloat16", "float16"] = (
        "float32"  # of matrix products; weights stay float32
    )


class SFTKnobs(TrainingKnobs):
    """Weighted instruction tuning. Defaults: arXiv 2507.07817, section 3.2."""

    learning_rate: PositiveFloat = 2e-5
    num_epochs: PositiveInt = 2
    examples_per_step: PositiveInt = 64
    weight_decay: NonNegativeFloat = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_fraction: Fraction = 0.01
    max_grad_norm: NonNegativeFloat = 0.0  # the paper does not clip; clipping would undo rays
    # What the weighted sum of a step's losses is divided by; see wit/losses.py.
    normaliser: Literal["nonzero_tokens", "weight_sum", "per_role_mean"] = "nonzero_tokens"
    loss: Literal["nll", "dft"] = "nll"
    decay_norms: bool = False  # weight decay of norms and biases too, as the paper's script
    # Instead of all weights, and merged into the model after training; unset: all are trained.
    adapter: Adapter = None

    @model_validator(mode="before")
    @classmethod
    def _adapters_learn_faster(cls, given: Any) -> Any:
        return with_own_rate(given, cls.model_fields["learning_rate"].default)

    def identity(self) -> dict[str, Any]:
        """As of every recipe."""
        return as_before(super().identity())

    @field_validator("adapter")
    @classmethod
    def _is_new(cls, adapter: AdapterKnobs | None) -> AdapterKnobs | None:
        if adapter is not None and adapter.method == CONTINUE:
            raise ValueError("before SFT there is no adapter to continue; choose another method")
        return None if adapter is None else adapter.in_sft


class SFTRecipe(SFTKnobs):
    """Weighted instruction tuning of the base, for one pair of weights and one seed."""

    stage: ClassVar[str] = "sft@2"

    weights: TokenWeights
    seed: NonNegativeInt


class RungRecipe(SFTRecipe):
    """The beginning of an SFT, up to where a search looks whether it is worth its end."""

    stage: ClassVar[str] = "rung@1"  # raise it with that of SFT

    share: Share  # of the optimizer steps

    @property
    def of(self) -> SFTRecipe:
        """The whole training."""
        return SFTRecipe(**self.model_dump(exclude={"share"}))
