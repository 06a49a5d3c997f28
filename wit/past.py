"""Studies that have run: their scores, how they were run, and their report made again."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wit.config import Runtime, Study
from wit.lineage import table, tracking_uri
from wit.loading import load_study
from wit.outcome import REPORT, STUDY, kept_version, report_name, study_folder

if TYPE_CHECKING:
    import pandas as pd


class PastReport(NamedTuple):
    """A report that was made again, and what it shows."""

    page: Path
    scores: "pd.DataFrame"
    study: Study | None  # as it was run; None: not known on this machine


def name_of(study: str) -> str:
    """Name of a study that is given by name or by file."""
    return load_study(Path(study)).name if study.endswith((".yaml", ".yml")) else study


def kept_study(name: str, version: str, runtime: Runtime) -> Study | None:
    """The study as it was run on this machine; None: another version was last, or it was elsewhere.

    Args:
        name: Of the study.
        version: Of the study that is meant, as MLflow knows it.
        runtime: Says where the artifact root is.
    """
    folder = study_folder(runtime, name)
    if kept_version(folder) != version:
        return None
    study = load_study(folder / STUDY)
    return study if kept_version(folder) == version else None  # another was started meanwhile


def scores_of(name: str, version: str | None, runtime: Runtime) -> "pd.DataFrame":
    """Every score of a study, as ``wit.lineage.table`` gives it, and the objective of each cell."""
    from wit.analysis.scores import with_objectives

    scores = table(name, tracking_uri(runtime), version=version)
    return with_objectives(scores, kept_study(name, scores.attrs["version"], runtime))


def rewrite_report(
    name: str, version: str | None, runtime: Runtime, page: Path | None = None
) -> PastReport:
    """The report of a study, made again from what MLflow knows.

    Args:
        name: Of the study.
        version: Of several of one name; None: the one that was started last.
        runtime: Says where MLflow and the artifact root are.
        page: Where to write it; unset: in the study's folder.
    """
    from wit.analysis.data_summary import DataSummary
    from wit.analysis.report import Extras, write_report
    from wit.provenance import versions

    folder, scores = study_folder(runtime, name), scores_of(name, version, runtime)
    study_version = scores.attrs["version"]
    study = kept_study(name, study_version, runtime)
    data = None if study is None else DataSummary.load(folder, study_version)
    page = page or folder / (report_name(version) if version else REPORT)
    extras = Extras(tracking_uri=tracking_uri(runtime), versions=versions(), data=data)
    write_report(scores, study, extras, page)
    return PastReport(page, scores, study)
