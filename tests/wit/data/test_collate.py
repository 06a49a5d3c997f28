"""Batches: labels, weights and padding."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from wit.data.collate import RoleCollator
from wit.losses import IGNORE_INDEX
from wit.roles import Role
from wit.weights import RoleWeights, TokenWeights

VOCABULARY = 5  # small, so that every id also turns up as padding
Rows = Sequence[dict[str, list[int]]]

token = st.tuples(st.integers(0, VOCABULARY - 1), st.sampled_from(list(Role)))
ragged_rows = st.lists(st.lists(token, min_size=1, max_size=6), min_size=1, max_size=4).map(
    lambda rows: [
        {"input_ids": [i for i, _ in row], "roles": [int(r) for _, r in row], "row": 3}
        for row in rows
    ]
)
weight = st.sampled_from([0.0, 0.5, 1.0])
all_weights = st.builds(
    TokenWeights,
    prompt=weight,
    response=st.just(1.0),
    stop=st.none() | weight,
    system=weight,
    boilerplate=st.none() | weight,
)


@given(rows=ragged_rows, weights=all_weights, pad=st.integers(0, VOCABULARY - 1))
def test_labels_are_ignored_exactly_where_the_weight_is_0(
    rows: Rows, weights: TokenWeights, pad: int
) -> None:
    batch = RoleCollator(weights, pad)(rows)
    ignored = batch["labels"] == IGNORE_INDEX
    assert torch.equal(ignored, batch["token_weights"] == 0)
    assert torch.equal(batch["labels"][~ignored], batch["input_ids"][~ignored])


@given(rows=ragged_rows, weights=all_weights, pad=st.integers(0, VOCABULARY - 1))
def test_neither_padding_nor_the_first_token_is_a_target_whatever_the_pad_id(
    rows: Rows, weights: TokenWeights, pad: int
) -> None:
    batch = RoleCollator(weights, pad)(rows)
    of_role = weights.by_role()
    for b, row in enumerate(rows):
        length = len(row["input_ids"])
        expected = [0.0] + [of_role[Role(role)] for role in row["roles"][1:]]
        assert batch["token_weights"][b, :length].tolist() == expected
        assert batch["input_ids"][b, :length].tolist() == row["input_ids"]
        assert batch["attention_mask"][b, :length].tolist() == [1] * length
        assert set(batch["labels"][b, length:].tolist()) <= {IGNORE_INDEX}
        assert set(batch["input_ids"][b, length:].tolist()) <= {pad}
        assert not batch["attention_mask"][b, length:].any()
        assert batch["labels"][b, 0] == IGNORE_INDEX


def test_a_stop_token_that_is_also_the_pad_token_is_still_learned() -> None:
    stop = 2
    rows = [
        {"input_ids": [1, 3, stop], "roles": [Role.PROMPT, Role.RESPONSE, Role.STOP]},
        {"input_ids": [1, stop], "roles": [Role.PROMPT, Role.STOP]},
    ]
    batch = RoleCollator(TokenWeights(prompt=0, response=1), pad_token_id=stop)(rows)
    assert batch["labels"].tolist() == [[-100, 3, stop], [-100, stop, -100]]


def test_a_row_that_lost_its_roles_is_an_error() -> None:
    collate = RoleCollator(TokenWeights(prompt=0, response=1), pad_token_id=0)
    with pytest.raises(KeyError, match="roles"):
        collate([{"input_ids": [1, 2]}])


def test_every_role_keeps_a_weight_of_its_own() -> None:
    weights = TokenWeights(
        prompt=0.1, response=0.2, system=0.3, template=0.4, boilerplate=0.5, stop=0.6
    )
    row = {"input_ids": [0] * 8, "roles": [0, *Role]}
    found = RoleCollator(weights, 0)([row])["token_weights"][0, 1:]
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0, 0.4, 0.5, 0.3, 0.1, 0.2, 0.6], abs=1e-7)


@given(rows=ragged_rows, weights=all_weights)
def test_packed_rows_carry_what_padded_ones_carry(rows: Rows, weights: TokenWeights) -> None:
    padded = RoleCollator(weights, 0)(rows)
    packed = RoleCollator(weights, 0, packing=True)(rows)
    is_real = padded["attention_mask"].bool()
    for name in ("input_ids", "roles", "token_weights", "labels"):
        assert torch.equal(packed[name][0], padded[name][is_real]), name
    starts = (packed["position_ids"] == 0)[0]
    assert starts.sum() == len(rows)
    assert not packed["token_weights"][0][starts].any(), "nothing is predicted from another row"
    assert "attention_mask" not in packed


def test_a_source_has_a_table_of_its_own() -> None:
    weights = TokenWeights(
        prompt=1, response=1, sources={"code": RoleWeights(prompt=0.25, response=0.5)}
    )
    row = {"input_ids": [0] * 3, "roles": [0, Role.PROMPT, Role.RESPONSE]}
    rows = [{**row, "source": "chat"}, {**row, "source": "code"}]
    found = RoleCollator(weights, 0)(rows)["token_weights"]
    assert found.tolist() == [[0, 1, 1], [0, 0.25, 0.5]]
    with pytest.raises(KeyError, match="source"):
        RoleCollator(weights, 0)([row])


def test_factors_of_messages_multiply_the_weights_of_roles() -> None:
    row = {"input_ids": [0] * 4, "roles": [0, Role.PROMPT, Role.RESPONSE, Role.STOP]}
    rows = [{**row, "factors": [1.0, 0.5, 0.0, 2.0]}, {**row, "factors": None}]
    batch = RoleCollator(TokenWeights(prompt=0.5, response=1), 0)(rows)
    assert batch["token_weights"].tolist() == [[0, 0.25, 0, 2], [0, 0.5, 1, 1]]
    assert batch["labels"].tolist()[0] == [IGNORE_INDEX, 0, IGNORE_INDEX, 0]


@pytest.mark.parametrize("packing", [False, True])
def test_no_rows_make_a_micro_batch_without_a_target(packing: bool) -> None:
    batch = RoleCollator(TokenWeights(prompt=1, response=1), 3, packing=packing)([])
    assert batch["labels"].tolist() == [[IGNORE_INDEX, IGNORE_INDEX]]
    assert not batch["token_weights"].any()
