"""Which model judges, and where it is served.

The first decides the result and belongs to a recipe; the second does not, and belongs to the
runtime. The key is a value of neither: they name the environment variable that holds it, or the
block of a Prefect server that does.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from wit.errors import InputError
from wit.settings import Settings

HIDDEN_KEY = "[key]"  # in the place of the key, in all that is said or kept
NO_JUDGE = (
    "the study has responses judged, and the runtime does not say where the judge is served: set "
    "--set-runtime judge.base_url=https://api.openai.com/v1, say"
)
SHORTEST_SECRET = 8  # characters; a shorter key is one that a local server does not look at


class JudgeModel(Settings):
    """The model that judges, and how its answers are drawn: all that can change a verdict."""

    model: Annotated[str, Field(min_length=1)]  # as its server calls it
    temperature: NonNegativeFloat | None = (
        0.0  # None: the server's own, for models that know no other
    )
    max_tokens: PositiveInt = 2048  # of an answer; FastChat's number, AlpacaEval's is 100
    seed: int | None = 0  # None: not sent, for servers that refuse it


class JudgeEndpoint(Settings):
    """Where the judge is served, how it may be asked, and what it costs."""

    # A wrong address or name may hold a password, and pydantic shows what is wrong.
    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: str  # ends in what stands before /chat/completions, such as http://127.0.0.1:8000/v1
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = (
        "OPENAI_API_KEY"  # environment variable that holds the key; None: the server wants none
    )
    # Name of a Secret block of Prefect's server that holds it instead.
    key_secret: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = None
    max_concurrent_requests: PositiveInt = 8
    timeout_seconds: PositiveFloat = 120.0  # of one attempt
    max_retries: NonNegativeInt = 5  # of one request; the pauses double, from half a second to 8 s
    # What the server calls the limit of an answer; for OpenAI's newer models it is the second.
    limit_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    usd_per_million_prompt_tokens: NonNegativeFloat | None = None
    usd_per_million_completion_tokens: NonNegativeFloat | None = None
    # Out of the block. No part of what is dumped or shown; workers are sent it.
    _key: SecretStr | None = PrivateAttr(default=None)

    @field_validator("key_variable", "key_secret", mode="before")
    @classmethod
    def _empty_is_none(cls, name: object) -> object:
        return None if name == "" else name

    @field_validator("base_url")
    @classmethod
    def _is_plain_address(cls, url: str) -> str:
        example = "write an address such as https://api.openai.com/v1"
        try:
            address = urlsplit(url)
            port = address.port  # reading it may fail
        except ValueError:
            raise ValueError(example) from None
        if address.scheme not in ("http", "https") or not address.hostname or port == 0:
            raise ValueError(example)
        if "@" in address.netloc or address.query or address.fragment:
            raise ValueError(
                "an address with a user, a password or a query may hold a secret, and is written "
                "into records; put the key into the variable that 'key_variable' names"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _has_both_prices_or_none(self) -> Self:
        prices = (self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens)
        if (prices[0] is None) != (prices[1] is None):
            raise ValueError("give both prices, of prompt and of completion tokens, or neither")
        return self

    @model_validator(mode="before")
    @classmethod
    def _has_one_place_of_the_key(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("key_secret"):
            return values
        if values.get("key_variable"):
            raise ValueError("give 'key_variable' or 'key_secret', not both")
        return {**values, "key_variable": None}

    @property
    def key_place(self) -> str | None:
        """Where the key is, in words; None where the server wants none."""
        if self.key_secret is not None:
            return f"the Prefect block secret/{self.key_secret}"
        return None if self.key_variable is None else f"the variable {self.key_variable}"

    def with_key(self, key: str) -> Self:
        """The same, with what the block of ``key_secret`` holds."""
        found = self.model_copy()
        found._key = SecretStr(key)
        return found

    def usd(self, num_prompt_tokens: int, num_completion_tokens: int) -> float | None:
        """What so many tokens cost; None where prices are not known."""
        for_prompts = self.usd_per_million_prompt_tokens
        for_completions = self.usd_per_million_completion_tokens
        if for_prompts is None or for_completions is None:
            return None
        cost = num_prompt_tokens * for_prompts + num_completion_tokens * for_completions
        return cost / 1e6


def check_judge(endpoint: JudgeEndpoint, environ: Mapping[str, str]) -> None:
    """Sends nothing; looks whether the key is there.

    Raises:
        InputError: The variable that shall hold the key is not set, is empty, or holds no key; or
            so it is with the block.
    """
    key_of(endpoint, environ)


def key_of(endpoint: JudgeEndpoint, environ: Mapping[str, str]) -> str | None:
    """The key; None where the server wants none.

    Raises:
        InputError: As ``check_judge``.
    """
    where = f"judge at {endpoint.base_url}"
    if endpoint.key_place is None:
        return None
    key = _held_key(endpoint, environ, where)
    # A header cannot hold the rest, and the library's complaint would show all of it.
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(
            f"{where}: {endpoint.key_place} holds blanks, line breaks or letters that no key has; "
            "set it to the key alone"
        )
    return key


def _held_key(endpoint: JudgeEndpoint, environ: Mapping[str, str], where: str) -> str:
    name = endpoint.key_variable
    if endpoint.key_secret is not None:
        if endpoint._key is None:
            raise InputError(
                f"{where}: {endpoint.key_place} has not been read; flows, 'wit run' and 'wit plan' "
                "read it, and where there is no Prefect 'key_variable' is the setting to use"
            )
        held, state = endpoint._key.get_secret_value().strip(), "is empty"
        remedy = "save the key in it"
    else:
        assert name is not None
        held, state = environ.get(name, "").strip(), "is empty" if name in environ else "is not set"
        remedy = (
            f"write `export {name}=...`, or for a server that wants no key set 'key_variable' to "
            "null"
        )
    if not held:
        raise InputError(
            f"{where}: {endpoint.key_place} {state}, which shall hold its key; {remedy}"
        )
    return held


def without_key(text: str, key: str | None) -> str:
    """The text with the key hidden, as it is and as an address and some writers of JSON have it."""
    if key is None or len(key) < SHORTEST_SECRET:
        return text
    for form in (key, quote(key, safe=""), key.replace("/", r"\/")):
        text = text.replace(form, HIDDEN_KEY)
    return text
