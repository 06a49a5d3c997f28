"""A judge that behaves as it is told: slow, refusing, cutting its answers; on 127.0.0.1."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wit.judging.cache import ReplyCache
from wit.judging.client import Judge
from wit.judging.settings import JudgeEndpoint, JudgeModel

KEY = "sk-judge-0123456789-secret/+%"
VARIABLE = "TEST_JUDGE_KEY"
ENVIRON = {VARIABLE: KEY}

Body = dict[str, Any]


@dataclass
class Reaction:
    """What the server does with one request."""

    text: str = "Rating: [[5]]"  # of the judge
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None  # instead of a chat completion
    seconds: float = 0.0  # before it answers
    has_usage: bool = True
    cut: bool = False  # the connection ends in the middle of the answer
    is_silent_cut: bool = False  # so too, and no header tells that there should be more
    drip_seconds: float | None = None  # between the letters of the answer


Behaviour = Callable[[Body, int], Reaction]


def always(reaction: Reaction) -> Behaviour:
    return lambda _, __: reaction


def at_first(reaction: Reaction, times: int = 1) -> Behaviour:
    """So it reacts to its first requests, and well to the others."""
    return lambda _, number: reaction if number < times else Reaction()


@dataclass
class Asked:
    """One request that the server got."""

    body: Body
    headers: dict[str, str]
    at: float  # of the monotonic clock, in seconds

    @property
    def user(self) -> str:
        return self.body["messages"][-1]["content"]


class JudgeServer:
    """Has a behaviour, which gets a request and its number, from 0; notes all that it is asked."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = always(Reaction())
        self.asked: list[Asked] = []
        self.num_open = 0
        self.most_open = 0
        self.lock = threading.Lock()
        self.url = ""

    def endpoint(self, **changes: Any) -> JudgeEndpoint:
        knobs = {"key_variable": VARIABLE, "timeout_seconds": 5, "max_retries": 2}
        return JudgeEndpoint.model_validate({"base_url": self.url, **knobs, **changes})

    def react(self, body: Body, headers: dict[str, str]) -> Reaction:
        """Waits as long as the reaction says; the request counts as open meanwhile."""
        with self.lock:
            number = len(self.asked)
            self.asked.append(Asked(body, headers, time.monotonic()))
            self.num_open += 1
            self.most_open = max(self.most_open, self.num_open)
        reaction = self.behaviour(body, number)
        time.sleep(reaction.seconds)
        with self.lock:
            self.num_open -= 1
        return reaction


def judge_at(server: JudgeServer, cache: ReplyCache, **changes: Any) -> Judge:
    """That server as a judge, with what its endpoint is to have instead."""
    return Judge(JudgeModel(model="judge"), server.endpoint(**changes), cache, ENVIRON)


def completion(body: Body, reaction: Reaction) -> str:
    answer: Body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": f"{body['model']}-2026",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reaction.text},
                "finish_reason": "stop",
            }
        ],
    }
    if reaction.has_usage:
        answer["usage"] = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return json.dumps(answer)


@contextmanager
def served_judge() -> Iterator[JudgeServer]:
    judge = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else head and body of an answer lie 40 ms apart

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reaction = judge.react(body, headers)
            text = completion(body, reaction) if reaction.body is None else reaction.body
            self._answer(reaction, text.encode())

        def _answer(self, reaction: Reaction, content: bytes) -> None:
            self.send_response(reaction.status)
            self.send_header("Content-Type", "application/json")
            for name, value in reaction.headers.items():
                self.send_header(name, value)
            if reaction.is_silent_cut:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                if reaction.cut or reaction.is_silent_cut:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                elif reaction.drip_seconds:
                    for letter in content:
                        self.wfile.write(bytes([letter]))
                        time.sleep(reaction.drip_seconds)
                else:
                    self.wfile.write(content)
            except OSError:
                self.close_connection = True  # who asked has gone

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # who asked has gone

    server = Server(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
