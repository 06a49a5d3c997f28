"""Why a model was chosen: what registering it keeps beside the artifacts, study by study."""

from pathlib import Path

import pytest
from contest import Contest, hold
from filelock import FileLock, Timeout
from forked import Forking
from registered import BETTER, GOOD, WORSE

from wit import champion
from wit.reasons import keep_reasons, reasons_of
from wit.records import Kept

NUM_WRITES = 50
SHORT, LONG = ("Short.",), ("Long. " * 5000,)


def write_in_turn(model: Kept) -> None:
    for _ in range(NUM_WRITES):
        keep_reasons(model, "first", SHORT)
        keep_reasons(model, "first", LONG)


def model_of(contest: Contest) -> Kept:
    return Kept.at(contest.plan.dpo[0].path)


def test_registering_keeps_why_beside_the_artifacts(first: Contest, uri: str, tmp_path: Path):
    model = model_of(first)
    assert reasons_of(model) == ()
    first.register()
    assert reasons_of(model) == (f"Study first: {first.choose().sentence}",)
    first.register()
    assert len(reasons_of(model)) == 1
    second = hold(tmp_path, uri, "second", {"p0.2-r1-s0": BETTER})
    made = second.register()
    assert made.comparison is not None
    why = reasons_of(model_of(second))
    assert why[-1] == f"Beside champion version 1: {made.comparison.sentence}"
    second.register()  # nothing is compared any more, and what was said stays
    assert reasons_of(model_of(second)) == why


def test_of_several_alignments_it_is_said_which_one_it_is(first: Contest, uri: str):
    model = first.choose().model.model_copy(
        update={"alignment": "mine", "objective": "ipo", "beta": 0.3}
    )
    choice = first.choose().model_copy(update={"num_alignments": 2, "model": model})
    champion.register("tiny-model", choice, uri)
    assert reasons_of(model_of(first))[1] == (
        "Alignment mine (ipo, beta 0.3), one of 2 of the study."
    )


def test_every_study_that_chooses_a_model_says_why(first: Contest, uri: str, tmp_path: Path):
    second = hold(tmp_path, uri, "second", {"p0-r1-s0": GOOD, "p0.2-r1-s0": WORSE})
    assert second.choose().model.fingerprint == first.choose().model.fingerprint
    first.register()
    assert not second.register().is_new
    sentences = [f"Study {one.study.name}: {one.choose().sentence}" for one in (first, second)]
    assert list(reasons_of(model_of(first))) == sentences


def test_a_study_that_chooses_the_same_model_again_says_why_anew(uri: str, tmp_path: Path):
    hold(tmp_path, uri, "before", {"p0-r1-s0": GOOD}).register()
    study = hold(tmp_path, uri, "study", {"p0.2-r1-s0": BETTER})
    study.register()
    model = model_of(study)
    *old, beside = reasons_of(model)
    wider = hold(tmp_path, uri, "study", {"p0.2-r1-s0": BETTER, "p0.4-r1-s0": WORSE})
    assert wider.choose().model.fingerprint == model.fingerprint
    made = wider.register()
    assert made.comparison is None, "it is champion"
    *new, still_beside = reasons_of(model)
    assert new == [f"Study study: {wider.choose().sentence}"] != old
    assert still_beside == beside, "what comparing said is still so"


def test_reasons_are_kept_before_the_next_registration_begins(
    first: Contest, uri: str, monkeypatch: pytest.MonkeyPatch
):
    kept: list[str] = []

    def keep(model: Kept, study: str, *_: object) -> None:
        with pytest.raises(Timeout):
            FileLock(champion._lock_file(uri)).acquire(timeout=0)
        kept.append(study)

    monkeypatch.setattr(champion, "keep_reasons", keep)
    first.register()
    assert kept == ["first"]


def test_registrations_in_two_stores_leave_the_reasons_of_one_of_them_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, forking: Forking
):
    """Stores may share an artifact root, and do not wait for each other."""
    model = Kept(tmp_path / "dpo" / ("0" * 12), {"fingerprint": "0" * 12})
    keep_reasons(model, "first", SHORT)
    other = forking.Process(target=write_in_turn, args=(model,))
    other.start()
    while other.is_alive():
        keep_reasons(model, "first", LONG)
        assert reasons_of(model) in (SHORT, LONG)
        keep_reasons(model, "first", SHORT)
    other.join()
    assert other.exitcode == 0
    assert caplog.messages == []
    assert [file.name for file in (model.root / "studies" / "first").iterdir()] == ["chosen.json"]
