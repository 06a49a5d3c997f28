"""What a run needs that only Prefect's server knows, and that nothing may show."""

from typing import NoReturn

import httpx
from prefect.blocks.system import Secret
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from wit.config import Runtime
from wit.errors import InputError
from wit.lineage.addresses import shown
from wit.machine import asks_the_judge
from wit.plan import Plan


def with_judge_key(plan: Plan, runtime: Runtime) -> Runtime:
    """The runtime with the judge's key, if a block holds that and the judge is still to be asked.

    The key goes from process to process in memory, with the runtime; no parameter of a run, file
    or environment has it.

    Raises:
        InputError: There is no such block, or no server that could have it.
    """
    judge = runtime.judge
    if judge is None or judge.key_secret is None or not asks_the_judge(plan):
        return runtime
    return runtime.model_copy(update={"judge": judge.with_key(_held_in(judge.key_secret))})


def _held_in(block: str) -> str:
    url = get_current_settings().api.url
    if not url:  # the client would start a server, whose blocks are nobody's
        _refuse(
            block,
            "PREFECT_API_URL names no Prefect server that could have it. 'wit up' starts one and "
            "says its address",
        )
    try:
        value = Secret.load(block, _sync=True).value.get_secret_value()  # pyright: ignore[reportCallIssue]
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError, ValueError) as error:
        # Prefect's ValueError for it; pydantic's and that of text which is no JSON are others.
        if isinstance(error.__cause__, ObjectNotFound):
            _refuse(
                block,
                f"Prefect's server at {shown(url)} has no such block. Make one: Blocks in its UI, "
                f"kind Secret, name {block}",
            )
        _refuse(
            block,
            f"Prefect's server at {shown(url)} does not give it: {type(error).__name__}. Is it "
            "running, does the address end in /api, and does PREFECT_API_AUTH_STRING let us in?",
        )
    if not isinstance(value, str):
        _refuse(block, "the block holds something else than text; save the key alone in it")
    return value


def _refuse(block: str, why: str) -> NoReturn:
    raise InputError(
        f"runtime judge.key_secret = {block}: {why}. Or set judge.key_variable to the name of an "
        "environment variable that holds the key"
    ) from None
