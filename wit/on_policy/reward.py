"""Scores of responses by a reward model: a sequence classifier whose one output is the score.

A conversation is templated and read as the reward model's own files say, for it knows no other
form. So the score is that of the last token that is not the model's padding, as the library has it.
"""

import math
import re
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from wit.data.pieces import Encoder
from wit.data.prepare import FIXED_DATE
from wit.data.schema import Message, Messages
from wit.errors import BaseModelError, StageError, first_line
from wit.evaluation.batch_size import with_as_many_as_fit
from wit.generation.greedy import max_tokens_of
from wit.on_policy.reward_files import check_reward_model, not_a_reward_model
from wit.tokenizers import Tokenizer, load_tokenizer, special_tokens

__all__ = ["RewardModel", "check_reward_model"]

PRIVATE_USE = 0xE000  # first of some thousand characters that no text means anything by


class _Conversation(NamedTuple):
    """A response with what stands before it, in tokens."""

    prompt: int  # its place
    response: int  # its place among those to the prompt
    ids: tuple[int, ...]

    @property
    def label(self) -> str:
        return f"response {self.response + 1} to prompt {self.prompt + 1}"


class RewardModel:
    """A reward model that is loaded, in float32."""

    def __init__(
        self, folder: Path, device: torch.device | str = "cpu", *, batch_size: int
    ) -> None:
        """Loads it.

        Args:
            folder: A Hugging Face model with its own tokenizer and chat template.
            device: Where it computes.
            batch_size: Conversations per forward, at most; does not change a score.

        Raises:
            ConfigError: It is no reward model, or cannot be loaded whole.
        """
        check_reward_model(folder)
        self.folder = folder
        try:
            self._encoder = ConversationEncoder(load_tokenizer(folder))
        except (BaseModelError, ValueError) as error:  # of templates by names, none is the default
            raise not_a_reward_model(folder, first_line(error)) from error
        self._model = _load(folder, device)
        self._pad = self._model.config.get_text_config().pad_token_id
        self._batch_size = batch_size

    def scores(
        self, prompts: Sequence[Messages], responses: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """One score for each response to each prompt; the higher, the better.

        Scores have no unit, and those of different prompts need not be comparable. Equal responses
        to a prompt score alike exactly.

        Args:
            prompts: Conversations that wait for an answer.
            responses: To each of them.

        Raises:
            StageError: A conversation is longer than the model's context, its template refuses
                one, or a score is not finite; nothing is cut.
        """
        rows = [
            _Conversation(i, j, tuple(self._ids((*prompt, Message("assistant", text)), i, j)))
            for i, (prompt, texts) in enumerate(zip(prompts, responses, strict=True))
            for j, text in enumerate(texts)
        ]
        self._check_lengths(rows)
        # The longest first: if memory does not hold as many, that is known at once.
        by_ids = {row.ids: row for row in sorted(rows, key=lambda row: -len(row.ids))}
        ordered = list(by_ids.values())
        found: dict[tuple[int, ...], float] = {}
        while len(found) < len(ordered):
            attempt = partial(self._scores_from, ordered, len(found))
            found |= with_as_many_as_fit(self._model, self._batch_size, attempt)
        scores: list[list[float]] = [[] for _ in prompts]
        for row in rows:
            scores[row.prompt].append(found[row.ids])
        return scores

    def _ids(self, messages: Messages, prompt: int, response: int) -> list[int]:
        try:
            return self._encoder.ids(messages)
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            label = _Conversation(prompt, response, ()).label
            raise StageError(
                f"{self.folder}: the reward model's chat template refuses {label} (roles: "
                f"{', '.join(turn.role for turn in messages)}): {first_line(error)}. Leave such "
                "rows out of the preferences, or name another reward model"
            ) from None

    def _check_lengths(self, rows: Sequence[_Conversation]) -> None:
        limit = max_tokens_of(self._model)
        if limit is None or not (long := [row for row in rows if len(row.ids) > limit]):
            return
        longest = max(long, key=lambda row: len(row.ids))
        raise StageError(
            f"{self.folder}: {longest.label} has {len(longest.ids)} tokens with its prompt in the "
            f"reward model's own tokens, whose context holds {limit}; {len(long)} of {len(rows)} "
            "are too long, and none is cut. Let responses or prompts be shorter (max_new_tokens, "
            "preferences.max_tokens), or name a reward model of a longer context"
        )

    def _scores_from(
        self, ordered: Sequence[_Conversation], start: int, num_rows: int
    ) -> dict[tuple[int, ...], float]:
        rows = ordered[start : start + num_rows]
        scores = self._forward([row.ids for row in rows])
        for row, score in zip(rows, scores, strict=True):
            if not math.isfinite(score):
                raise StageError(
                    f"{self.folder}: the score of {row.label} is {score}, not a finite number; "
                    "its weights are damaged or not of this library. Name another reward model"
                )
        return {row.ids: score for row, score in zip(rows, scores, strict=True)}

    @torch.no_grad()
    def _forward(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        """Padding stands on the right, where nothing that counts attends to it."""
        tensors = [torch.tensor(row) for row in rows]
        masks = pad_sequence([torch.ones_like(row) for row in tensors], batch_first=True)
        ids = pad_sequence(tensors, batch_first=True, padding_value=self._padding(rows))
        device = self._model.device
        logits = self._model(input_ids=ids.to(device), attention_mask=masks.to(device)).logits
        return logits.float().reshape(len(rows)).tolist()

    def _padding(self, rows: Sequence[tuple[int, ...]]) -> int:
        """The model's own padding, at which it ends a row; else any id that ends none.

        Without padding of its own the model reads the last token, and so it shall in a batch.
        """
        config = self._model.config.get_text_config()
        if self._pad is not None and 0 <= self._pad < config.vocab_size:
            return self._pad
        last = {row[-1] for row in rows}
        config.pad_token_id = next(number for number in count() if number not in last)
        return config.pad_token_id


class ConversationEncoder:
    """Whole conversations in tokens, as a tokenizer's own chat template writes them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes which tokens may stand in markup only.

        Raises:
            ValueError: There are several templates, and none is the default.
        """
        template = tokenizer.get_chat_template()
        # Else a score would be another one tomorrow.
        is_dated = "strftime_now" in template
        self._template = FIXED_DATE + template if is_dated else template
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)
        self._special = frozenset(special_tokens(tokenizer).values())
        longest_first = sorted(self._special, key=len, reverse=True)
        # Without any token the pattern must match nowhere, and not the empty text.
        self._quotable = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def ids(self, messages: Messages) -> list[int]:
        """The conversation to the end of what the template writes, without a generation prompt.

        A special token that a text spells stays plain text: a response could else end its turn and
        have the user praise it.

        Raises:
            TemplateError: Or another error of the template, which refuses the conversation.
        """
        texts = [message.text for message in messages]
        mark_of = self._stand_ins(texts)
        rendered = self._rendered(messages, {mark: char for char, mark in mark_of.items()})
        text, cuts, quoted = "", set[int](), set[int]()
        for piece in re.split(f"([{''.join(mark_of)}])", rendered) if mark_of else [rendered]:
            if piece in mark_of:
                quoted.add(len(text))
                cuts |= {len(text), len(text) + len(mark_of[piece])}
            text += mark_of.get(piece, piece)
        return self._encoder.encode(text, cuts - {len(text)}, quoted, self._special).ids

    def _stand_ins(self, texts: Sequence[str]) -> dict[str, str]:
        """A character that no text has, for each special token that some text spells."""
        spelled = {mark for text in texts for mark in self._quotable.findall(text)}
        if not spelled:
            return {}
        used = set("".join(texts))
        unused = (chr(number) for number in count(PRIVATE_USE) if chr(number) not in used)
        return dict(zip(unused, sorted(spelled), strict=False))

    def _rendered(self, messages: Messages, stand_in: dict[str, str]) -> str:
        turns = [
            {
                "role": message.role,
                "content": self._quotable.sub(lambda found: stand_in[found[0]], message.text),
            }
            for message in messages
        ]
        return self._tokenizer.apply_chat_template(
            turns, chat_template=self._template, tokenize=False, add_generation_prompt=False
        )


def _load(folder: Path, device: torch.device | str) -> PreTrainedModel:
    """The classifier in float32, in evaluation mode.

    Raises:
        ConfigError: It cannot be loaded, or lacks weights, such as those of the score.
    """
    try:
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,  # other formats are pickles, which run what is in them
            trust_remote_code=False,  # unset, the library asks whoever sits there
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file breaks the library in a dozen ways
        said = f"no sequence classifier can be loaded: {first_line(error)}"
        raise not_a_reward_model(folder, said) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # the library fills them with random numbers
        said = f"{len(missing)} weights are missing, such as {', '.join(missing[:3])}"
        raise not_a_reward_model(folder, said)
    model.config.use_cache = False  # of one forward nothing is used again
    return model.to(torch.device(device)).eval()
