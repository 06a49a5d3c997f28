"""Of files that no study needs those stay that are young, being made, or not ours."""

import os
import shutil
from pathlib import Path

import pytest
from swept import found, paths, places, with_ancestors
from tiny_study import STUDY, Plan, make, make_without_lineage, plan

from wit import lineage
from wit.artifacts import Artifact
from wit.errors import ArtifactError, InputError
from wit.housekeeping.deleting import delete
from wit.training.checkpoints import mark_complete

# --- what is young, or being made ---------------------------------------------------------------


def make_old(folder: Path, days: float) -> None:
    for path in (folder, *folder.rglob("*")):
        at = path.stat().st_mtime - days * 86400
        os.utime(path, (at, at))


def test_what_was_written_lately_stays_and_so_does_what_it_was_made_of(root: Path) -> None:
    artifacts = plan(root)
    make_without_lineage(artifacts.all)
    assert paths(found(root, keep_days=1)) == set()
    for artifact in artifacts.all:
        make_old(artifact.path, 10)
    assert paths(found(root, keep_days=11)) == set()
    assert paths(found(root, keep_days=9)) == places(artifacts.all)
    (artifacts.sft[0].path / "model" / "weights").touch()
    kept = with_ancestors([artifacts.sft[0]], artifacts)
    assert paths(found(root, keep_days=9)) == places(artifacts.all) - kept


def test_while_something_unknown_is_made_nothing_goes(root: Path) -> None:
    artifacts = plan(root)
    make_without_lineage(artifacts.data)
    assert paths(found(root)) == places(artifacts.data)
    with artifacts.sft[0].lock(), pytest.raises(ArtifactError, match="is being made"):
        found(root)


def test_what_is_locked_after_it_was_found_is_spared(root: Path) -> None:
    artifacts = plan(root)
    make_without_lineage(artifacts.data)
    findings = found(root)
    with artifacts.data[0].lock():
        deleted = delete(findings)
    assert [thing.path for thing in deleted.spared] == [artifacts.data[0].path]
    assert [artifact.exists() for artifact in artifacts.data] == [True, False, False]


# --- what is no artifact ------------------------------------------------------------------------


def begin(artifact: Artifact, *, has_checkpoint: bool, beside: str = "") -> Path:
    """An attempt that was killed; beside others it has their checkpoints in a folder."""
    checkpoint = artifact.scratch / beside / "checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(bytes(100))
    if has_checkpoint:
        mark_complete(checkpoint)
    return artifact.scratch


def test_of_attempts_stays_what_a_study_can_go_on_from(root: Path, uri: str) -> None:
    artifacts = plan(root)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    make(artifacts.data[0], uri, run)
    resumable, useless = artifacts.sft
    begin(resumable, has_checkpoint=True)
    begin(useless, has_checkpoint=False)
    stranger = plan(root, STUDY.model_copy(update={"seeds": (7,)})).sft[0]
    begin(stranger, has_checkpoint=True)
    assert paths(found(root, keep_days=1)) == set()
    assert paths(found(root)) == {useless.scratch, stranger.scratch}
    with useless.lock():
        assert paths(found(root)) == {stranger.scratch}
    delete(found(root))
    assert resumable.is_resumable()
    assert not useless.scratch.exists()
    begin(useless, has_checkpoint=True, beside="together/0123456789ab")
    assert paths(found(root)) == set()
    assert list((root / "sft").glob(".*")) == []


def test_locks_without_artifact_and_logs_of_ended_studies_go(root: Path, uri: str) -> None:
    artifacts = plan(root)
    run = lineage.start_study(STUDY, artifacts.all, uri)
    make(artifacts.data[0], uri, run)
    log = root / "studies" / "tiny" / "worker-0.log"
    log.parent.mkdir(parents=True)
    aside = log.with_name(".report.html.4711-140")  # of a process that was killed
    for name in ("worker-0.log", "report.html", "study.yaml", "other.log", aside.name):
        (log.parent / name).write_text("said")
    for artifact in artifacts.data[:2]:
        with artifact.lock():
            pass
    alone = artifacts.data[1].path.with_name(f".{artifacts.data[1].fingerprint}.lock")
    assert paths(found(root)) == {alone}
    lineage.end_study(run, uri, is_failed=True)
    assert paths(found(root, keep_days=1)) == set()
    findings = found(root)
    assert paths(findings) == {alone, log, aside}
    delete(findings)
    assert not alone.exists()
    assert sorted(file.name for file in log.parent.iterdir()) == [
        "other.log",
        "report.html",
        "study.yaml",
    ]


def test_outlines_of_forgotten_studies_go_and_those_of_others_stay(
    ended: tuple[Path, Plan, str],
) -> None:
    """Outlines are of what only a store has: no folder of the root need be of the same artifact."""
    root, artifacts, _ = ended
    of_study, stranger = artifacts.sft[0], plan(root, STUDY.model_copy(update={"seeds": (7,)}))
    outlines = {}
    for artifact in (of_study, stranger.sft[0]):
        outline = artifact.model_copy(update={"root": root / "outlines"})
        with outline.lock(), outline.writing() as out:
            (out / "card.json").write_text("{}")
        outlines[artifact.fingerprint] = outline
    shutil.rmtree(of_study.path)
    unknown = outlines[stranger.sft[0].fingerprint]
    assert paths(found(root, keep_days=1)) == set()
    assert paths(found(root)) == {unknown.path}
    delete(found(root))
    assert not unknown.path.exists()
    known = outlines[of_study.fingerprint]
    assert known.exists()
    assert known.path in paths(found(root, "tiny"))
    delete(found(root, "tiny"))
    assert not known.path.exists()
    assert not [file for file in (root / "outlines").rglob("*") if not file.is_dir()]


def test_links_are_neither_followed_nor_deleted(root: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    artifacts = plan(root)
    make_without_lineage(artifacts.all)
    precious = elsewhere / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    first, second = artifacts.sft
    (first.path / "out").symlink_to(precious)
    second.path.rename(elsewhere / "moved")
    second.path.symlink_to(elsewhere / "moved")
    (root / "dpo").rename(elsewhere / "dpo")
    (root / "dpo").symlink_to(elsewhere / "dpo")
    gone = places([*artifacts.data, first, *artifacts.evaluations])
    findings = found(root)
    assert paths(findings) == gone
    delete(findings)
    assert (precious / "file").read_text() == "mine"
    assert second.verified()
    assert all(model.verified() for model in artifacts.dpo)


def test_a_folder_that_is_no_root_of_ours_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "sft" / "0123456789ab"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years")
    (tmp_path / "sft" / "fedcba987654.partial").mkdir()
    with pytest.raises(InputError, match="holds no artifacts of wit"):
        found(tmp_path)
    make_without_lineage(plan(tmp_path).data[:1])
    delete(found(tmp_path))
    assert (mine / "thesis.txt").exists(), "it has no record, so it is nobody's artifact"
