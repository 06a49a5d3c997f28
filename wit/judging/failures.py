"""Why a judge could not be asked, in words of ours: what, where, and the remedy; never the key."""

from typing import TYPE_CHECKING

from wit.judging.errors import JudgeDownError, JudgeError
from wit.judging.settings import JudgeEndpoint, JudgeModel, without_key

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAIError

SHOWN = 300  # characters of what a server says


class UnreadableError(Exception):
    """An answer with status 200 that is not of the chat-completions protocol."""


def failure_of(
    error: "OpenAIError | TimeoutError | UnreadableError",
    label: str,
    model: JudgeModel,
    endpoint: JudgeEndpoint,
    key: str | None,
) -> JudgeError:
    """Our error for one of the library's.

    Args:
        error: After all retries.
        label: Of the request that failed.
        model: Who was asked.
        endpoint: Where.
        key: What must not be shown, even if the server says it.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    where = f"judge {model.model} at {endpoint.base_url}"
    # The library's text of an error leaves out most of what servers say.
    whole = error.response.text if isinstance(error, APIStatusError) else str(error)
    said = _shortened(whole, key)
    attempts = f"at most {endpoint.max_retries + 1} attempts ({label})"
    if isinstance(error, APIStatusError):
        return _of_status(error, where, label, attempts, endpoint, said)
    if isinstance(error, APITimeoutError | TimeoutError):
        return JudgeDownError(
            f"{where}: no whole answer within {endpoint.timeout_seconds:g} s in {attempts}; is it "
            "overloaded? Raise timeout_seconds, or lower max_concurrent_requests"
        )
    if isinstance(error, APIConnectionError):
        cause = _shortened(str(error.__cause__ or error), key)
        return JudgeDownError(
            f"{where}: cannot be reached, or cuts its answers, in {attempts}: {cause}; is it "
            "running, and is base_url right?"
        )
    if isinstance(error, UnreadableError):
        return JudgeError(
            f"{where}: answers {label} with something that is no chat completion: {said!r}; does "
            "base_url end in what stands before /chat/completions, often /v1?"
        )
    return JudgeError(f"{where}: cannot be asked ({label}): {said}")


def _shortened(text: str, key: str | None) -> str:
    # Hidden before it is cut: else a part of the key might be left at the end.
    return " ".join(without_key(text, key).split())[:SHOWN]


def _of_status(
    error: "APIStatusError",
    where: str,
    label: str,
    attempts: str,
    endpoint: JudgeEndpoint,
    said: str,
) -> JudgeError:
    status = error.status_code
    if status in (401, 403):
        held = (
            f"the key in {endpoint.key_place}"
            if endpoint.key_place
            else "a request without a key; name the variable that holds one in 'key_variable'"
        )
        return JudgeError(f"{where}: refuses {held} (status {status}): {said}")
    if status == 404:
        return JudgeError(
            f"{where}: status 404: it has no such model, or no such address; check 'model' and "
            f"'base_url'. It says: {said}"
        )
    if status == 429:
        wait = error.response.headers.get("retry-after")
        told = f" It asks to wait {wait} s." if wait and wait.isdecimal() else ""
        return JudgeDownError(
            f"{where}: takes no more requests (status 429) after {attempts}: {said}.{told} Lower "
            "max_concurrent_requests, or run again when its limit is renewed"
        )
    if status >= 500 or status in (408, 409):
        return JudgeDownError(f"{where}: fails (status {status}) after {attempts}: {said}")
    return JudgeError(
        f"{where}: refuses {label} (status {status}): {said}; the request may be longer than its "
        "context, or it does not know one of max_tokens, temperature and seed"
    )
