"""Operations are those that torch counts; peaks are published ones, or what is reached here."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from wit.bench import flops
from wit.bench.flops import Peak, flops_per_token, mean_length, mfu, published_peak
from wit.errors import ConfigError

LENGTH, ROWS = 12, 2
# A token sees half of its row. The attention here computes what the mask hides too: as many keys
# as a token sees in a row nearly twice as long.
AS_COUNTED = 2 * LENGTH - 1
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # heads x size is not the hidden size
    "attn_implementation": "eager",
}


def llama(**sizes: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES | sizes))


def counted(model: Any, *, is_fused: bool = False, backward: bool = True) -> float:
    """Operations of a forward and a backward for each token, as torch counts them."""
    model.train()
    ids = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % SIZES["vocab_size"]
    in_place = {torch.ops.aten.addmm_: _of_sum}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        if is_fused:
            loss = model(ids, labels=ids, fused_lm_head=True).log_probs.sum()
        else:
            loss = model(ids, use_cache=False).logits.logsumexp(-1).sum()
        if backward:
            loss.backward()
    return counter.get_total_flops() / (ROWS * LENGTH)


def _of_sum(_: Any, left: Any, right: Any, **_kwargs: Any) -> int:
    """Of a product that is added to a tensor in place, which torch does not count."""
    return 2 * left[0] * left[1] * right[1]


def adapted(model: Any, rank: int) -> Any:
    return get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))


@pytest.mark.parametrize("sizes", [{}, {"num_key_value_heads": 4}, {"hidden_size": 32}])
def test_training_of_all_weights(sizes: dict[str, int]) -> None:
    model = llama(**sizes)
    assert flops_per_token(model.config, AS_COUNTED) == counted(model)


def test_a_model_of_another_family() -> None:
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES))
    assert flops_per_token(model.config, AS_COUNTED) == counted(model)


def test_a_forward_alone() -> None:
    model = llama()
    own = flops_per_token(model.config, AS_COUNTED, trained="nothing")
    assert own == counted(model, backward=False)
    assert flops_per_token(model.config, AS_COUNTED) == 3 * own


@pytest.mark.parametrize("rank", [2, 8])
def test_training_of_adapters(rank: int) -> None:
    model = llama()
    own = flops_per_token(model.config, AS_COUNTED, trained="adapters", rank=rank)
    assert own == counted(adapted(model, rank))


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    """With small adapters and short rows it is two thirds: no third product of each weight."""
    config = llama(num_hidden_layers=200).config
    full = flops_per_token(config, 1)
    assert flops_per_token(config, 1, trained="adapters", rank=0) / full == pytest.approx(
        2 / 3, 0.02
    )


@pytest.mark.parametrize("rank", [None, 2])
def test_layers_are_computed_twice_with_activation_checkpointing(rank: int | None) -> None:
    model = llama()
    if rank is not None:
        model.enable_input_require_grads()  # as the trainer does, else nothing would be learned
    trained = adapted(model, rank) if rank else model
    trained.activation_checkpointing_enable()
    knobs: Any = {"trained": "adapters", "rank": rank} if rank else {}
    own = flops_per_token(model.config, AS_COUNTED, again=("layers",), **knobs)
    assert own == counted(trained)


def test_a_fused_head_is_computed_twice_and_does_not_see_the_last_token() -> None:
    model = llama()
    add_fused_lm_head(model)
    share = (LENGTH - 1) / LENGTH
    own = flops_per_token(model.config, AS_COUNTED, targets=share, again=("head",))
    assert own == pytest.approx(counted(model, is_fused=True), rel=1e-12)


def test_a_token_sees_itself_and_what_stands_before_it() -> None:
    config, lengths = llama().config, [3, 7, 7, 1]
    pairs = sum(1 for length in lengths for query in range(length) for _ in range(query + 1))
    size = SIZES["num_attention_heads"] * SIZES["head_dim"] * SIZES["num_hidden_layers"]
    of_pairs = 3 * 2 * 2 * size * pairs / sum(lengths)  # scores and values; twice that backward
    without = flops_per_token(config, -1)  # a row whose tokens see no key
    found = flops_per_token(config, mean_length(lengths)) - without
    assert found == pytest.approx(of_pairs, rel=1e-12)


def test_six_for_each_weight_of_a_model_of_a_billion() -> None:
    """Chinchilla's rule, 6 N D, where rows are short; the published size is 1.24 billion."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
    )
    assert flops_per_token(config, 1) == pytest.approx(6 * 1.2358e9, rel=1e-3)


def test_models_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="gpt2"):
        flops_per_token(GPT2Config(), 8)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40", None),
        ("NVIDIA A10G", None),
    ],
)
def test_peaks_are_of_whole_gpus_by_their_names(name: str, tera: float | None) -> None:
    found = published_peak(name)
    assert (found and found.flops) == (None if tera is None else tera * 1e12)


def test_the_peak_of_this_machine_is_above_a_product_and_below_the_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flops, "SECONDS_OF_GEMM", 0.05)
    monkeypatch.setitem(flops.SIZES, "cpu", (64, 128))
    peak = flops.peak_flops_of(torch.device("cpu"), torch.float32)
    assert 1e7 < peak.flops < 1e15
    assert "128 x 128, float32" in peak.source or "64 x 64, float32" in peak.source


def test_utilization_is_a_share() -> None:
    assert mfu(1000.0, 2e9, Peak(4e12, "")) == 0.5
