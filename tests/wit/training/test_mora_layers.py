"""A layer with MoRA adapters: merged, scaled, in other numbers."""

import math

import pytest
import torch
from mora_models import generic, layer_of, train
from torch import nn
from transformers.pytorch_utils import Conv1D

from wit.training.mora import MoraConfig, MoraLinear, delta_weight
from wit.training.mora.operators import MORA_TYPES, MoraType

TYPES = pytest.mark.parametrize("mora_type", MORA_TYPES)


@TYPES
@pytest.mark.parametrize("safe_merge", [False, True])
def test_merged_is_unmerged_and_can_be_taken_back(mora_type: MoraType, safe_merge: bool) -> None:
    layer = layer_of(mora_type, dtype=torch.float64)
    x = generic(4, 13)
    before, unmerged = layer.base_layer.weight.clone(), layer(x)
    layer.merge(safe_merge=safe_merge)
    assert layer.merged
    assert not torch.equal(layer.base_layer.weight, before)
    torch.testing.assert_close(layer.base_layer(x), unmerged, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer(x), unmerged, atol=1e-6, rtol=0)
    layer.unmerge()
    assert not layer.merged
    torch.testing.assert_close(layer.base_layer.weight, before, atol=1e-12, rtol=0)
    torch.testing.assert_close(layer(x), unmerged, atol=1e-12, rtol=0)


def test_a_weight_that_would_not_be_finite_is_left_alone() -> None:
    layer = layer_of("rotation")
    before = layer.base_layer.weight.clone()
    layer.mora_matrix["default"].data[0, 0] = math.nan
    with pytest.raises(ValueError, match="not be finite"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.base_layer.weight, before)
    assert not layer.merged


@TYPES
def test_a_layer_whose_weight_lies_the_other_way_round(mora_type: MoraType) -> None:
    torch.manual_seed(0)
    layer = MoraLinear(Conv1D(10, 13), "own", MoraConfig(r=2, mora_type=mora_type))
    train(layer, "own")
    x = generic(4, 13).float()
    unmerged = layer(x)
    assert (unmerged - layer.base_layer(x)).abs().max() > 0.01
    layer.merge()
    torch.testing.assert_close(layer.base_layer(x), unmerged)


def test_each_adapter_has_a_type_and_a_size_of_its_own() -> None:
    layer = layer_of("rotation", dtype=torch.float64)
    layer.update_layer("other", MoraConfig(r=4, mora_type="sharing"))
    train(layer, "other")
    x = generic(4, 13)
    plain = layer.base_layer(x)
    updates = []
    adapters: list[tuple[str, MoraType, int]] = [
        ("default", "rotation", 6),
        ("other", "sharing", 10),
    ]
    for name, mora_type, size in adapters:
        matrix = layer.mora_matrix[name]
        assert matrix.shape == (size, size)
        updates.append(x @ delta_weight(matrix, 13, 10, mora_type).T)
        layer.set_adapter(name)
        torch.testing.assert_close(layer(x), plain + updates[-1])
    layer.set_adapter(["default", "other"])
    torch.testing.assert_close(layer(x), plain + updates[0] + updates[1])


def test_scaling_does_what_it_says_and_is_taken_back() -> None:
    layer = layer_of("rotation", dtype=torch.float64)
    x = generic(4, 13)
    plain, once = layer.base_layer(x), layer(x)
    layer.scale_layer(3)
    torch.testing.assert_close(layer(x) - plain, 3 * (once - plain))
    scaled = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), scaled)
    with pytest.raises(ValueError, match="unmerge"):
        layer.scale_layer(2)
    layer.unmerge()
    layer.unscale_layer(3)
    torch.testing.assert_close(layer(x), once)
    layer.scale_layer(5)
    layer.unscale_layer()
    torch.testing.assert_close(layer(x), once)


def test_dropout_drops_in_training_only() -> None:
    layer = MoraLinear(nn.Linear(40, 40), "default", MoraConfig(dropout=0.5))
    train(layer)
    x = generic(4, 40).float()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@TYPES
def test_everything_is_on_the_device_of_the_base_layer(mora_type: MoraType) -> None:
    base = nn.Linear(13, 10, device="meta", dtype=torch.float16)  # which no other may meet
    layer = MoraLinear(base, "default", MoraConfig(r=2, mora_type=mora_type))
    assert layer.mora_matrix["default"].is_meta
    found = layer(torch.zeros(4, 13, device="meta", dtype=torch.float16))
    assert (found.shape, found.dtype, found.is_meta) == ((4, 10), torch.float16, True)
    layer.merge()
    assert base.weight.is_meta


@TYPES
def test_autocast(mora_type: MoraType) -> None:
    layer = layer_of(mora_type)
    x = generic(4, 13).float()
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            found = layer(given)
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.05)
            found.sum().backward()
    assert layer.mora_matrix["default"].grad.dtype == torch.float32


def test_a_layer_that_is_moved_is_right_in_each_dtype() -> None:
    layer = layer_of("rotation", dtype=torch.float64)
    x = generic(4, 13)
    exact = layer(x)
    with torch.inference_mode():
        layer.bfloat16()(x.bfloat16())
    layer.double()
    layer.base_layer.load_state_dict(
        layer_of("rotation", dtype=torch.float64).base_layer.state_dict()
    )
    train(layer)
    torch.testing.assert_close(layer(x), exact, atol=1e-12, rtol=0)
