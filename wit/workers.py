"""Long-lived processes that make artifacts, one at a time each.

A stage in a process of its own cannot take the others down: a crash, an abort in a native library
or the kernel's out-of-memory killer fails that stage alone. Processes live on between stages,
because importing torch takes longer than a short stage.
"""

import atexit
import gc
import logging
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from wit import worker_calls
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.errors import RunEndedError, StageTimeoutError, WorkerDiedError
from wit.evaluation_recipes import EvaluationRecipe, JudgeEvaluation
from wit.forking import begin_importing, process_context
from wit.lifeline import end_with_parent
from wit.lineage import StudyRun
from wit.outcome import study_folder
from wit.progress import Progress, read_progress
from wit.stages import Outcome
from wit.turns import Turns
from wit.worker_environment import gpus_of_worker, read_when_loaded, visible_gpus

POLL_SECONDS = 1.0
T = TypeVar("T")


class Workers:
    """As many worker processes as the runtime says, started when they are first needed.

    One more asks judges. It waits for a network, and holds neither a model nor a GPU meanwhile.
    """

    def __init__(self, runtime: Runtime, log_folder: Path, part: str = "") -> None:
        """Starts nothing yet.

        Args:
            runtime: Number of workers, and threads of each.
            log_folder: Each worker writes what it says to ``worker-N.log`` there.
            part: Of a study whose parts run apart; then it is ``worker-PART-N.log``.
        """
        self.runtime = runtime
        self.log_folder = log_folder
        self.part = part
        self._gpus = visible_gpus() if runtime.device != "cpu" else []
        self._starting = threading.Lock()  # or one would be started behind the back of ``stop``
        self._turns = Turns(runtime.num_workers)
        self._judging = Turns(1, first=runtime.num_workers)
        self._executors: dict[int, ProcessPoolExecutor] = {}
        self._is_stopped = threading.Event()
        self.made_together: dict[str, str] = {}  # by fingerprint, the cells that it was made with

    def warm_up(self) -> None:
        """Has the first worker import what stages need, while the run is still being prepared.

        That takes longer than a short stage.
        """
        with self._turns.worker() as number:
            (self._executors.get(number) or self._start(number)).submit(worker_calls.import_stages)

    def make(
        self,
        artifact: Artifact,
        study: StudyRun | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Outcome:
        """Makes the artifact in the next free worker; waits for one.

        Args:
            artifact: What to make.
            study: For whom.
            on_progress: Called every second or so while it is being trained.

        Raises:
            WorkerDiedError: The worker was killed, or the run was ended.
            StageTimeoutError: It took longer than the runtime allows; it stays resumable.
            WitError: The stage failed.
        """
        turns = self._judging if isinstance(artifact.recipe, JudgeEvaluation) else self._turns
        with turns.worker(_subject(artifact)) as number:
            if self.runtime.stage_timeout_seconds:
                # The time for which another process makes it does not count.
                with artifact.lock(pause=lambda: self.pause(POLL_SECONDS)):
                    pass

            def look() -> None:
                progress = read_progress(artifact.scratch)
                if on_progress and progress:
                    on_progress(progress)

            name = f"{artifact.stage} {artifact.fingerprint}"
            call = partial(worker_calls.make, artifact, self.runtime, study)
            return self._answer(number, call, name, look, self.runtime.stage_timeout_seconds)

    def make_together(self, group: Sequence[Artifact], study: StudyRun | None = None) -> list[str]:
        """Trains SFT models at once in the next free worker; see ``wit.together``.

        It may take as long as all of them by themselves.

        Args:
            group: What to make.
            study: For whom.

        Raises:
            WorkerDiedError: As of ``make``.
            StageTimeoutError: As of ``make``.
            WitError: None could be made.
        """
        with self._turns.worker() as number:
            limit = self.runtime.stage_timeout_seconds
            names = ", ".join(artifact.fingerprint for artifact in group)
            call = partial(worker_calls.make_together, group, self.runtime, study)
            return self._answer(
                number, call, f"sft {names}", lambda: None, limit and limit * len(group)
            )

    def _answer(
        self,
        number: int,
        call: Callable[[], T],
        name: str,
        look: Callable[[], None],
        limit: float | None,
    ) -> T:
        """What a worker returns of a call.

        Args:
            number: Of the worker.
            call: What it does.
            name: Of what it makes.
            look: Called every second or so meanwhile.
            limit: Seconds after which it is killed.
        """
        executor = self._executors.get(number) or self._start(number)
        deadline = time.monotonic() + (limit or math.inf)
        try:
            future = executor.submit(call)
            while not wait([future], timeout=_seconds_to_wait(deadline)).done:
                if time.monotonic() >= deadline:
                    _kill(executor)
                    continue  # until it is told that it broke
                look()
            return future.result()
        except BrokenProcessPool:
            executor.shutdown(wait=False)
            self._executors.pop(number, None)
            self._check_goes_on()
            if time.monotonic() >= deadline:
                raise StageTimeoutError(
                    f"{name} was not done after {limit:g} seconds (runtime "
                    f"stage_timeout_seconds); it said: {self._log_file(number)}"
                ) from None
            raise WorkerDiedError(
                f"the process that made {name} died (out of memory, or killed); it said: "
                f"{self._log_file(number)}. Run again to resume"
            ) from None

    def pause(self, seconds: float) -> None:
        """Waits, without a worker.

        Raises:
            RunEndedError: The run was ended meanwhile.
        """
        self._is_stopped.wait(seconds)
        self._check_goes_on()

    def stop(self, *, at_once: bool = False) -> None:
        """Ends all workers.

        Args:
            at_once: Do not wait for what they are making; it stays resumable.
        """
        with self._starting:
            self._is_stopped.set()
            executors = list(self._executors.values())  # its threads take what broke out of it
        for executor in executors:
            if at_once:
                _kill(executor)
            executor.shutdown(wait=True, cancel_futures=True)
        self._executors.clear()

    def _start(self, number: int) -> ProcessPoolExecutor:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        is_judging = number >= self.runtime.num_workers
        gpus = [] if is_judging else self._gpus
        gpus = gpus_of_worker(number, gpus, self.runtime.num_processes)
        environment = read_when_loaded(self.runtime, gpus)
        with self._starting:
            self._check_goes_on()  # a retry may come too late
            executor = ProcessPoolExecutor(
                max_workers=1,
                # Never forked from this one: a fork of a process with threads can deadlock.
                mp_context=process_context(environment),
                initializer=begin_worker,
                initargs=(self._log_file(number), environment),
            )
            with _without_main():
                executor.submit(os.getpid)  # which starts the process
            self._executors[number] = executor
        return executor

    def _check_goes_on(self) -> None:
        if self._is_stopped.is_set():
            raise RunEndedError("the run was ended. Run again to resume")

    @property
    def log_files(self) -> Path:
        """What the workers say; ``*`` stands for their numbers."""
        part = re.sub(r"[^\w.-]", "_", self.part)  # weights of sources have other signs
        return self.log_folder / f"worker-{f'{part}-' if part else ''}*.log"

    def _log_file(self, number: int) -> Path:
        return self.log_files.with_name(self.log_files.name.replace("*", str(number)))


def _subject(artifact: Artifact) -> str:
    """The model that a worker has loaded afterwards, by its fingerprint."""
    is_evaluation = isinstance(artifact.recipe, EvaluationRecipe)
    return artifact.parents["model"].fingerprint if is_evaluation else ""


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are spawned here do not import this one's main module.

    multiprocessing has them do so, for what is defined there. Of a flow run that is Prefect's
    engine, which takes two seconds and which no stage needs.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _seconds_to_wait(deadline: float) -> float:
    """Until progress is read again, or time is up; what has been killed is waited for."""
    left = deadline - time.monotonic()
    return min(POLL_SECONDS, left) if left > 0 else POLL_SECONDS


def _kill(executor: ProcessPoolExecutor) -> None:
    for process in list(executor._processes.values()):
        process.kill()


@contextmanager
def workers_for(study_name: str, runtime: Runtime, part: str = "") -> Iterator[Workers]:
    """Workers that end with the block, whatever ends it."""
    workers = Workers(runtime, study_folder(runtime, study_name), part)
    try:
        yield workers
    except BaseException:
        workers.stop(at_once=True)
        raise
    workers.stop()


def import_early(runtime: Runtime) -> None:
    """Begins to import what the runtime's workers need, where they can be forked from who does it.

    That takes longer than a short stage, and a core has nothing else to do while a run begins.
    """
    if runtime.device == "cpu" or not visible_gpus():
        begin_importing(read_when_loaded(runtime, []))


def begin_worker(log_file: Path, environment: Mapping[str, str]) -> None:
    """What each worker does first; it ends with this process, and says what it says to a file."""
    end_with_parent()  # no orphan holds a GPU
    atexit.register(gc.freeze)  # to look for cycles among all that was imported takes seconds
    os.environ.update(environment)
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
