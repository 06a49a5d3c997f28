"""Laws of adapters of every method: they begin as no change, and merge into what they are."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from tiny import make_tiny_base
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from wit.adapter_recipes import METHODS, OTHERS, AdapterKnobs
from wit.errors import ArtifactError, ConfigError
from wit.models import load_model
from wit.training.adapters import (
    merged,
    num_trained,
    save_adapter,
    with_adapters,
    with_saved_adapters,
)
from wit.training.head import add_head
from wit.training.one_pass_head import add_one_pass_head
from wit.training.quantised import load_quantised, merge

# Sizes that a model of 32 features has room for.
SMALL: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 16},
    "fourierft": {"n_frequency": 64},
    "ia3": {"feedforward_modules": ["down_proj"], "target_modules": ["k_proj", "down_proj"]},
    "miss": {"r": 8},
    "psoft": {"r": 8},
    "road": {"group_size": 16},
    "waveft": {"n_frequency": 64},
}
OF_OURS = [
    {"method": "lora", "rank": 4},
    {"method": "lora", "rank": 4, "rslora": True},
    {"method": "lora", "rank": 4, "dora": True},
    *({"method": "lora", "rank": 4, "init": init} for init in ("gaussian", "orthogonal")),
    *({"method": "lora", "rank": 4, "init": init} for init in ("pissa", "pissa_niter_8", "olora")),
    {"method": "lora", "rank": 4, "init": "pissa", "rslora": True},
    {"method": "mora", "rank": 4},
    {"method": "mora", "rank": 4, "type": "sharing"},
]
OF_PEFT = [{"method": name, "config": SMALL.get(name, {})} for name in OTHERS]
TOKENS = (7, 50)
ALL = pytest.mark.parametrize("said", OF_OURS + OF_PEFT, ids=str)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(1))


def adapted(base: Path, said: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return with_adapters(load_model(base), AdapterKnobs.model_validate(said), "sft.adapter")


def with_tokens(base: Path, said: dict[str, Any]) -> Any:
    """With embeddings of two tokens, of which the rows have both."""
    torch.manual_seed(0)
    knobs = AdapterKnobs.model_validate(said)
    return with_adapters(load_model(base), knobs, "sft.adapter", TOKENS)


def train(model: Any, rows: Tensor, steps: int = 6) -> Any:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(steps):
        model(rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@torch.no_grad()
def logits_of(model: Any, rows: Tensor) -> Tensor:
    return model.eval()(rows).logits


@ALL
def test_it_begins_as_no_change_and_merges_into_what_it_has_become(
    said: dict[str, Any], base: Path, rows: Tensor, tmp_path: Path
) -> None:
    plain = load_model(base)
    model = adapted(base, said)
    before = logits_of(model, rows)
    torch.testing.assert_close(before, logits_of(plain, rows), rtol=0, atol=2e-5)
    train(model, rows)
    after = logits_of(model, rows)
    assert (after - before).abs().max() > 1e-3, "nothing was learned"
    takes = AdapterKnobs.model_validate(said).takes_from_weights
    save_adapter(model, tmp_path, adapted(base, said) if takes else None)
    torch.manual_seed(7)  # whatever is drawn while it is read
    again = with_saved_adapters(load_model(base), tmp_path)
    torch.testing.assert_close(logits_of(again, rows), after, rtol=0, atol=1e-5)
    assert any(weight.requires_grad for weight in again.parameters())
    whole = merged(model)
    torch.testing.assert_close(logits_of(whole, rows), after, rtol=0, atol=1e-5)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits_of(merged(again), rows), after, rtol=0, atol=1e-5)


@ALL
def test_the_seed_alone_decides_how_it_begins(said: dict[str, Any], base: Path) -> None:
    one, two = (copy.deepcopy(adapted(base, said).state_dict()) for _ in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())


@ALL
def test_as_many_weights_are_counted_as_are_trained(said: dict[str, Any], base: Path) -> None:
    trained = sum(w.numel() for w in adapted(base, said).parameters() if w.requires_grad)
    assert num_trained(base, AdapterKnobs.model_validate(said), "sft.adapter") == trained


@ALL
def test_a_forward_is_the_same_again_while_it_is_trained(
    said: dict[str, Any], base: Path, rows: Tensor
) -> None:
    """Else results would depend on how an optimizer step is split into forwards."""
    model = train(adapted(base, said), rows, steps=2).train()
    assert torch.equal(model(rows).logits, model(rows).logits)


def test_ln_tuning_is_of_norms(base: Path) -> None:
    names = [
        n for n, w in adapted(base, {"method": "ln_tuning"}).named_parameters() if w.requires_grad
    ]
    assert names
    assert all("norm" in name for name in names)


def test_every_method_of_peft_is_allowed_or_cannot_be_used_here() -> None:
    """A new release has others: each is allowed once the laws above hold for it."""
    left_out = {
        *("adalora", "poly", "xlora"),  # a trainer has to do more than steps
        *("adaption_prompt", "beft", "lily", "shadow", "trainable_tokens"),  # cannot be merged
        *("unilora", "vblora"),  # begin as another model
        *("boft", "frod", "shira", "tinylora"),  # compile code; warn; save weights by other names
        "adamss",  # how many weights it trains depends on the values of others
        "pvera",  # draws at random in every forward
        *("cartridge", "cpt", "multitask_prompt_tuning", "p_tuning", "prefix_tuning"),  # tokens
        "prompt_tuning",
    }
    known = {str(key.value).lower() for key in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert known - left_out == {*METHODS} - {"qlora", "continue"}


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"modules": ["nope"]}, "nope"),
        ({"method": "loha", "config": {"rank": 4}}, "rank"),
        ({"method": "c3a", "config": {"block_size": 5}}, "block size"),
        ({"method": "vera", "config": {"r": 0}}, "zero"),
        ({"method": "loha", "config": {"inference_mode": True}}, "no weight to train"),
    ],
)
def test_what_does_not_fit_is_refused(said: dict[str, Any], what: str, base: Path) -> None:
    with pytest.raises(ConfigError, match=rf"sft\.adapter: .*{what}"):
        adapted(base, said)
    with pytest.raises(ConfigError, match=rf"sft\.adapter: .*{what}"):
        num_trained(base, AdapterKnobs.model_validate(said), "sft.adapter")


def test_adapters_of_another_model_are_refused(base: Path, tmp_path: Path) -> None:
    model = adapted(base, {"rank": 4, "modules": ["q_proj"]})
    save_adapter(model, tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(file.read_text().replace('"q_proj"', '"k_proj"'))
    with pytest.raises(ArtifactError, match="does not fit"):
        with_saved_adapters(load_model(base), tmp_path)


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("said", OF_OURS, ids=str)
def test_embeddings_of_tokens_are_trained_kept_and_merged_with_it(
    said: dict[str, Any], is_tied: bool, rows: Tensor, tmp_path: Path
) -> None:
    base = make_tiny_base(tmp_path / "base", is_tied=is_tied)
    rows = torch.cat([rows, rows.new_tensor([TOKENS * 6])])
    plain, model = load_model(base), with_tokens(base, said)
    before = logits_of(model, rows)
    torch.testing.assert_close(before, logits_of(plain, rows), rtol=0, atol=2e-5)
    counted = num_trained(base, AdapterKnobs.model_validate(said), "sft.adapter", len(TOKENS))
    assert counted == sum(w.numel() for w in model.parameters() if w.requires_grad)
    train(model, rows)
    after = logits_of(model, rows)
    takes = AdapterKnobs.model_validate(said).takes_from_weights
    save_adapter(model, tmp_path, with_tokens(base, said) if takes else None)
    again = with_saved_adapters(load_model(base), tmp_path)
    torch.testing.assert_close(logits_of(again, rows), after, rtol=0, atol=1e-5)
    whole = merged(model)
    torch.testing.assert_close(logits_of(whole, rows), after, rtol=0, atol=1e-5)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    for now, was in (
        (one.get_input_embeddings().weight, other.get_input_embeddings().weight)
        for one, other in ((whole, plain), (merged(again), plain))
    ):
        changed = (now != was).any(1).nonzero().flatten().tolist()
        assert changed == list(TOKENS)


@pytest.mark.parametrize("is_tied", [False, True])
def test_embeddings_of_tokens_are_merged_with_adapters_of_quantised_weights(
    is_tied: bool, rows: Tensor, tmp_path: Path
) -> None:
    base = make_tiny_base(tmp_path / "base", is_tied=is_tied)
    knobs = AdapterKnobs.model_validate({"method": "qlora", "rank": 4})
    plain = load_quantised(base, knobs, "cpu")
    rows = torch.cat([rows, rows.new_tensor([TOKENS * 6])])
    before = logits_of(plain, rows)
    model = train(with_adapters(plain, knobs, "sft.adapter", TOKENS), rows)
    after = logits_of(model, rows)
    whole = merge(model, base, knobs)
    torch.testing.assert_close(logits_of(whole, rows), after, rtol=0, atol=1e-5)
    assert (after - before).abs().max() > 0.1
    models: list[Any] = [whole, load_model(base)]
    now, was = (one.get_input_embeddings().weight for one in models)
    assert (now != was).any(1).nonzero().flatten().tolist() == list(TOKENS)


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("head", [add_one_pass_head, add_head, add_fused_lm_head])
def test_every_head_scores_with_the_embeddings_as_they_are_trained(
    head: Any, is_tied: bool, rows: Tensor, tmp_path: Path
) -> None:
    """Loss and gradients of the trained rows are those that all logits give."""
    base = make_tiny_base(tmp_path / "base", is_tied=is_tied)
    rows = torch.cat([rows, rows.new_tensor([TOKENS * 6])])
    model = train(with_tokens(base, {"method": "lora", "rank": 4}), rows, steps=2)
    named = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
    names, weights = zip(*named, strict=True)
    assert sum("trainable_tokens_delta" in name for name in names) == 2 - is_tied
    targets = rows[:, 1:]
    found = model(rows).logits[:, :-1].log_softmax(-1).gather(-1, targets[..., None]).sum()
    wanted = torch.autograd.grad(-found, weights)
    head(model.get_base_model())
    if head is add_one_pass_head:
        loss = model(rows, labels=rows, coefficients=torch.ones(targets.shape)).loss
    else:
        loss = -model(rows, labels=rows, fused_lm_head=True).log_probs.sum()
    torch.testing.assert_close(loss, -found, rtol=1e-5, atol=1e-4)
    for name, own, other in zip(names, torch.autograd.grad(loss, weights), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4, msg=name)
