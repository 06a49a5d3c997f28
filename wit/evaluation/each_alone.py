"""How lm-eval's model pads and generates: as if each prompt stood alone. Imports nothing of it."""

from typing import Any

import torch

from wit.generation.decoding import decode, ends_at_text


class EachAlone:
    """Put before lm-eval's model among the bases of a class."""

    model: Any
    tokenizer: Any
    tok_encode: Any
    cut_prompts: set[str]  # too long for the model: lost their beginning

    def __init__(self, **knobs: Any) -> None:
        """As lm-eval's model."""
        super().__init__(**knobs)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of prompts, each encoded as if alone.

        Differs: lm-eval decides on special tokens for a whole batch by its first prompt.
        """
        rows = [self.tok_encode(string) for string in strings]
        if left_truncate_len is not None:
            lengths = zip(strings, map(len, rows), strict=True)
            self.cut_prompts |= {text for text, num in lengths if num > left_truncate_len}
            rows = [row[-left_truncate_len:] for row in rows]
        padded = self.tokenizer.pad(
            {"input_ids": rows}, padding_side=padding_side, return_tensors="pt"
        )
        return padded["input_ids"], padded["attention_mask"]

    def _model_generate(
        self,
        context: torch.Tensor,
        max_length: int,
        stop: list[str],
        attention_mask: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        """Greedy whatever is asked for; what a row writes behind a stop is cut off by lm-eval.

        Differs: lm-eval computes all rows of a batch until the last one has ended.
        """
        return decode(
            self.model,
            context,
            attention_mask,
            max_length=max_length,
            pad=self.tokenizer.pad_token_id,
            ended_of=ends_at_text(
                stop, self.tokenizer, self.model.generation_config.eos_token_id, context.shape[1]
            ),
        )
