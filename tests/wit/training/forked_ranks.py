"""Ranks that import nothing, in place of those that `wit.training.ranks` launches.

A launched rank and its launcher take ten seconds of a core each to import what they train with.
That they are launched: test_ranks.py, and the ranks of test_killed_rank.py that are killed.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Self
from unittest.mock import patch

from forked import Forking, ranks_of

from wit.training import ranks


def run_rank_saying(job: Path, said: Path) -> None:
    with said.open("w") as file, redirect_stdout(file):
        ranks.run_rank(job)


class ForkedRanks:
    """Of ``subprocess.Popen`` what is asked of a launcher."""

    def __init__(self, context: Forking, command: list[str]) -> None:
        """Starts them all, as the command would launch them."""
        number, job = int(command[command.index("--nproc_per_node") + 1]), Path(command[-1])
        self.said = job.with_name("said")
        os.mkfifo(self.said)
        self.ranks = ranks_of(context, number, run_rank_saying, job, self.said)
        for rank in self.ranks:
            rank.start()
        self.stdout = self.said.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        for rank in self.ranks:
            rank.join()
        self.said.unlink()
        self.returncode = next((rank.exitcode for rank in self.ranks if rank.exitcode), 0)


@contextmanager
def ranks_are_forked(context: Forking) -> Iterator[None]:
    """In the block, those of trainings that this process asks for."""

    def launch(command: list[str], **_: object) -> ForkedRanks:
        return ForkedRanks(context, command)

    launcher = SimpleNamespace(Popen=launch, PIPE=subprocess.PIPE)
    with patch("wit.training.ranks.subprocess", launcher):
        yield
