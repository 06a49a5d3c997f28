"""After an SFT with an adapter of whatever method, the reference is that SFT model."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from aligned import align, recipe, references_of
from safetensors.torch import load_file

from wit.adapter_recipes import AdapterKnobs
from wit.config import Runtime
from wit.errors import HandOverError
from wit.models import load_model
from wit.recipes import SFTRecipe
from wit.tokenizers import load_tokenizer
from wit.training.adapters import ADAPTER, merged, with_saved_adapters
from wit.training.sft import train_sft
from wit.weights import TokenWeights

OF_SFT = [
    {"rank": 4},
    {"rank": 4, "dora": True},
    {"rank": 4, "init": "pissa"},
    {"method": "qlora", "rank": 4},
    {"method": "mora", "rank": 4},
    {"method": "loha", "config": {"r": 4}},
]
OF_DPO = [
    None,
    "continue",
    {"rank": 2},
    {"method": "mora", "rank": 2},
    {"rank": 2, "init": "pissa"},
]


class Policy(NamedTuple):
    """An SFT with an adapter."""

    folder: Path
    adapter: AdapterKnobs


@pytest.fixture(scope="module", params=OF_SFT, ids=str)
def adapted(
    request: pytest.FixtureRequest,
    base: Path,
    instructions: Path,
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Policy:
    folder = tmp_path_factory.mktemp("adapted")
    adapter = AdapterKnobs.model_validate(request.param)
    sft = SFTRecipe(
        weights=TokenWeights(prompt=0.2, response=1),
        seed=0,
        learning_rate=1e-2,
        examples_per_step=8,
        adapter=adapter,
    )
    where = Runtime(device="cpu")
    train_sft(sft, base, instructions, tokenizer_folder, folder, where, lambda *_: None)
    return Policy(folder, adapter)


@pytest.mark.parametrize("said", OF_DPO, ids=str)
def test_alignment_begins_at_the_sft_model_and_leaves_a_plain_one(
    adapted: Policy, base: Path, preferences: Path, tmp_path: Path, said: Any
) -> None:
    """Merged, then all weights; merged, then a new adapter; or the SFT's adapter goes on."""
    chosen = recipe(adapter=said, num_epochs=1)
    how: dict[str, Any] = {"base": base, "adapter": adapted.adapter, "micro_batch_size": 8}
    figures, weights = align(tmp_path, adapted.folder, preferences, chosen, **how)
    assert figures[1]["loss"] == pytest.approx(math.log(2), abs=2e-6)
    before = load_model(adapted.folder / "model").state_dict()
    assert weights.keys() == before.keys(), "adapters are merged"
    changed = [name for name in weights if not torch.allclose(weights[name], before[name])]
    assert changed
    if said is not None:
        assert not any("norm" in name for name in changed)
        special = sorted(load_tokenizer(base).added_tokens_decoder)
        for name in (name for name in changed if "embed" in name or "lm_head" in name):
            assert said == "continue", "SFT has trained the tokens that it goes on with"
            rows = (weights[name] != before[name]).any(1).nonzero().flatten().tolist()
            assert set(rows) < set(special)


def test_another_model_in_place_of_the_sft_model_is_refused(
    adapted: Policy, base: Path, base_as_policy: Path, preferences: Path, tmp_path: Path
) -> None:
    chosen = recipe(adapter="continue", num_epochs=1)
    wrong = references_of(tmp_path / "wrong", base_as_policy, preferences, chosen)
    how: dict[str, Any] = {"base": base, "adapter": adapted.adapter, "references": wrong}
    with pytest.raises(HandOverError, match="same SFT model"):
        align(tmp_path, adapted.folder, preferences, chosen, **how)


def test_what_is_kept_is_the_adapter_of_the_model_and_names_no_path(
    adapted: Policy, base: Path
) -> None:
    for file in (adapted.folder / ADAPTER).iterdir():
        assert str(base).encode() not in file.read_bytes(), file.name
    if adapted.adapter.method != "qlora":  # which is of weights of 4 bits
        again = merged(with_saved_adapters(load_model(base), adapted.folder / ADAPTER))
        whole = load_model(adapted.folder / "model")
        for name, weight in again.state_dict().items():
            torch.testing.assert_close(weight, whole.state_dict()[name], rtol=0, atol=1e-5)


def test_few_weights_are_kept_of_it(adapted: Policy) -> None:
    kept = load_file(adapted.folder / ADAPTER / "adapter_model.safetensors")
    num_weights = sum(
        weight.numel() for weight in load_model(adapted.folder / "model").parameters()
    )
    assert 0 < sum(weight.numel() for weight in kept.values()) < num_weights / 2
