"""Questions to the servers of ``wit up``."""

import base64
import json
import time
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

TIMEOUT_SECONDS = 60.0
BUSY_SECONDS = 0.5  # between attempts
_opener = build_opener(ProxyHandler({}))  # a proxy cannot reach the loopback of this machine


def ask(
    url: str,
    method: str = "GET",
    content: Any = None,
    *,
    credentials: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:
    """Asks until the server is not too busy: Prefect's SQLite serves one writer at a time.

    Args:
        url: Of the question; without a password.
        method: Of HTTP.
        content: Sent as JSON.
        credentials: ``USER:PASSWORD``.
        timeout: Of all attempts together, in seconds.

    Raises:
        OSError: Nobody answers, or not as it should; an HTTPError says how.
        ValueError: The answer is no JSON.
    """
    headers = {"Content-Type": "application/json"}
    if credentials:
        headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    data = None if content is None else json.dumps(content).encode()
    request = Request(url, data, headers, method=method)
    deadline = time.monotonic() + timeout
    while True:
        try:
            with _opener.open(request, timeout=timeout) as response:
                text = response.read()
            return json.loads(text) if text else None
        except HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_SECONDS)


def answers(url: str, timeout: float = 5.0) -> bool:
    """Whether somebody says that all is well there."""
    try:
        _opener.open(url, timeout=timeout).close()
    except OSError:
        return False
    return True
