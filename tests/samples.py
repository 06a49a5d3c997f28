"""Tokenizers, conversations and files that many tests need."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from wit.builtin.tokenizer import make_tokenizer as make_embedded_tokenizer
from wit.data.schema import Message, Messages
from wit.data.templates import OWN_TOKENS, read_template
from wit.roles import Role

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
STORIES = SHARED / "models" / "stories260K"
RASCHKA = SHARED / "data" / "raschka-instruct"
needs_shared = pytest.mark.skipif(
    not STORIES.is_dir(), reason=f"real models and data lie beside the checkout, in {SHARED}"
)

TEXT_ROLES = (Role.SYSTEM, Role.PROMPT, Role.RESPONSE)
MARKERS = ["### Response:\n", "### Instruction:", "<|user|>\n", "<|assistant|>", "wit0sentinel"]
SPECIAL_MARKERS = [
    "</s>",
    " <s> ",
    "<|end|>",
    "a<|end|>\n",
    "<end>",
    "<unk>",
    "<|bos|>",
    "<|im_end|>\n",
    "<|eot_id|>",
    "<end_of_turn>",
]
AWKWARD = [
    "",
    " ",
    "\n",
    " a",
    "a ",
    "\n\na\n",
    "  two  ",
    "\t",
    "\r\n",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "\ufffd",
]

# Without the character that SentencePiece writes for a space: it has no token of its own there.
plain_text = st.text(max_size=12).filter(lambda text: "\u2581" not in text) | st.text(
    alphabet=" \n#<|>/aehsu:", max_size=12
)
awkward_text = plain_text | st.sampled_from(AWKWARD + MARKERS)


@st.composite
def conversations(draw: st.DrawFn, texts: st.SearchStrategy[str] = awkward_text) -> Messages:
    """One to three turns, sometimes with a system text before them."""
    messages = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message("user", draw(texts)), Message("assistant", draw(texts))]
    return tuple(messages)


def embedded_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with a chat template of its own."""
    return make_embedded_tokenizer()


def stories_tokenizer(template: str) -> Any:
    """The real Llama's, which adds a space in front of a text, with one of our templates."""
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    tokenizer.chat_template = read_template(template)
    return tokenizer


def merging_tokenizer(
    *merges: tuple[str, str],
    template: str | None,
    special: tuple[str, ...] = ("<pad>", "<end>"),
    **named: str,
) -> PreTrainedTokenizerFast:
    """Bytes, and merges that reach across whatever borders the template draws."""
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    named = {"pad_token": "<pad>", "eos_token": "<end>"} | named
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **named)


FAMILY_TOKENS = (
    "<pad>",
    "<s>",
    "</s>",
    *(token for family in OWN_TOKENS.values() for token in family),
)
LINE_BREAK, SPACE = "\u010a", "\u0120"  # as byte-level BPE spells them
# Across the end of a header, the joining space of a response, and the end of a prompt.
BORDER_MERGES = ((LINE_BREAK, "T"), (SPACE, "T"), (".", LINE_BREAK))


def family_tokenizer(name: str, *merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Bytes, the special tokens of all families, and one of our templates."""
    template = read_template(name)
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return merging_tokenizer(*merges, template=template, special=FAMILY_TOKENS, **named)


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_tokenizer(tokenizer: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return folder
