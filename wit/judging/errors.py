"""What can go wrong with a judge while it is asked.

StageError
└── JudgeError               the judge refuses, or its answers cannot be used
    ├── JudgeDownError       it does not answer; what it answered is kept, and asked for no more
    └── UnparsableError      too many of its answers hold no verdict: there is no score
"""

from typing import TYPE_CHECKING

from wit.errors import StageError

if TYPE_CHECKING:
    from wit.judging.usage import Usage


class JudgeError(StageError):
    """The judge refuses what it is asked, or its answers cannot be used."""

    usage: "Usage | None" = None  # set after construction, so that it survives pickling


class JudgeDownError(JudgeError):
    """The judge does not answer, or has no time; the next run goes on where this one ended."""

    may_pass = True


class UnparsableError(JudgeError):
    """Too many answers of the judge hold no verdict; what is left would not be a fair sample."""
