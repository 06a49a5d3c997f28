"""Who draws and who ranks: the models of the stage ``pairs``, one after the other in memory."""

import os
from collections.abc import Callable
from pathlib import Path

from wit import resident
from wit.artifacts import Artifact
from wit.config import Runtime
from wit.data.schema import Messages
from wit.data.splits import TRAIN, read_table
from wit.errors import ConfigError
from wit.judging.cache import REPLIES, ReplyCache
from wit.judging.client import Judge
from wit.judging.settings import NO_JUDGE
from wit.judging.usage import USAGE_FILE
from wit.models import choose_device
from wit.on_policy.pairs import Drawn, Scores, make_pairs
from wit.on_policy.ranking import exact_matches
from wit.on_policy.recipes import PairsRecipe
from wit.recipes import PreferencesRecipe
from wit.records import MODEL
from wit.study_sources import row_files
from wit.tokenizers import Tokenizer, load_tokenizer


def write_pairs(recipe: PairsRecipe, artifact: Artifact, out: Path, runtime: Runtime) -> None:
    """Fills the folder of the stage.

    Raises:
        ConfigError: A judge is to rank, and nobody says where it is.
        StageError: No prompt gives a pair, or the reward model gives no rewards.
    """
    policy, preferences = (artifact.parents[part] for part in ("policy", "preferences"))
    assert isinstance(preferences, Artifact)
    tokenizer = load_tokenizer(artifact.parents["tokenizer"].path)
    score: Callable[[Drawn], Scores]
    if recipe.scorer == "exact_match":
        score = _matches(recipe, preferences.path, tokenizer)
    elif recipe.scorer == "judge":
        score = _judged(recipe, preferences, out, runtime)
    else:
        score = _rewarded(artifact.parents["reward_model"].path, preferences, runtime)
    device = choose_device(runtime.device)
    model = resident.resident_model(policy.path / MODEL, policy.fingerprint, device)
    make_pairs(
        recipe, model, tokenizer, preferences.path, score, out, runtime.evaluation_batch_size
    )


def _matches(
    recipe: PairsRecipe, preferences: Path, tokenizer: Tokenizer
) -> Callable[[Drawn], Scores]:
    answers = read_table(preferences, TRAIN)["chosen_ids"]

    def score(drawn: Drawn) -> Scores:
        return [
            exact_matches(
                tokenizer.decode(answers[asked.position].as_py(), skip_special_tokens=True),
                [response.text for response in responses],
                recipe.extract,
            )
            for asked, responses in zip(drawn.asked, drawn.responses, strict=True)
        ]

    return score


def _rewarded(folder: Path, preferences: Artifact, runtime: Runtime) -> Callable[[Drawn], Scores]:
    def score(drawn: Drawn) -> Scores:
        from wit.on_policy.reward import RewardModel

        resident.release()  # there may be no room for two
        device = choose_device(runtime.device)
        model = RewardModel(folder, device, batch_size=runtime.evaluation_batch_size)
        return model.scores(_prompts_of(drawn, preferences), drawn.texts)

    return score


def _judged(
    recipe: PairsRecipe, preferences: Artifact, out: Path, runtime: Runtime
) -> Callable[[Drawn], Scores]:
    if runtime.judge is None or recipe.judge is None:
        raise ConfigError(NO_JUDGE)
    cache = ReplyCache(runtime.artifact_root.resolve() / REPLIES)
    judge = Judge(recipe.judge, runtime.judge, cache, os.environ)

    def score(drawn: Drawn) -> Scores:
        from wit.on_policy.judged import judge_scores

        resident.release()  # nobody needs it while the network is waited for
        scores, usage = judge_scores(_prompts_of(drawn, preferences), drawn.texts, judge)
        text = usage.model_dump_json(indent=1)
        (out / USAGE_FILE).write_text(f"{text}\n", encoding="utf-8")
        return scores

    return score


def _prompts_of(drawn: Drawn, preferences: Artifact) -> list[Messages]:
    """The conversations as their source has them: others than the policy read them.

    Raises:
        ArtifactError: A source was changed since the study was planned.
    """
    from wit.on_policy.prompts import prompts_of_rows

    recipe = preferences.recipe
    assert isinstance(recipe, PreferencesRecipe)
    for source in preferences.parents.values():
        source.verified()  # else a row may be another one now
    rows = [(asked.source, asked.row) for asked in drawn.asked]
    return prompts_of_rows(recipe, row_files(preferences), rows)
