"""The base model's tokenizer: byte-level, 1,088 tokens, every word of the world one token.

Whitespace is never glued to a word. So a word is the same token at the start of a line, inside it
and after a chat tag, and a text cut between two words tokenises to the same ids as the whole.
"""

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from wit.builtin.vocabulary import ANIMALS, COLOURS, LIST_WORDS, OTHER_WORDS, PEOPLE

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
END = "<|end|>"  # ends every turn; the stop token of chat, so the tokenizer's eos_token
SPECIAL_TOKENS = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, END)
CHAT_TOKENS = (SYSTEM, USER, ASSISTANT, END)  # not in pretraining text

VOCABULARY_SIZE = 1088  # 7 special, 256 bytes, 717 whole pieces, and 108 merges for other text

# A list separator is one token; a word, a digit, a mark and a run of blanks each stand alone.
PIECES = r", |\p{L}+|\d|\n| +|[^\p{L}\d\s]"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def whole_pieces() -> list[str]:
    """Pieces that are one token, sorted: the words of the world, list words in capitals too."""
    words = {*LIST_WORDS, *ANIMALS, *COLOURS, *COLOURS.values(), *PEOPLE, *OTHER_WORDS}
    words |= {word.upper() for word in LIST_WORDS}
    for facts in (*ANIMALS.values(), *PEOPLE.values()):
        words |= set(facts)
    return [", ", *sorted(words)]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Byte pairs worth joining in text outside the world, most frequent first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def _in_byte_alphabet(piece: str) -> str:
    """The piece as byte-level BPE spells it, with ``Ġ`` for a blank."""
    [(spelled, _)] = _pre_tokenizer().pre_tokenize_str(piece)
    return spelled


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, always the same one.

    ``ignore_merges`` takes a piece that is in the vocabulary as it is. So whole words need no
    chain of merges leading to them, which would fill a vocabulary of 1 k with fragments.
    No post-processor and no normaliser: ``decode(encode(x)) == x``, and BOS comes from the chat
    template alone.
    """
    pieces = whole_pieces()
    tokens = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [spelled for piece in pieces if (spelled := _in_byte_alphabet(piece)) not in tokens]
    merges: list[tuple[str, str]] = []
    known = set(tokens)
    for left, right in _merges(pieces):
        if len(known) == VOCABULARY_SIZE:
            break
        if left in known and right in known:
            merges.append((left, right))
            known.add(left + right)
    tokens += [token for pair in merges if (token := "".join(pair)) not in tokens]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,  # what ends a response, not what ends a document
        model_max_length=512,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
