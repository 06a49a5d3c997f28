"""Recipes of adapters: what is trained beside frozen weights, and merged into them afterwards.

Nothing here imports PEFT; ``wit.training.adapters`` does.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from wit.settings import Settings

FASTER = 10  # times the learning rate of full tuning: arXiv 2405.09673, section 5
CONTINUE = "continue"
_LOW_RANK = {
    "rank": 16,
    "alpha": None,  # twice the rank
    "modules": "all-linear",
    "rslora": False,
    "dora": False,
    "init": "default",
    "tokens": None,
}
# Knobs of each method, and their defaults: for low ranks those of arXiv 2405.09673, not of PEFT.
DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": _LOW_RANK,
    "qlora": {**_LOW_RANK, "double_quantization": True},
    "mora": {"rank": 16, "type": "rotation", "modules": "all-linear", "tokens": None},
    CONTINUE: {},
}
# Of PEFT, the others that begin as no change, can be merged into the weights, need nothing of a
# trainer but a gradient, and draw nothing at random while they are trained.
OTHERS = (
    *("c3a", "deft", "delora", "fourierft", "glora", "gralora", "hira", "hra", "ia3"),
    *("ln_tuning", "loha", "lokr", "miss", "oft", "osf", "peanut", "psoft", "randlora"),
    *("road", "supertuning", "vera", "waveft"),
)
OF_ZERO = ("c3a", "fourierft")  # these begin at random unless they are told otherwise
METHODS = (*DEFAULTS, *OTHERS)
QUANTISED = ("qlora",)
# Of these PEFT, or its quantisation, cannot compute with weights that are spread over ranks.
NOT_SHARDED = (*QUANTISED, "deft", "delora", "ln_tuning", "osf", "psoft", "supertuning")
_INIT = r"^(default|gaussian|orthogonal|olora|pissa|pissa_niter_[1-9]\d*)$"


class AdapterKnobs(Settings):
    """An adapter: how it is built, and how it begins. What a method does not have is unset.

    There is no dropout: a forward that is random would make results depend on how an optimizer step
    is split into forwards.
    """

    method: Literal[METHODS] = "lora"  # pyright: ignore[reportInvalidTypeForm]
    # MoRA: that of a LoRA with as many parameters. Strict: alpha follows from it as it is given.
    rank: Annotated[int, Field(gt=0, strict=True)] | None = None
    alpha: PositiveFloat | None = None  # an update counts alpha / rank times
    modules: tuple[str, ...] | Literal["all-linear"] | None = None  # never the LM head
    rslora: bool | None = None  # alpha / sqrt(rank) instead: arXiv 2312.03732
    dora: bool | None = None  # the length of each row of weights apart: arXiv 2402.09353
    # From which matrices it begins; all begin as no change. PiSSA (arXiv 2404.02948) and OLoRA
    # (arXiv 2406.01775) take main directions out of the weights.
    init: Annotated[str, Field(pattern=_INIT)] | None = None
    double_quantization: bool | None = None  # of the constants of quantisation: arXiv 2305.14314
    type: Literal["rotation", "sharing"] | None = None  # MoRA: sharing is for large ranks
    # Whether the embeddings (and the rows of the LM head) of the special tokens that rows have are
    # trained too: a base has seldom learned those of a chat template, so it could neither read
    # turns nor end a response. SFT: template unless it is told otherwise.
    tokens: Literal["template", "none"] | None = None
    config: dict[str, Any] | None = None  # keyword arguments of the config class of PEFT

    @property
    def takes_from_weights(self) -> bool:
        """Whether what it begins with is taken off the weights that it is put on."""
        return self.init is not None and self.init.startswith(("olora", "pissa"))

    @property
    def can_be_sharded(self) -> bool:
        """Whether it can be put on weights that are spread over ranks."""
        is_whole = self.dora or self.takes_from_weights or self.trains_tokens
        return self.method not in NOT_SHARDED and not is_whole

    @property
    def trains_tokens(self) -> bool:
        """Whether embeddings of special tokens are trained too."""
        return self.tokens == "template"

    @property
    def in_sft(self) -> Self:
        """As SFT has it: trains special tokens, if the method can and nobody says otherwise."""
        if self.tokens is not None or "tokens" not in DEFAULTS.get(self.method, {}):
            return self
        return self.model_copy(update={"tokens": "template"})

    @model_validator(mode="before")
    @classmethod
    def _take_the_methods_own(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        method = given.get("method", "lora")
        known = DEFAULTS.get(method, {"config": {}}) if isinstance(method, str) else {}
        knobs = {**known, **{key: value for key, value in given.items() if value is not None}}
        if method in OF_ZERO and isinstance(knobs["config"], Mapping):
            knobs["config"] = {"init_weights": True, **knobs["config"]}
        rank = knobs.get("rank")
        if "alpha" in knobs and knobs["alpha"] is None and isinstance(rank, int) and rank > 0:
            knobs["alpha"] = 2.0 * rank
        return knobs

    @model_validator(mode="after")
    def _knobs_are_its_own(self) -> Self:
        own = {"method", *DEFAULTS.get(self.method, ("config",))}
        for knob in type(self).model_fields:
            if knob not in own and getattr(self, knob) is not None:
                allowed = ", ".join(sorted(own - {"method"})) or "none"
                raise ValueError(f"{knob!r} is no knob of {self.method}, whose are: {allowed}")
        if random := [k for k, v in (self.config or {}).items() if "dropout" in k and v]:
            raise ValueError(
                f"config.{random[0]}: dropout would make results depend on how an optimizer step "
                "is split into forwards; leave it out"
            )
        if self.method in QUANTISED and self.takes_from_weights:
            raise ValueError(
                f"init = {self.init} takes directions out of the weights, and those of "
                f"{self.method} are quantised; choose default, gaussian or orthogonal"
            )
        return self


def by_name(adapter: Any) -> Any:
    """``lora`` is short for ``{method: lora}``, and ``none`` for no adapter."""
    if adapter == "none":
        return None
    return {"method": adapter} if isinstance(adapter, str) else adapter


Adapter = Annotated[AdapterKnobs | None, BeforeValidator(by_name)]  # None: all weights are trained


def as_before(values: dict[str, Any]) -> dict[str, Any]:
    """What enters the fingerprint of a training.

    Without an adapter that is what it was when LoRA was the only one, and of one that trains no
    tokens what it was before there was that knob: what was trained is found.
    """
    if (adapter := values["adapter"]) is not None:
        trains_tokens = adapter["tokens"] == "template"
        known = {name: v for name, v in adapter.items() if name != "tokens" or trains_tokens}
        return values | {"adapter": known}
    return {name: value for name, value in values.items() if name != "adapter"} | {"lora": None}


def as_now(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as a record has it, with the names that its knobs have now.

    An older wit knew LoRA alone, and trained no embeddings of tokens.
    """
    values = {**recorded}
    if "lora" in values:
        lora = values.pop("lora")
        values["adapter"] = {"method": "lora", **lora} if isinstance(lora, Mapping) else lora
    adapter = values.get("adapter")
    if isinstance(adapter, Mapping) and "tokens" in DEFAULTS.get(adapter.get("method", ""), {}):
        values["adapter"] = {"tokens": "none", **adapter}
    return values


def with_own_rate(given: Any, default: float) -> Any:
    """Knobs of a training; one that has an adapter and names no learning rate has its own.

    Args:
        given: As they were given.
        default: The learning rate of full tuning.
    """
    if not isinstance(given, Mapping) or given.get("learning_rate") is not None:
        return given
    if by_name(given.get("adapter")) is None:
        return given
    return {**given, "learning_rate": float(f"{FASTER * default:.12g}")}  # as one would write it
