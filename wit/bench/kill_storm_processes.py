"""Processes of a kill storm, found by the folder that all of them name, whoever is their parent."""

from pathlib import Path
from typing import NamedTuple

import psutil

from wit.guard import FLOW_RUN, MARK


class Found(NamedTuple):
    """A live process of the storm."""

    process: psutil.Process
    command: str
    program: str  # of `wit up` that started it, such as worker-gpu-0; run: a `wit run`
    flow_run: str | None  # id, of a flow run's process and of what that started
    is_forked: bool = False  # from one that does nothing else

    @property
    def makes_stages(self) -> bool:
        """Whether it is one of those in which stages are made."""
        return self.is_forked or "multiprocessing.spawn" in self.command

    @property
    def runs_flow(self) -> bool:
        """Whether a worker started it to run a flow."""
        return "prefect.engine" in self.command


def found_in(folder: Path) -> list[Found]:
    """All that live and name the folder in their command or environment, the oldest first.

    One that is forked and has not become another program yet counts as its parent.
    """
    name, found = str(folder), []
    for process in psutil.process_iter():
        try:
            environment, command = process.environ(), " ".join(process.cmdline())
            if name in command or any(name in value for value in environment.values()):
                program = environment.get(MARK, "").rpartition("/")[2]
                one = Found(process, command, program, environment.get(FLOW_RUN))
                found.append((process.create_time(), process.pid, process.ppid(), one))
        except psutil.Error:  # it has ended, is a zombie, or somebody else's
            continue
    commands = {pid: one.command for _, pid, _, one in found}
    living = []
    for _, _, parent, one in sorted(found, key=lambda place: place[:2]):
        is_fork = commands.get(parent) == one.command
        if not is_fork:
            living.append(one)
        elif "multiprocessing.forkserver" in one.command:
            living.append(one._replace(is_forked=True))
    return living


def locked_by(process: psutil.Process, stage: str | None = None) -> set[str]:
    """Fingerprints of the artifacts that a process makes, by the locks that it holds open.

    Args:
        process: One that makes stages.
        stage: Only those of this stage, such as ``dpo``; None: of any.
    """
    try:
        files = [Path(file.path) for file in process.open_files()]
    except (psutil.Error, OSError):
        return set()
    return {
        file.name[1:-5]
        for file in files
        if file.match(".*.lock") and stage in (None, file.parent.name)
    }
