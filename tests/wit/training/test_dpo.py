import math
import shutil
from pathlib import Path

import pytest
import torch

from wit.builtin import BASE_DIR, DATA_DIR
from wit.config import Runtime
from wit.data.prepare import TRAIN, make_preferences, read_split
from wit.errors import HandOverError
from wit.likelihood import token_log_probs
from wit.models import load_model
from wit.recipes import DPORecipe, PreferencesRecipe, SFTRecipe
from wit.training import dpo
from wit.training.sft import train_sft
from wit.weights import TokenWeights


@pytest.fixture(scope="module")
def policy(
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    weights = TokenWeights(prompt=0.2, response=1)
    recipe = SFTRecipe(
        weights=weights, seed=0, learning_rate=1e-2, num_epochs=2, examples_per_step=8
    )
    train_sft(recipe, base, instructions, tokenizer_folder, folder, Runtime(device="cpu"), ignore)
    return folder


def ignore(figures: dict[str, float], step: int) -> None:
    pass


def recipe(**knobs: object) -> DPORecipe:
    defaults = {"learning_rate": 2e-3, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    return DPORecipe(**{**defaults, **knobs})


def run(folder: Path, policy: Path, preferences: Path, recipe: DPORecipe, **runtime: object):
    figures: dict[int, dict[str, float]] = {}

    def log(logged: dict[str, float], step: int) -> None:
        figures.setdefault(step, {}).update(logged)

    folder.mkdir(parents=True, exist_ok=True)
    dpo.train_dpo(recipe, policy, preferences, folder, Runtime(device="cpu", **runtime), log)
    return figures, load_model(folder / "model").state_dict()


def test_it_starts_at_its_constants_and_learns_the_preferences(
    policy: Path, preferences: Path, tmp_path: Path
) -> None:
    figures, _ = run(tmp_path, policy, preferences, recipe(num_epochs=10, learning_rate=5e-3))
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
    figures, _ = run(tmp_path, policy, preferences, chosen)
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


def test_another_reference_is_refused(
    policy: Path, base: Path, preferences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic fault: log-probabilities of the base, or stale ones, in the reference's place."""
    compute = dpo.CheckedDPOTrainer.compute_ref_log_probs

    def of_base(self, model, inputs):
        chosen, rejected = compute(self, model, inputs)
        return chosen - 1.0, rejected

    monkeypatch.setattr(dpo.CheckedDPOTrainer, "compute_ref_log_probs", of_base)
    with pytest.raises(HandOverError, match="ln 2"):
        run(tmp_path, policy, preferences, recipe())
    assert not (tmp_path / "model").exists()


def test_splitting_a_step_changes_nothing(policy: Path, preferences: Path, tmp_path: Path) -> None:
    assert len(read_split(preferences, TRAIN)) % 8, "a short last window is what goes wrong"
    whole, weights = run(tmp_path / "8", policy, preferences, recipe(), micro_batch_size=8)
    for size in (2, 1):
        figures, other = run(
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
    run(tmp_path, policy, preferences, recipe(num_epochs=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "model" / name).read_bytes() == (tokenizer_folder / name).read_bytes()
    model = load_model(tmp_path / "model")
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
    run(tmp_path / "out", tmp_path / "policy", few_preferences, chosen, micro_batch_size=size)
    assert (tmp_path / "out" / "model").is_dir(), "it was refused"


def test_the_base_as_reference_is_refused_in_bfloat16_too(
    policy: Path, base: Path, preferences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = dpo.CheckedDPOTrainer.compute_ref_log_probs
    of_base = load_model(base).state_dict()

    def with_base(self, model, inputs):
        of_sft = {name: weight.clone() for name, weight in model.state_dict().items()}
        model.load_state_dict(of_base)
        try:
            return compute(self, model, inputs)
        finally:
            model.load_state_dict(of_sft)

    monkeypatch.setattr(dpo.CheckedDPOTrainer, "compute_ref_log_probs", with_base)
    with pytest.raises(HandOverError, match="ln 2"):
        run(tmp_path, policy, preferences, recipe(precision="bfloat16"))
