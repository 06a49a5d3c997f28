"""A ``wit run`` whose workers say when they made what, and when a model was at work meanwhile.

``watch()`` and then ``wit.cli.main()``, called with the words FOLDER run STUDY ..., are that run. A
thread of each worker looks at the stack of the main thread a hundred times a second: no library is
told, nothing is called more often, and what runs outside Python (nearly all of a training) is not
held up.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from wit import workers
from wit.artifacts import Artifact
from wit.settings import Settings

LOOK_SECONDS = 0.01
# Who is on the stack while a model computes: forward of any module and all of the library's own
# generation; backward, gradients clipped and zeroed, a step of the optimizer, and what the trainer
# calls around them.
MODEL_CALLS = frozenset(
    {
        "Module._call_impl",
        "Module._wrapped_call_impl",
        "GenerationMixin.generate",
        "Tensor.backward",
        "Accelerator.clip_grad_norm_",
        "Optimizer.profile_hook_step.<locals>.wrapper",
        "Module.zero_grad",
        "Trainer.training_step",
    }
)
OURS = frozenset({"_EnoughEnded.__call__"})  # what generation asks, and is no work of a model
Interval = tuple[float, float]  # seconds since 1970


class MadeStage(Settings):
    """A stage as its worker saw it."""

    fingerprint: str
    began: float  # seconds since 1970; all that the worker does for it lies between
    ended: float
    model: tuple[Interval, ...]  # when a model was at work


class Watch:
    """What the main thread of this process does, looked at from another one."""

    def __init__(self) -> None:
        """Looks until the process ends."""
        self._found: list[Interval] = []
        self._lock = threading.Lock()
        main = threading.main_thread().ident
        assert main is not None
        threading.Thread(target=self._look, args=(main,), daemon=True).start()

    def taken(self) -> tuple[Interval, ...]:
        """The intervals since it was last asked."""
        with self._lock:
            found, self._found = self._found, []
        return joined(found)

    def _look(self, main: int) -> None:
        last = time.time()
        while True:
            time.sleep(LOOK_SECONDS)
            is_at_work, now = asks_model(sys._current_frames().get(main)), time.time()
            if is_at_work:
                with self._lock:
                    self._found.append((last, now))
            last = now


def asks_model(frame: FrameType | None) -> bool:
    """Whether a model computes for this frame, or for one that called it; the innermost counts."""
    while frame is not None:
        name = frame.f_code.co_qualname
        if name in MODEL_CALLS or name in OURS:
            return name in MODEL_CALLS
        frame = frame.f_back
    return False


def joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The same time as intervals that do not touch, in their order."""
    found: list[Interval] = []
    for began, ended in sorted(intervals):
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(ended, found[-1][1]))
        else:
            found.append((began, ended))
    return tuple(found)


def seconds_in(intervals: Iterable[Interval]) -> float:
    """How long at least one of them lasts."""
    return sum(ended - began for began, ended in joined(intervals))


class _Worker(NamedTuple):
    folder: Path
    make: Any  # as the stages' own
    watch: Watch

    def made(self, artifact: Artifact, *arguments: Any) -> Any:
        self.watch.taken()
        began = time.time()
        try:
            return self.make(artifact, *arguments)
        finally:
            stage = MadeStage(
                fingerprint=artifact.fingerprint,
                began=began,
                ended=time.time(),
                model=self.watch.taken(),
            )
            with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(stage.model_dump(mode="json")) + "\n")


def _begin(folder: Path, *arguments: Any) -> None:
    """As any worker begins, in its process, and then what it makes is watched."""
    workers.begin_worker(*arguments)  # that of its module, which nobody has changed there
    from wit import stages

    stages.make_artifact = _Worker(folder, stages.make_artifact, Watch()).made


def read_stages(folder: Path) -> list[list[MadeStage]]:
    """Of every worker what it made, in its order."""
    return [
        [MadeStage.model_validate(json.loads(line)) for line in file.read_text().splitlines()]
        for file in sorted(folder.glob("*.jsonl"))
    ]


def watch() -> None:
    """Has workers watched; what is seen goes to the folder that comes first on the command line."""
    folder = Path(sys.argv.pop(1))
    folder.mkdir(parents=True, exist_ok=True)
    workers.begin_worker = partial(_begin, folder)  # pyright: ignore
