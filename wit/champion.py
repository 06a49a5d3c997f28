"""Registering the chosen model, which replaces the champion only if it is better on its items."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from wit.analysis.paired import ItemScores, PairedComparison, compare_paired
from wit.artifacts import RECORD, verify
from wit.choice import Choice
from wit.errors import InputError
from wit.evaluation.results import SAMPLES_FOLDER, EvaluationResult, Sample
from wit.lineage.registry import (
    CARD,
    CHALLENGER,
    CHAMPION,
    MAX_DESCRIPTION,
    ModelRegistry,
    Version,
)
from wit.model_card import model_card, shortened
from wit.records import Kept, evaluations_by_model
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
    registry = ModelRegistry(name, uri)
    known = registry.version_of(choice.model.fingerprint)
    if known is not None:
        alias = f" ({', '.join(known.aliases)})" if known.aliases else ""
        return Registration(
            name=name,
            version=known.number,
            aliases=known.aliases,
            is_new=False,
            sentence=f"{choice.model.fingerprint} is version {known.number} of {name} "
            f"already{alias}.",
        )
    folder = Path(choice.model.folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: the model is not on this machine, so it cannot be registered from here; "
            "name its artifact root by --set-runtime artifact_root=DIR"
        )
    verify(folder.parent)
    model, champion = Kept.at(folder.parent), registry.champion
    comparison = None if champion is None else compared(choice, model, champion)
    is_champion = comparison is None or comparison.is_better
    alias = CHAMPION if is_champion else CHALLENGER
    card = _card(choice, model, champion, comparison)
    made = registry.add(
        folder,
        choice.model.run_id,
        alias,
        _evidence(choice, champion, comparison),
        card,
        shortened(card, MAX_DESCRIPTION, f"{CARD} among the artifacts of its MLflow run"),
    )
    return Registration(
        name=name,
        version=made.number,
        aliases=made.aliases,
        is_new=True,
        sentence=_sentence(name, made, champion, comparison),
        compared_with=None if champion is None else champion.number,
        comparison=comparison,
    )


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
    of_champion = _item_scores(Kept.at(there), choice.select_benchmarks)
    measured = {score.benchmark: score.score for score in choice.model.scores}
    mine, theirs = {}, {}
    for name, found in _item_scores(model, choice.select_benchmarks).items():
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


def _item_scores(
    model: Kept, benchmarks: Sequence[str]
) -> dict[str, list[tuple[float, ItemScores]]]:
    """By benchmark, from every evaluation that is kept: the main score, and that of each item."""
    found: dict[str, list[tuple[float, ItemScores]]] = {name: [] for name in benchmarks}
    for evaluation in evaluations_by_model(model.root).get(model.fingerprint, []):
        verify(evaluation.path)
        result = EvaluationResult.load(evaluation.path)
        for main in result.scores:
            if not main.is_main or main.benchmark not in found:
                continue
            file = evaluation.path / SAMPLES_FOLDER / f"{main.benchmark}.jsonl"
            lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
            samples = [Sample.model_validate_json(line) for line in lines]
            scores = ItemScores(
                f"{main.metric}, {main.filter}",
                result.runs[main.benchmark].items_hash,
                tuple(sample.score for sample in samples),
                main.higher_is_better,
            )
            found[main.benchmark].append((main.value, scores))
    return found


def _card(
    choice: Choice, model: Kept, champion: Version | None, comparison: PairedComparison | None
) -> str:
    why = [f"Study {choice.study}: {choice.sentence}"]
    if choice.num_seeds > 1:
        why.append(f"{choice.num_seeds} seeds were trained; this one's select scores are best.")
    if choice.within_noise:
        why.append(f"Not to be told from it: {', '.join(choice.within_noise)}.")
    if champion is not None and comparison is not None:
        why.append(f"Beside champion version {champion.number}: {comparison.sentence}")
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
