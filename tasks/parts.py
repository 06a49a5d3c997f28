"""Parts of a study that other machines make: what one worker is given, and what it gives back."""

import hashlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from prefect.artifacts import create_table_artifact

from wit.artifacts import Artifact
from wit.cell_plan import CellPlan
from wit.config import Cell
from wit.form_fields import Handed
from wit.lineage import StudyRun, tracking_uri
from wit.lineage.addresses import shown
from wit.outcome import StageOutcome, StudyOutcome
from wit.plan import Plan
from wit.workers import Workers

STAGES = "stages"  # key of the artifact that says what became of a part


class Part(NamedTuple):
    """What one worker makes: a cell, or the evaluations of the base."""

    cell: Cell | None  # None: the base
    artifacts: tuple[Artifact, ...]  # parents first
    alignments: Mapping[str, str] = {}  # of several the name, by fingerprint of what is of one
    planned: CellPlan | None = None  # the cell, as far as it shall be made

    @property
    def name(self) -> str:
        """The cell, or base."""
        return str(self.cell or "base")

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over all that it is made of."""
        made = " ".join(artifact.fingerprint for artifact in self.artifacts)
        return hashlib.sha256(made.encode()).hexdigest()[:12]

    def seen_in(self, plan: Plan) -> Plan:
        """The plan with this cell, if it is that of a search, which another machine replays."""
        is_searched = plan.search is not None and self.planned is not None
        return replace(plan, cells=(self.planned,)) if is_searched else plan

    @property
    def tag(self) -> str:
        """By which its runs are found, whatever study asked for them."""
        return f"wit-{self.fingerprint}"


def parts_of(plan: Plan) -> list[Part]:
    """The base's evaluations, then every cell."""
    return [Part(None, plan.base_evaluations), *_parts(plan.cells)]


def _parts(cells: Iterable[CellPlan]) -> Iterator[Part]:
    for cell in cells:
        yield Part(cell.cell, cell.artifacts, cell.alignment_of, cell)


def handed_part(plan: Plan, handed: Handed) -> Part:
    """The part of the plan that was handed to this worker.

    Raises:
        InputError: The worker would make another one: its code or its files differ.
    """
    # What a search has come to is known where it runs.
    begun = (one.up_to(rung) for one in plan.candidates for rung in range(len(one.rungs) + 1))
    for part in (*parts_of(plan), *_parts((*plan.candidates, *begun))):
        if part.fingerprint == handed.fingerprint:
            return part
    raise handed.refused(
        f"its artifacts shall be those of {handed.fingerprint}, which this worker does not know"
    )


def hand_back(
    plan: Plan, workers: Workers, run: StudyRun, stages: tuple[StageOutcome, ...]
) -> StudyOutcome:
    """What became of a part, told to the study that waits for it, and to people."""
    outcome = StudyOutcome(
        study=plan.study.name,
        version=run.version,
        stages=stages,
        report=None,
        tracking_uri=shown(tracking_uri(workers.runtime)),
        mlflow_url=run.url and shown(run.url),
    )
    url = outcome.mlflow_url
    mlflow = f"[The study in MLflow]({url})" if url else f"MLflow: `{outcome.tracking_uri}`"
    place = f"{mlflow}. Logs, on {socket.gethostname()}: `{workers.log_files}`"
    create_table_artifact([stage.model_dump() for stage in stages], STAGES, description=place)
    return outcome
