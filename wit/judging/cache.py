"""What a judge answered, kept by what it was asked: one file an answer.

Several processes may use one folder: a file is written aside and renamed, and whoever comes second
writes the same. A file that is damaged counts as absent, and is replaced by a new answer. A
file's name holds the version of what is kept: once that has changed, all is asked anew, and the
files of before stay.
"""

import hashlib
import json
from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt, ValidationError

from wit.files import replace_durably
from wit.judging.prompts import JudgeRequest
from wit.judging.settings import JudgeModel
from wit.settings import Settings

REPLIES = "judge-replies"  # folder of the artifact root
VERSION = 2  # of Reply, and of how it is kept


class Reply(Settings):
    """A complete answer of the judge."""

    text: str
    finish_reason: str | None  # the server's word; "length": the judge was cut off
    served_model: str | None  # as the server calls it, often with a date
    num_prompt_tokens: NonNegativeInt
    num_completion_tokens: NonNegativeInt
    is_estimated: bool  # the server told no tokens; they are counted by a rule
    server: str  # address of who answered
    usd: NonNegativeFloat | None  # by the prices of that day; None: they are not known


class _Kept(Settings):
    digest: str  # of the reply: a text with one letter changed is still JSON
    reply: Reply


def cache_key(request: JudgeRequest, model: JudgeModel) -> str:
    """64 hex digits over all that can change the answer; not the server's address.

    As for artifacts, the model's name stands for the model, wherever it is served: a server that
    has moved to another host or port goes on with what it has answered. Two servers that call
    different models by one name have to be told to call them otherwise. Each answer says who gave
    it.
    """
    asked = {
        "version": VERSION,
        "messages": request.messages,
        "prompt_version": request.prompt_version,
        **model.model_dump(),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """Answers in a folder."""

    def __init__(self, folder: Path) -> None:
        """Writes nothing.

        Args:
            folder: Need not exist.
        """
        self.folder = folder

    def get(self, key: str) -> Reply | None:
        """The answer, if it is there and whole.

        Raises:
            OSError: The folder cannot be read.
        """
        try:
            kept = _Kept.model_validate_json(self._path(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return kept.reply if kept.digest == _digest(kept.reply) else None

    def put(self, key: str, reply: Reply) -> None:
        """Keeps an answer.

        Raises:
            OSError: The folder cannot be written.
        """
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _Kept(digest=_digest(reply), reply=reply)
        replace_durably(path, kept.model_dump_json().encode())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _digest(reply: Reply) -> str:
    return hashlib.sha256(reply.model_dump_json().encode()).hexdigest()
