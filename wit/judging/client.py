"""Asks a judge many things, a few at once, and keeps every answer as soon as it is there.

The ``openai`` library does what is hard: it tries again after 408, 409, 429, 5xx, time-outs and
cut connections, with pauses that grow and vary, or as ``Retry-After`` says up to two minutes.
The first request that fails for good ends all others: a score of some items is no score, and what
was answered is in the cache.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from wit.judging.cache import Reply, ReplyCache, cache_key
from wit.judging.errors import JudgeError
from wit.judging.failures import UnreadableError, failure_of
from wit.judging.prompts import JudgeRequest
from wit.judging.settings import JudgeEndpoint, JudgeModel, key_of, without_key
from wit.judging.usage import Usage, spent

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)
TokenCounter = Callable[[str], int]
LONGEST_PAUSE_SECONDS = 120  # that the library lets a server ask for by Retry-After
READINGS = 2  # of one request: an answer that is cut without a word looks like nonsense


class Answered(NamedTuple):
    """One answer, and whether it was there before."""

    reply: Reply
    is_cached: bool


def quarter_of_characters(text: str) -> int:
    """Tokens of an English text by a rule of thumb: a quarter of its characters, rounded up."""
    return -(-len(text) // 4)


class Judge(NamedTuple):
    """Who is asked, and all that it takes to ask."""

    model: JudgeModel
    endpoint: JudgeEndpoint
    cache: ReplyCache  # what is in it is not asked again; what is answered is put in it at once
    environ: Mapping[str, str]  # holds the key
    count_tokens: TokenCounter = quarter_of_characters  # of a text, for servers that do not tell


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None


class _Completion(BaseModel):
    """What is needed of an answer of the chat-completions protocol."""

    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Tokens | None = None


def ask_all(requests: Sequence[JudgeRequest], judge: Judge) -> tuple[list[Answered], Usage]:
    """The answers, in the order of the requests; equal requests are asked once.

    Not from within a running event loop.

    Args:
        requests: What is asked.
        judge: Who is asked.

    Raises:
        InputError: The key is not there.
        JudgeError: The judge refuses; ``JudgeDownError``: it does not answer. Both come after
            at most ``(max_retries + 1) * timeout_seconds + max_retries * 120`` seconds of the
            request that failed, and have ``usage``.
        OSError: The cache cannot be read or written.
    """
    model, cache = judge.model, judge.cache
    asking = _Asking(judge, key_of(judge.endpoint, judge.environ))
    by_key = {cache_key(request, model): request for request in requests}
    cached = {key: reply for key in by_key if (reply := cache.get(key)) is not None}
    missing = {key: request for key, request in by_key.items() if key not in cached}
    _tell_of_others(cached.values(), model, judge.endpoint)
    start = time.monotonic()
    error: JudgeError | None = None
    try:
        if missing:
            asyncio.run(asking.ask(missing))
    except JudgeError as failure:
        error = failure  # raised below, outside of the handler, lest it bring this one along
    usage = asking.usage(len(by_key), [*cached.values()], time.monotonic() - start)
    if error is not None:
        raise _with_usage(error, usage, cache)
    answered = []
    for request in requests:
        key = cache_key(request, model)
        found = cached.get(key)
        answered.append(Answered(found or asking.replies[key], found is not None))
    return answered, usage


def _tell_of_others(cached: Iterable[Reply], model: JudgeModel, endpoint: JudgeEndpoint) -> None:
    elsewhere = Counter(reply.server for reply in cached if reply.server != endpoint.base_url)
    for server, num in elsewhere.items():
        logger.warning(
            "judge %s: %d answers are kept that %s gave, not %s; a model's name stands for it "
            "wherever it is served",
            model.model,
            num,
            server,
            endpoint.base_url,
        )


def _with_usage(error: JudgeError, usage: Usage, cache: ReplyCache) -> JudgeError:
    """The same error, that says how far it came.

    It is a new one, without the library's, which has the key in the headers of its request.
    """
    whole = type(error)(
        f"{error}. {usage.num_cached + usage.num_answered} of {usage.num_requests} requests are "
        f"answered and kept in {cache.folder}; run again to go on from there"
    )
    whole.usage = usage
    return whole


class _Asking:
    """One run of requests: what it has asked, and what it was answered."""

    def __init__(self, judge: Judge, key: str | None) -> None:
        self.model, self.endpoint, self.cache = judge.model, judge.endpoint, judge.cache
        self.count_tokens = judge.count_tokens
        self.key = key
        self.replies: dict[str, Reply] = {}
        self.num_begun = 0  # requests
        self.num_sent = 0  # attempts
        self.num_failed = 0

    def usage(self, num_requests: int, cached: Sequence[Reply], seconds: float) -> Usage:
        """What it took so far."""
        replies = list(self.replies.values())
        num_prompt_tokens, num_completion_tokens, usd = spent(replies)
        num_cached_prompt_tokens, num_cached_completion_tokens, cached_usd = spent(cached)
        return Usage(
            num_requests=num_requests,
            num_cached=len(cached),
            num_answered=len(replies),
            num_retries=max(0, self.num_sent - self.num_begun),
            num_failed=self.num_failed,
            num_prompt_tokens=num_prompt_tokens,
            num_completion_tokens=num_completion_tokens,
            is_estimated=any(reply.is_estimated for reply in (*replies, *cached)),
            usd=usd if self.endpoint.usd(0, 0) is not None else None,
            seconds=seconds,
            num_cached_prompt_tokens=num_cached_prompt_tokens,
            num_cached_completion_tokens=num_cached_completion_tokens,
            cached_usd=cached_usd,
            num_by_server=dict(Counter(reply.server for reply in (*cached, *replies))),
        )

    async def ask(self, missing: Mapping[str, JudgeRequest]) -> None:
        """Asks all of them.

        Raises:
            JudgeError: Of the first that failed; the others are ended.
        """
        slots = asyncio.Semaphore(self.endpoint.max_concurrent_requests)
        async with self._client() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for key, request in missing.items():
                        group.create_task(self._ask_one(client, slots, key, request))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None

    def _client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        async def count(request: object) -> None:  # noqa: ARG001
            self.num_sent += 1

        return AsyncOpenAI(
            api_key=self.key or "none",
            base_url=self.endpoint.base_url,
            timeout=self.endpoint.timeout_seconds,
            max_retries=self.endpoint.max_retries,
            http_client=DefaultAsyncHttpxClient(event_hooks={"request": [count]}),
        )

    async def _ask_one(
        self, client: "AsyncOpenAI", slots: asyncio.Semaphore, key: str, request: JudgeRequest
    ) -> None:
        from openai import OpenAIError

        endpoint = self.endpoint
        # The library's time-outs are of single reads: a server may send a byte every minute.
        longest = (endpoint.max_retries + 1) * endpoint.timeout_seconds
        longest += endpoint.max_retries * LONGEST_PAUSE_SECONDS
        async with slots:
            self.num_begun += 1
            try:
                async with asyncio.timeout(longest):
                    reply = await self._reply(client, request)
            except (OpenAIError, TimeoutError, UnreadableError) as error:
                self.num_failed += 1
                raise failure_of(error, request.label, self.model, endpoint, self.key) from None
        self.cache.put(key, reply)
        self.replies[key] = reply

    async def _reply(self, client: "AsyncOpenAI", request: JudgeRequest) -> Reply:
        from openai import Omit

        knobs: dict[str, Any] = {self.endpoint.limit_parameter: self.model.max_tokens}
        for name in ("temperature", "seed"):
            if (value := getattr(self.model, name)) is not None:
                knobs[name] = value
        if self.key is None:
            knobs["extra_headers"] = {"Authorization": Omit()}
        create: Any = client.chat.completions.with_raw_response.create  # takes plain dictionaries
        said = ""
        for _ in range(READINGS):
            answer = await create(model=self.model.model, messages=request.messages, **knobs)
            said = answer.text
            try:
                return self._read(_Completion.model_validate_json(said), request)
            except ValidationError:
                continue
        raise UnreadableError(said)

    def _read(self, completion: _Completion, request: JudgeRequest) -> Reply:
        choice = completion.choices[0]
        text = self._hidden(choice.message.content or choice.message.refusal or "")
        told = completion.usage or _Tokens()
        num_prompt, num_completion = told.prompt_tokens, told.completion_tokens
        is_estimated = num_prompt is None or num_completion is None
        if num_prompt is None:
            num_prompt = self.count_tokens(request.system) + self.count_tokens(request.user)
        if num_completion is None:
            num_completion = self.count_tokens(text)
        return Reply(
            text=text,
            finish_reason=choice.finish_reason and self._hidden(choice.finish_reason),
            served_model=completion.model and self._hidden(completion.model),
            num_prompt_tokens=num_prompt,
            num_completion_tokens=num_completion,
            is_estimated=is_estimated,
            server=self.endpoint.base_url,
            usd=self.endpoint.usd(num_prompt, num_completion),
        )

    def _hidden(self, text: str) -> str:
        return without_key(text, self.key)
