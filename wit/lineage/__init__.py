"""Lineage: one MLflow run per artifact, which names its parents and the studies it serves.

* ``tracked`` surrounds the making of an artifact. A stage that was killed and resumes logs into
  the same run; a failure of MLflow is a warning, never the end of a training.
* An SFT or DPO model is also a logged model of MLflow, with its data sets and scores. Its run
  names its children by tags ``wit.child.FINGERPRINT``; every run names its parents by tags
  ``wit.parent.PART`` and ``wit.parent_run.PART``. What came of anything is one filter away:
  ``tags.`wit.ancestors` LIKE '%FINGERPRINT%'``.
* ``Telling`` is when MLflow is told: at once, or beside the work, by a thread.
* ``link`` says that a study uses artifacts that exist already: a tag, not a second run. What a
  store does not know (it is new, or it was down) is written from the artifact's own directory.
* ``start_study`` is the run on top. It fixes which artifacts belong to the study as it is now.
* ``sync`` sends what a server that was down did not take.
* ``table`` and ``lineage`` answer questions: every score of a study; all that led to an artifact
  and all that came of it.

The artifact directory is the truth, MLflow is the index over it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wit.lineage.database import prepare
    from wit.lineage.family import Node, lineage
    from wit.lineage.known_studies import StudyVersion, study_versions
    from wit.lineage.place import tracking_uri
    from wit.lineage.runs import StudyRun
    from wit.lineage.score_table import table
    from wit.lineage.store import open_store
    from wit.lineage.studies import end_study, go_on, link, start_study, sync, unsent_note
    from wit.lineage.telling import Telling, TellingBeside
    from wit.lineage.tracking import Tracker, scores_of_run, tracked

__all__ = [
    "Node",
    "StudyRun",
    "StudyVersion",
    "Telling",
    "TellingBeside",
    "Tracker",
    "end_study",
    "go_on",
    "lineage",
    "link",
    "open_store",
    "prepare",
    "scores_of_run",
    "start_study",
    "study_versions",
    "sync",
    "table",
    "tracked",
    "tracking_uri",
    "unsent_note",
]
_MODULES = {
    "family": ("Node", "lineage"),
    "place": ("tracking_uri",),
    "runs": ("StudyRun",),
    "score_table": ("table",),
    "database": ("prepare",),
    "store": ("open_store",),
    "studies": ("end_study", "go_on", "link", "start_study", "sync", "unsent_note"),
    "known_studies": ("StudyVersion", "study_versions"),
    "telling": ("Telling", "TellingBeside"),
    "tracking": ("Tracker", "scores_of_run", "tracked"),
}


def __getattr__(name: str) -> Any:
    """Imports a module when it is first used: a question needs nothing of what writes."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
