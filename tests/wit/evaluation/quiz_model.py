"""A byte-level tokenizer, questions, and the model run by hand, for the tests beside this file."""

from typing import NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from wit.evaluation.harness import run_benchmarks

PAD, BOS, END = "<pad>", "<bos>", "<end>"
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>\n{{ message['content'] }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
CONTEXT = 256  # tokens
WORDS = ["fox", "a hen", "moon and sun", "x", "seven ships sail", "ab", "rain", "o, p, q"]
QUESTIONS = [f"Say {word}!" for word in WORDS]  # ragged, so that batches are padded
ROWS = [{"question": q, "answer": w} for q, w in zip(QUESTIONS, WORDS, strict=True)]
CHOICE_ROWS = [
    {"question": q, "choices": ["moon", "fox and hen", "x y"], "label": i % 3}
    for i, q in enumerate(QUESTIONS)
]


def make_byte_tokenizer(
    *, adds_bos: bool = False, writes_bos: bool = False
) -> PreTrainedTokenizerFast:
    """Bytes, and one merge that reaches across the border of prompt and response."""
    tokens = [PAD, BOS, END, "<user>", "<assistant>", "<system>"]
    tokens += sorted(pre_tokenizers.ByteLevel.alphabet())
    line_break = "\u010a"  # as byte-level BPE spells it
    vocabulary = {token: i for i, token in enumerate([*tokens, line_break + "m"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(line_break, "m")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in tokens[:6]])
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        chat_template=("{{ bos_token }}" if writes_bos else "") + TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "generation_kwargs": None,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


class ByHand(NamedTuple):
    """The model without batches, padding, caches or lm-eval: slow, obvious, the reference."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast

    def prompt(self, question: str, *, is_chat: bool = True) -> list[int]:
        if not is_chat:
            return self.tokenizer(question)["input_ids"]
        messages = [{"role": "user", "content": question}]
        encoded = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return encoded["input_ids"]

    def answer(self, prompt: list[int], max_tokens: int = 12) -> str:
        ids = list(prompt)
        for _ in range(max_tokens):
            with torch.no_grad():
                ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == self.tokenizer.eos_token_id:
                break
        return self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)

    def logp(self, prompt: list[int], response: str) -> float:
        ids = self.tokenizer(response, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = self.model(torch.tensor([prompt + ids])).logits[0].double()
        log_probs = logits.log_softmax(-1)
        return sum(log_probs[len(prompt) - 1 + i, t].item() for i, t in enumerate(ids))


def run_one(model, tokenizer, administered, *, batch_size=4, seed=1):
    [outcome] = run_benchmarks(
        model, tokenizer, [administered], batch_size=batch_size, seed=seed
    ).values()
    return outcome
