"""Models and benchmarks that do not fit each other."""

import pytest
import torch
from quiz_model import CHOICE_ROWS, CHOICES, END, ROWS, make_byte_tokenizer, run_one

from wit.errors import StageError


def refused(model, tokenizer, administered):
    with pytest.raises(StageError) as caught:
        run_one(model, tokenizer, administered)
    assert "benchmark quiz" in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_asked_is_refused_by_name(model, tokenizer, write_benchmark):
    knobs = {"max_gen_toks": 256, "until": [END]}
    message = refused(model, tokenizer, write_benchmark(ROWS, generation_kwargs=knobs))
    assert "256 tokens" in message
    assert "UndefinedError" in refused(
        model, tokenizer, write_benchmark(ROWS, doc_to_text="{{no.such.field}}")
    )
    metrics = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    knobs = {**CHOICES, "metric_list": [{**metrics[0], "higher_is_better": None}]}
    assert "higher_is_better" in refused(model, tokenizer, write_benchmark(CHOICE_ROWS, **knobs))
    without_template = make_byte_tokenizer()
    without_template.chat_template = None
    assert "chat template" in refused(model, without_template, write_benchmark(ROWS))


def test_outputs_that_are_no_numbers_are_refused(model, tokenizer, write_benchmark):
    model.lm_head.weight.data[7] = torch.nan
    assert "finite" in refused(model, tokenizer, write_benchmark(CHOICE_ROWS, **CHOICES))
