"""SFT models of several cells, trained at once on one frozen base before each is asked for.

Nobody depends on it. What is not there afterwards, whatever the cause, is trained by itself.
"""

import hashlib
import logging
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from wit import resident, sharing
from wit.artifacts import TOGETHER, Artifact, say_how
from wit.cell_plan import CellPlan
from wit.compatibility import why_alone
from wit.config import Runtime
from wit.failed_attempt import as_ours
from wit.lineage import StudyRun, Telling
from wit.making import bring_parents, making, share
from wit.memory import halvings_of, is_out_of_memory, release
from wit.plan import Plan
from wit.rungs import HeldError, leave
from wit.space import check_space

Group = tuple[CellPlan, ...]
_log = logging.getLogger(__name__)


def groups_of(plan: Plan, runtime: Runtime) -> list[Group]:
    """Cells whose SFT differs in weights and seed only: two at least, and at most as many as asked.

    Left out are those whose SFT is made, or has been begun by itself.
    """
    alike: dict[str | None, list[CellPlan]] = defaultdict(list)
    for cell in plan.cells:
        tuning = cell.cell.tuning
        is_left_out = plan.is_made(cell.sft) or _is_begun(cell.sft) or plan.search is not None
        if not is_left_out and why_alone(plan.study.tuned_by[tuning]) is None:
            alike[tuning].append(cell)
    most = runtime.cells_at_once
    return [
        tuple(cells[start : start + most])
        for cells in alike.values()
        for start in range(0, len(cells) - 1, most)  # one that is left over is trained by itself
        if most > 1
    ]


def _is_begun(sft: Artifact) -> bool:
    """Whether it has a checkpoint of its own, or was too large by itself already."""
    return sft.is_resumable() or halvings_of(sft) > 0


def make_together(
    group: Sequence[Artifact],
    runtime: Runtime,
    study: StudyRun | None = None,
    telling: Telling | None = None,
) -> list[str]:
    """Trains SFT models at once; each is complete afterwards, or absent.

    Left out are those that another process makes, and those that exist or have been begun by now.
    After a kill the same ones go on from the last checkpoint; where one of them has been trained by
    itself meanwhile, they begin anew.

    Args:
        group: They differ in weights and seed only.
        runtime: Where and how.
        study: For whom.
        telling: As of ``make_artifact``.

    Returns:
        Fingerprints of those that were made. One that diverges is not; none are where fewer than
        two are left.

    Raises:
        WitError: None could be trained, or they cannot be trained at once.
    """
    telling = telling or Telling()
    with ExitStack() as held:
        locks: dict[str, ExitStack] = {}
        for artifact in group:
            if (lock := _lock_of(artifact, runtime)) is not None:
                locks[artifact.fingerprint] = held.enter_context(lock)
        ours = [artifact for artifact in group if artifact.fingerprint in locks]
        if len(ours) < 2:
            return []
        bring_parents(ours[0], runtime)
        check_space(ours[0], len(ours))
        resident.release()  # what was measured before
        _log.info("trained together: %s", ", ".join(a.fingerprint for a in ours))
        failures = _train(ours, runtime, study, telling)
        made = []
        for artifact, failure in zip(ours, failures, strict=True):
            if failure is None:
                share(artifact, runtime, telling, locks[artifact.fingerprint])
                made.append(artifact.fingerprint)
            else:
                _log.warning("%s is not made with the others: %s", artifact.fingerprint, failure)
                shutil.rmtree(artifact.scratch, ignore_errors=True)
    if not made and failures[0] is not None:
        error = as_ours(ours[0], failures[0])
        if is_out_of_memory(failures[0]):
            release(failures[0])
        raise error
    return made


def _lock_of(artifact: Artifact, runtime: Runtime) -> ExitStack | None:
    """Holds the artifact's lock, if it can be had at once and the artifact is to be begun."""
    with suppress(HeldError), ExitStack() as lock:
        lock.enter_context(artifact.lock(pause=leave))
        if not (sharing.is_found(artifact, runtime) or _is_begun(artifact)):
            return lock.pop_all()
    return None


def _train(
    ours: Sequence[Artifact], runtime: Runtime, study: StudyRun | None, telling: Telling
) -> list[Exception | None]:
    """Trains all; returns why each is not there."""
    from wit.training.side_by_side import ToTrain, train_side_by_side

    base, instructions = (ours[0].parents[part] for part in ("base", "instructions"))
    assert isinstance(instructions, Artifact)
    names = [artifact.fingerprint for artifact in ours]
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
    marks = [artifact.scratch / TOGETHER / digest for artifact in ours]
    if not all(mark.is_dir() for mark in marks):  # then one of the histories has been begun anew
        shutil.rmtree(marks[0], ignore_errors=True)
    stacks, cells = [ExitStack() for _ in ours], list[ToTrain]()
    try:
        for artifact, mark, stack in zip(ours, marks, stacks, strict=True):
            out, log = stack.enter_context(making(artifact, runtime, study, telling))
            mark.mkdir(parents=True, exist_ok=True)
            recipe: Any = artifact.recipe
            cells.append(ToTrain(recipe, out, log))
        tokenizer = instructions.parents["tokenizer"]
        failures: list[Any] = [
            *train_side_by_side(
                cells, base.path, instructions.path, tokenizer.path, marks[0], runtime
            )
        ]
    except Exception as error:
        failures = [error] * len(ours)
    ends = zip(ours, stacks, failures, strict=True)
    return [_ended(artifact, stack, failure, names) for artifact, stack, failure in ends]


def _ended(
    artifact: Artifact, making_it: ExitStack, failure: Exception | None, names: list[str]
) -> Exception | None:
    """Has the artifact complete, or its run failed; returns why it is not there."""
    try:
        with making_it:
            if failure is not None:
                raise failure
            say_how(artifact.scratch, trained_together=names)
    except Exception as error:
        return error
    return None
