"""Loading models and tokenizers: what is damaged is refused, never mended in silence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from samples import embedded_tokenizer, save_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from wit.errors import BaseModelError, TrainingError, WitError
from wit.models import check_finite, choose_device, load_model
from wit.tokenizers import load_tokenizer

Damage = Callable[[Path], object]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1088,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,  # so the file holds no weights of the head
    )
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return save_tokenizer(embedded_tokenizer(), folder)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "base")
    return tmp_path / "base"


def edit_json(name: str, **changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return damage


def test_weights_are_float32_whatever_they_are_stored_in(folder: Path) -> None:
    stored = load_file(folder / WEIGHTS)
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    model = load_model(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    for name, weight in stored.items():
        assert torch.equal(model.get_parameter(name), weight.float())


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000]),
        lambda f: (f / WEIGHTS).write_bytes(b""),
        lambda f: (f / WEIGHTS).unlink(),
        lambda f: (f / "config.json").write_text("{"),
        lambda f: (f / "config.json").unlink(),
        edit_json("config.json", model_type="no-such"),
        edit_json("config.json", model_type="vit"),
        edit_json("config.json", hidden_size=32),
        edit_json("config.json", num_hidden_layers="two"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_refused_with_its_folder(
    folder: Path, damage: Damage
) -> None:
    damage(folder)
    with pytest.raises(BaseModelError) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{folder}: no causal language model can be loaded: ")
    assert len(str(caught.value).splitlines()) == 1


def test_missing_weights_are_refused_not_made_up(folder: Path) -> None:
    edit_json("config.json", num_hidden_layers=3)(folder)
    with pytest.raises(BaseModelError, match=r"9 weights are missing, such as model\.layers\.2\."):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder: Path, value: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["model.norm.weight"][3] = value
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(TrainingError, match=r"weight model\.norm\.weight is not finite") as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_finite_model_passes(folder: Path) -> None:
    check_finite(load_model(folder), "here")


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "tokenizer.json").write_text("{}"),
        lambda f: (f / "tokenizer.json").write_bytes(b"\xff"),
        lambda f: (f / "tokenizer.json").unlink(),
        edit_json("tokenizer.json", model={"type": "BPE"}),
        lambda f: (f / "tokenizer_config.json").write_text("["),
        lambda f: (f / "tokenizer_config.json").write_text("[]"),
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_is_refused_with_its_folder(
    folder: Path, damage: Damage
) -> None:
    damage(folder)
    with pytest.raises(BaseModelError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"{folder}: no tokenizer can be loaded: ")


def test_a_gpu_that_is_not_there_is_said() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
        return
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(WitError, match="'cuda' but torch sees no GPU; use 'auto' or 'cpu'"):
        choose_device("cuda")
