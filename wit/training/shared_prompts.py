"""Pairs as one sequence each: the prompt once, and behind it both responses.

A response sees the prompt and itself, at the positions that it has alone, so its log-probability is
the same but for rounding. A pair of two sequences computes the prompt twice, and pads the shorter
response to the length of the longest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from peft import PeftModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wit.losses import IGNORE_INDEX

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1  # branches
# A prompt and two responses, by which is found out what a model does.
PROBE = ((3, 5, 7, 11), (13, 17, 19, 23, 29), (31, 37, 41))
TOLERANCE = 1e-4  # of their log-probabilities, relative


def in_one_sequence(
    pairs: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]], pad: int
) -> dict[str, Tensor]:
    """Prompts, each followed by its chosen and its rejected response.

    The last token of a prompt predicts the first of both responses, so each branch begins with it;
    the last token of a response predicts nothing, and is left out.

    Args:
        pairs: Prompt, chosen response and rejected response, in tokens.
        pad: Any id will do.

    Returns:
        ``input_ids``, ``position_ids``, ``branches`` and ``targets`` (what comes after each
        token), each ``[pairs, tokens]``.
    """
    parts: dict[str, list[Tensor]] = {
        name: [] for name in ("input_ids", "position_ids", "branches", "targets")
    }
    for prompt, *responses in pairs:
        known = len(prompt) - 1
        ids, positions = list(prompt[:-1]), list(range(known))
        branches, targets = [PROMPT] * known, list(prompt[1:])
        for branch, response in zip((CHOSEN, REJECTED), responses, strict=True):
            ids += [prompt[-1], *response[:-1]]
            positions += range(known, known + len(response))
            branches += [branch] * len(response)
            targets += response
        for part, values in zip(parts.values(), (ids, positions, branches, targets), strict=True):
            part.append(torch.tensor(values))
    padding = {"input_ids": pad, "branches": PADDING, "targets": IGNORE_INDEX}
    return {
        name: pad_sequence(rows, batch_first=True, padding_value=padding.get(name, 0))
        for name, rows in parts.items()
    }


def seen_by(branches: Int[Tensor, "pairs tokens"]) -> Bool[Tensor, "pairs 1 tokens tokens"]:
    """Which tokens (last dimension) each attends to: earlier ones of prompt and own branch."""
    own = branches[:, :, None] == branches[:, None, :]
    of_prompt = (branches == PROMPT)[:, None, :]
    return ((own | of_prompt).tril())[:, None]


def score_pairs(model: Any, batch: Mapping[str, Tensor], *, with_prompt: bool = False) -> Any:
    """What a model with a fused head finds of the targets of ``in_one_sequence``."""
    branches, targets = batch["branches"], batch["targets"]
    if not with_prompt:
        targets = targets.masked_fill(branches == PROMPT, IGNORE_INDEX)
    return model(
        input_ids=batch["input_ids"],
        attention_mask=seen_by(branches),
        position_ids=batch["position_ids"],
        shift_labels=targets,
        use_cache=False,
        fused_lm_head=True,
    )


def by_branch(
    values: Tensor, branches: Int[Tensor, "pairs tokens"], which: Sequence[int]
) -> Tensor:
    """Sums over the tokens of branches, one branch after the other: ``[branches * pairs]``."""
    return torch.cat([(values * (branches == branch)).sum(-1) for branch in which])


def can_share(model: Any) -> bool:
    """Whether a model finds the same of responses that share a sequence.

    Not where attention takes no mask of our own, or goes by places in the sequence: it reaches only
    so far back, or has no positions but distances (ALiBi). What a model does in between (a state
    that runs over the sequence, say) is found out with a few tokens.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    config = getattr(inner, "config", None)
    if config is None or getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    is_by_place = getattr(config, "sliding_window", None) or getattr(config, "alibi", False)
    if kinds != {"full_attention"} or is_by_place:
        return False
    prompt, chosen, rejected = ([i % config.vocab_size for i in of] for of in PROBE)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            both = in_one_sequence([(prompt, chosen, rejected)], 0)
            both = {name: value.to(inner.device) for name, value in both.items()}
            logps = by_branch(
                score_pairs(model, both).log_probs.float(), both["branches"], (CHOSEN, REJECTED)
            )
            alone = [_logp(model, prompt, side, inner.device) for side in (chosen, rejected)]
    finally:
        model.train(was_training)
    return torch.allclose(logps, torch.stack(alone), rtol=TOLERANCE, atol=0)


def _logp(model: Any, prompt: list[int], response: list[int], device: Any) -> Tensor:
    ids = torch.tensor([[*prompt, *response]], device=device)
    labels = ids.clone()
    labels[:, : len(prompt)] = IGNORE_INDEX
    mask = torch.ones_like(ids)
    found = model(
        input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True
    )
    return found.log_probs.float().sum()
