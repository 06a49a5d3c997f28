"""Registering the chosen model, which replaces the champion only if it is better on its items."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from wit.analysis.paired import PairedComparison, compare_paired
from wit.artifacts import RECORD, verify
from wit.choice import Choice
from wit.errors import InputError
from wit.item_scores import item_scores
from wit.lineage.place import sqlite_file
from wit.lineage.registry import (
    CARD,
    CHALLENGER,
    CHAMPION,
    MAX_DESCRIPTION,
    ModelRegistry,
    Version,
)
from wit.model_card import model_card, shortened
from wit.reasons import keep_reasons
from wit.records import Kept
from wit.settings import Settings


class Registration(Settings):
    """What became of a model in the registry."""

    name: str
    version: str
    aliases: tuple[str, ...]
    is_new: bool  # a version was made
    sentence: str
    compared_with: str | None = None  # version of the champion that was there
    comparison: PairedComparison | None = None


def register(name: str, choice: Choice, uri: str) -> Registration:
    """Registers the chosen model: as champion if there is none or it is better, else challenger.

    Raises:
        InputError: The registry refuses it, or the model's artifact is gone or damaged.
    """
    folder = Path(choice.model.folder)
    if not folder.is_dir():
        known = ModelRegistry(name, uri).version_of(choice.model.fingerprint)
        if known is not None:
            return _known(name, known, "")
        raise InputError(
            f"{folder}: the model is not on this machine, so it cannot be registered from here; "
            "name its artifact root by --set-runtime artifact_root=DIR"
        )
    model = Kept.at(folder.parent)
    with _alone(uri):
        registry = ModelRegistry(name, uri)
        known = registry.version_of(model.fingerprint)
        if known is not None:
            done = _register_again(registry, choice, model, known)
        else:
            done = _register_new(registry, choice, model)
        beside = _beside(done.compared_with, done.comparison)
        keep_reasons(model, choice.study, _why(choice), beside)
    return done


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One registration at a time: each must see the champion that the one before it made.

    Of all artifact roots of this machine. MLflow has no lock of its own: of two machines that
    register within the same second, the later one may not have seen the champion of the other,
    and becomes champion beside it unasked; both versions are there.
    """
    file = _lock_file(uri)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror or error}), so nothing can be registered "
            "from here; make its folder writable"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _lock_file(uri: str) -> Path:
    """Beside the database file; for a server, in the user's own folder."""
    database = sqlite_file(uri)
    if database is not None:
        return database.with_name(f".{database.name}.registry.lock")
    return Path.home() / ".wit" / f"registry-{sha256(uri.encode()).hexdigest()[:12]}.lock"


def _register_new(registry: ModelRegistry, choice: Choice, model: Kept) -> Registration:
    verify(model.path)
    champion = registry.champion
    comparison = None if champion is None else compared(choice, model, champion)
    is_champion = comparison is None or comparison.is_better
    card = _card(choice, model, champion, comparison)
    made = registry.add(
        Path(choice.model.folder),
        choice.model.run_id,
        CHAMPION if is_champion else CHALLENGER,
        _evidence(choice, champion, comparison),
        card,
        _description(card),
    )
    return Registration(
        name=registry.name,
        version=made.number,
        aliases=made.aliases,
        is_new=True,
        sentence=_sentence(registry.name, made, champion, comparison),
        compared_with=None if champion is None else champion.number,
        comparison=comparison,
    )


def _register_again(
    registry: ModelRegistry, choice: Choice, model: Kept, known: Version
) -> Registration:
    """A version that is no champion may have become better than the one of today."""
    champion, name = registry.champion, registry.name
    if CHAMPION in known.aliases:
        return _known(name, known if known.given else registry.give(known, CHAMPION), "")
    if champion is not None and known.given == CHAMPION:  # a person may have rolled back
        stays = f"; it was {CHAMPION} once, and version {champion.number} stays {CHAMPION}"
        return _known(name, known, stays)
    verify(model.path)
    comparison = None if champion is None else compared(choice, model, champion)
    if comparison is None or comparison.is_better:
        card = _card(choice, model, champion, comparison)
        evidence = _evidence(choice, champion, comparison)
        run_id = choice.model.run_id
        known = registry.promote(known, run_id, evidence, card, _description(card))
        said = (
            f"; it takes the place of version {champion.number}"
            if champion
            else f"; there was no {CHAMPION}"
        )
    else:
        if known.given is None and registry.is_newest(known):
            known = registry.give(known, CHALLENGER)
        said = f"; version {champion.number} stays {CHAMPION}" if champion else ""
    return _known(name, known, said, champion, comparison)


def _known(
    name: str,
    known: Version,
    said: str,
    champion: Version | None = None,
    comparison: PairedComparison | None = None,
) -> Registration:
    """No version was made; ``said`` goes on after which one it is."""
    alias = f" ({', '.join(known.aliases)})" if known.aliases else ""
    more = f" {comparison.sentence}" if comparison else ""
    return Registration(
        name=name,
        version=known.number,
        aliases=known.aliases,
        is_new=False,
        sentence=f"{known.fingerprint} is version {known.number} of {name} already"
        f"{alias}{said}.{more}",
        compared_with=champion and champion.number,
        comparison=comparison,
    )


def _description(card: str) -> str:
    return shortened(card, MAX_DESCRIPTION, f"{CARD} among the artifacts of its MLflow run")


def compared(choice: Choice, model: Kept, champion: Version) -> PairedComparison:
    """The model beside the champion, on the items of the select benchmarks that both answered."""
    there = champion.path
    if there is not None and not (there / RECORD).is_file():  # the root may have been moved
        there = model.root / there.parent.name / there.name
    if there is None or not (there / RECORD).is_file():
        why = "was not registered by wit" if there is None else f"is gone from {champion.path}"
        return PairedComparison(
            sentence=f"They cannot be compared: version {champion.number} {why}."
        )
    of_champion = item_scores(Kept.at(there), choice.select_benchmarks)
    measured = {score.benchmark: score.score for score in choice.model.scores}
    mine, theirs = {}, {}
    for name, found in item_scores(model, choice.select_benchmarks).items():
        # Of several evaluations that which the study is judged by.
        same = [s for value, s in found if math.isclose(value, measured[name], rel_tol=1e-9)]
        if not same:
            return PairedComparison(
                sentence=f"They cannot be compared: the new model's answers on {name} are gone."
            )
        mine[name] = same[-1]
        others = [scores for _, scores in of_champion[name]]
        alike = [scores for scores in others if scores.items_hash == mine[name].items_hash]
        if others:
            theirs[name] = (alike or others)[-1]
    return compare_paired(mine, theirs)


def _why(choice: Choice) -> list[str]:
    """Sentences for the card."""
    why = [f"Study {choice.study}: {choice.sentence}"]
    if choice.num_tunings > 1:
        why.append(f"Tuning {choice.tuning}, one of {choice.num_tunings} of the study.")
    if choice.num_alignments > 1:
        model = choice.model
        how = f"{model.alignment} ({model.objective}, beta {model.beta:g})"
        why.append(f"Alignment {how}, one of {choice.num_alignments} of the study.")
    if choice.num_seeds > 1:
        why.append(f"{choice.num_seeds} seeds were trained; this one's select scores are best.")
    if choice.within_noise:
        why.append(f"Not to be told from it: {', '.join(choice.within_noise)}.")
    return why


def _beside(version: str | None, comparison: PairedComparison | None) -> str | None:
    """What comparing with that version, the champion, said; for the card too."""
    if version is None or comparison is None:
        return None
    return f"Beside champion version {version}: {comparison.sentence}"


def _card(
    choice: Choice, model: Kept, champion: Version | None, comparison: PairedComparison | None
) -> str:
    beside = _beside(champion and champion.number, comparison)
    why = [*_why(choice), *([beside] if beside else [])]
    return model_card(model, {s.benchmark: s.role for s in choice.model.scores}, why)


def _evidence(
    choice: Choice, champion: Version | None, comparison: PairedComparison | None
) -> dict[str, str]:
    """The tags of a version."""
    tags = {
        "wit.study": choice.study,
        "wit.study_version": choice.version or "",
        "wit.weights": choice.weights,
        "wit.prompt_weight": f"{choice.prompt_weight:g}",
        "wit.response_weight": f"{choice.response_weight:g}",
        "wit.seed": str(choice.model.seed),
        "wit.alignment": choice.model.alignment or "",
        "wit.objective": choice.model.objective or "",
        "wit.beta": "" if choice.model.beta is None else f"{choice.model.beta:g}",
        "wit.recommendation": choice.sentence,
        "wit.select_benchmarks": " ".join(choice.select_benchmarks),
        "wit.within_noise": " ".join(choice.within_noise),
    }
    tags |= {f"wit.score.{score.benchmark}": str(score) for score in choice.model.scores}
    if champion is not None and comparison is not None:
        tags["wit.compared_with"] = f"version {champion.number} ({champion.fingerprint})"
        tags["wit.comparison"] = comparison.sentence
        numbers = comparison.model_dump(mode="json", exclude={"sentence"}, exclude_none=True)
        tags |= {f"wit.comparison.{key}": json.dumps(value) for key, value in numbers.items()}
    return {key: value for key, value in tags.items() if value}


def _sentence(
    name: str, made: Version, champion: Version | None, comparison: PairedComparison | None
) -> str:
    lead = f"{made.fingerprint} is version {made.number} of {name} now,"
    if champion is None or comparison is None:
        return f"{lead} and {CHAMPION}: there was none."
    if comparison.is_better:
        return f"{lead} and {CHAMPION} in the place of {champion.number}. {comparison.sentence}"
    return (
        f"{lead} as {CHALLENGER}; version {champion.number} stays {CHAMPION}. {comparison.sentence}"
    )
