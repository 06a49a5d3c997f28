"""A study that is kept on this machine is not taken for another one of its name in the store."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_study import BASE, STUDY, make, plan

from wit import lineage
from wit.analysis.report import Extras, write_report
from wit.artifacts import Source
from wit.commands.asking import report
from wit.config import Runtime, Study
from wit.outcome import save_study, study_folder
from wit.past import kept_study, scores_of

OTHER_BASE = Source(kind="model", fingerprint="0therba5e000", location="/models/other")


def run(root: Path, uri: str, study: Study, base: Source) -> str:
    """Version of a study that ran to its end on the machine that has this root."""
    artifacts = plan(root, study, base)
    started = lineage.start_study(study, artifacts.all, uri)
    save_study(study, study_folder(Runtime(artifact_root=root), study.name), started.version)
    for artifact in artifacts.all:
        make(artifact, uri, started)
    lineage.end_study(started, uri, is_failed=False)
    return started.version


class Two(NamedTuple):
    """Two studies of one name, of this machine and of another that was later."""

    mine: str  # version
    later: str
    here: Path  # artifact root
    there: Path
    uri: str


@pytest.fixture(scope="module")
def two(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Two:
    """Read them, do not write to them."""
    folder = tmp_path_factory.mktemp("two")
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    here = STUDY.model_copy(update={"name": "shared"})
    there = here.model_copy(update={"seeds": (0, 1)})
    mine = run(folder / "here", uri, here, BASE)
    later = run(folder / "there", uri, there, OTHER_BASE)
    assert mine != later
    return Two(mine, later, folder / "here", folder / "there", uri)


def overrides(root: Path, uri: str) -> list[str]:
    return [f"artifact_root={root}", f"tracking_uri={uri}"]


def test_the_kept_study_is_of_the_version_that_is_shown(two: Two):
    mine, later, root, _, uri = two
    here = Runtime(artifact_root=root, tracking_uri=uri)
    assert scores_of("shared", None, here).attrs["version"] == later
    assert kept_study("shared", later, here) is None, "that one ran elsewhere"
    kept = kept_study("shared", mine, here)
    assert kept is not None
    assert kept.name == "shared"


def test_a_report_has_the_recipe_of_its_own_study_or_none(two: Two, tmp_path: Path):
    at = overrides(two.here, two.uri)
    report("shared", tmp_path / "later.html", None, None, at)
    report("shared", tmp_path / "mine.html", two.mine, None, at)
    report("shared", tmp_path / "there.html", None, None, overrides(two.there, two.uri))
    has_recipe = {
        page: "instructions:" in (tmp_path / f"{page}.html").read_text()
        for page in ("later", "mine", "there")
    }
    assert has_recipe == {"later": False, "mine": True, "there": True}


def test_a_report_shows_no_password(finished, tmp_path: Path):
    _, uri = finished
    page = tmp_path / "report.html"
    database = "postgresql+psycopg2://wit:s3cret@db:5432/mlflow"
    write_report(lineage.table("tiny", uri), STUDY, Extras(tracking_uri=database), page)
    assert "s3cret" not in page.read_text()
    assert "mlflow server --backend-store-uri postgresql+psycopg2://db:5432" in page.read_text()
    assert "put in user and password" in page.read_text()
