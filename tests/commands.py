"""Commands of `wit` in this process: what they print and how they end, without their start.

A process of its own imports for seconds what is imported here already. Tests of that start, of
signals and of what outlives a command have one all the same.
"""

import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest.mock import patch

from wit.cli import main


@dataclass(frozen=True)
class Ended:
    """As `subprocess.run` describes a process."""

    returncode: int
    stdout: str
    stderr: str


def wit(*words: object, environment: Mapping[str, str] | None = None) -> Ended:
    """Runs ``wit WORDS`` with these variables added, and puts the environment back."""
    out, error = StringIO(), StringIO()
    code: int | str | None = 0
    with (
        patch.object(sys, "argv", ["wit", *map(str, words)]),
        patch.dict("os.environ", environment or {}),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        try:
            main()
        except SystemExit as ending:
            code = ending.code
    assert code is None or isinstance(code, int), code
    return Ended(code or 0, out.getvalue(), error.getvalue())
