import math
import shutil
from pathlib import Path

import pytest
import torch
from aligned import align, recipe, references_of

from wit.builtin import BASE_DIR, DATA_DIR
from wit.data.prepare import TRAIN, make_preferences, read_split
from wit.errors import ArtifactError, HandOverError
from wit.likelihood import token_log_probs
from wit.models import load_model
from wit.recipes import PreferencesRecipe
from wit.training.dpo import rows_of


def test_it_starts_at_its_constants_and_learns_the_preferences(
    policy: Path, preferences: Path, tmp_path: Path
) -> None:
    figures, _ = align(tmp_path, policy, preferences, recipe(num_epochs=10, learning_rate=5e-3))
    assert figures[1]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert figures[1]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    steps = sorted(step for step, logged in figures.items() if "rewards/margins" in logged)
    last_epoch = [figures[step] for step in steps[-len(steps) // 10 :]]
    assert sum(logged["rewards/margins"] for logged in last_epoch) / len(last_epoch) > 0.2
    assert sum(logged["rewards/accuracies"] for logged in last_epoch) / len(last_epoch) > 0.9


def test_the_reference_is_this_sft_model_and_not_the_base(
    policy: Path, base: Path, preferences: Path, tmp_path: Path
) -> None:
    """Rewards are beta times log-ratios to the reference, so they reveal which model that is."""
    chosen = recipe(learning_rate=1e-9, num_epochs=1, examples_per_step=1)
    figures, _ = align(tmp_path, policy, preferences, chosen)
    rows = read_split(preferences, TRAIN).to_list()
    full = [torch.tensor(row["prompt_ids"] + row["chosen_ids"]) for row in rows]
    starts = [len(row["prompt_ids"]) - 1 for row in rows]

    def mean_log_prob(folder: Path) -> float:
        values = token_log_probs(load_model(folder), full)
        return sum(v[s:].sum().item() for v, s in zip(values, starts, strict=True)) / len(rows)

    logged = [figures[step]["logps/chosen"] for step in range(1, len(rows) + 1)]
    of_sft, of_base = mean_log_prob(policy / "model"), mean_log_prob(base)
    assert sum(logged) / len(logged) == pytest.approx(of_sft, rel=1e-3)
    assert abs(of_sft - of_base) > 1, "the test could not tell them apart"
    for side in ("chosen", "rejected"):
        rewards = [abs(f[f"rewards/{side}"]) for f in figures.values() if f"rewards/{side}" in f]
        assert max(rewards) < 1e-3


@pytest.mark.parametrize("objective", ["dpo", "ipo", "sppo-hard", "apo-zero", "kto"])
def test_the_base_as_reference_is_refused(
    policy: Path, base_as_policy: Path, preferences: Path, tmp_path: Path, objective: str
) -> None:
    """The classic fault: log-probabilities of the base, or stale ones, in the reference's place."""
    chosen = recipe(objective=objective)
    wrong = references_of(tmp_path / "wrong", base_as_policy, preferences, chosen)
    with pytest.raises(HandOverError, match="same SFT model"):
        align(tmp_path, policy, preferences, chosen, references=wrong)
    assert not (tmp_path / "out" / "model").exists()


def test_a_later_round_is_measured_from_the_sft_model(
    policy: Path, base_as_policy: Path, preferences: Path, tmp_path: Path
) -> None:
    """The base takes the place of a policy that has gone on: its rewards are not 0 any more."""
    chosen = recipe(num_epochs=1, examples_per_step=1000, warmup_fraction=0, beta=0.3)
    of_sft = references_of(tmp_path / "sft", policy, preferences, chosen)
    before, now = (
        rows_of(chosen, preferences, references).to_pandas()
        for references in (
            of_sft,
            references_of(tmp_path / "now", base_as_policy, preferences, chosen),
        )
    )
    figures, _ = align(
        tmp_path,
        base_as_policy,
        preferences,
        chosen,
        references=of_sft,
        starts_at_reference=False,
    )
    for side in ("chosen", "rejected"):
        column = f"{side}_reference_logp"
        expected = 0.3 * (now[column] - before[column]).mean()
        assert abs(expected) > 0.1
        assert figures[1][f"rewards/{side}"] == pytest.approx(expected, rel=1e-3)


def test_a_reference_of_other_rows_is_refused(
    policy: Path, preferences: Path, few_preferences: Path, tmp_path: Path
) -> None:
    chosen = recipe()
    wrong = references_of(tmp_path / "wrong", policy, few_preferences, chosen)
    with pytest.raises(ArtifactError, match="16 rows"):
        align(tmp_path, policy, preferences, chosen, references=wrong)


def test_splitting_a_step_changes_nothing(policy: Path, preferences: Path, tmp_path: Path) -> None:
    assert len(read_split(preferences, TRAIN)) % 8, "a short last window is what goes wrong"
    whole, weights = align(tmp_path / "8", policy, preferences, recipe(), micro_batch_size=8)
    for size in (2, 1):
        figures, other = align(
            tmp_path / str(size), policy, preferences, recipe(), micro_batch_size=size
        )
        for step in range(1, max(whole) + 1):
            assert figures[step]["loss"] == pytest.approx(whole[step]["loss"], rel=2e-3), step
            assert figures[step]["grad_norm"] == pytest.approx(whole[step]["grad_norm"], rel=2e-2)
        for name, weight in weights.items():
            assert torch.allclose(weight, other[name], atol=2e-3), name


def test_the_aligned_model_keeps_tokenizer_template_and_stop_token(
    policy: Path, preferences: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    align(tmp_path, policy, preferences, recipe(num_epochs=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / "model" / name).read_bytes() == (
            tokenizer_folder / name
        ).read_bytes()
    model = load_model(tmp_path / "out" / "model")
    assert model.generation_config.eos_token_id == model.config.eos_token_id


@pytest.fixture(scope="module")
def few_preferences(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No more than one step takes: the reference is checked at the first one."""
    folder = tmp_path_factory.mktemp("few")
    chosen = PreferencesRecipe(path="builtin", max_rows=16, held_out_fraction=0)
    make_preferences(chosen, DATA_DIR / "preferences.jsonl", tokenizer_folder, folder)
    return folder


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("size", [1, 8])
def test_rounding_to_bfloat16_is_no_wrong_reference(
    few_preferences: Path, tmp_path: Path, beta: float, size: int
) -> None:
    """On a model that is sure of its words; where all are as likely, nothing is rounded."""
    shutil.copytree(BASE_DIR, tmp_path / "policy" / "model")
    chosen = recipe(beta=beta, precision="bfloat16", num_epochs=1, examples_per_step=16)
    align(tmp_path / "out", tmp_path / "policy", few_preferences, chosen, micro_batch_size=size)
    assert (tmp_path / "out" / "out" / "model").is_dir(), "it was refused"


def test_the_base_as_reference_is_refused_in_bfloat16_too(
    policy: Path, base_as_policy: Path, preferences: Path, tmp_path: Path
) -> None:
    chosen = recipe(precision="bfloat16")
    wrong = references_of(tmp_path / "wrong", base_as_policy, preferences, chosen)
    with pytest.raises(HandOverError, match="ln 2"):
        align(tmp_path, policy, preferences, chosen, references=wrong)
