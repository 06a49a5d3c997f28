"""Benchmarks put to a model with lm-eval, whose only door this is.

* Prompts have exactly the tokens that the tokenizer's chat template gives: no second BOS, nothing
  moved across the border to the response.
* Greedy, whatever a benchmark's file or the model's ``generation_config.json`` says.
* One benchmark at a time: its scores do not depend on the others in the study.
* Data files are read anew each time, in a folder of this process: no cache to be stale or shared.
* An item without a right answer is an error, and so is a benchmark that was scored in part.
"""

import copy
import functools
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.metrics
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager, _factory
from lm_eval.tasks._yaml_loader import load_yaml  # the only way to its !function tags
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wit.data.item_index import Item
from wit.data.rendering import Segment
from wit.data.tokenize import SegmentTokenizer
from wit.errors import DataError, StageError
from wit.evaluation import asking
from wit.evaluation.batch_size import with_as_many_as_fit
from wit.evaluation.benchmark_files import included_in, with_rows_in_place
from wit.evaluation.catalogue import ResolvedBenchmark
from wit.evaluation.checkers import checkers_of
from wit.evaluation.deciding import folders_of_tasks
from wit.evaluation.each_alone import EachAlone
from wit.evaluation.greedy import plain_generation
from wit.evaluation.local_rows import only_scored_split
from wit.evaluation.questions import check_answers, item_of
from wit.evaluation.reading import rows_from_where_it_says
from wit.evaluation.results import Outcome, outcome_from_lm_eval
from wit.evaluation_recipes import BenchmarkRecipe
from wit.roles import Role

logger = logging.getLogger(__name__)

HFLM: Any = lm_eval.models.huggingface.HFLM  # its decorator hides its type


def run_benchmarks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmarks: Sequence[tuple[ResolvedBenchmark, BenchmarkRecipe]],
    *,
    batch_size: int,
    seed: int,
    system: str | None = None,
) -> dict[str, Outcome]:
    """Puts every benchmark to the model, where it is and in the precision it has.

    Args:
        model: In evaluation mode; left as it was.
        tokenizer: With a chat template, unless no benchmark needs one; left as it was.
        benchmarks: Each with its number of worked examples and limit of items.
        batch_size: Prompts per forward pass, at most; no score depends on it. Where the memory does
            not hold so many it is halved, once for all benchmarks of the model.
        seed: Of the choice of worked examples.
        system: Of the chat template's system turn; None: there is none.

    Raises:
        StageError: A benchmark cannot be loaded, does not fit the model, or was not scored on all
            of its items.
        torch.OutOfMemoryError: The memory does not hold a single prompt.
    """
    _tame_lm_eval()
    tokenizer = copy.deepcopy(tokenizer)  # lm-eval gives it a pad token
    outcomes = {}
    with plain_generation(model, tokenizer):
        for benchmark, recipe in benchmarks:
            asking.announce(benchmark)
            with asking.named(benchmark, "failed"):
                outcome = _run_one(model, tokenizer, benchmark, recipe, batch_size, seed, system)
            outcomes[benchmark.name] = outcome
    return outcomes


def read_items(benchmark: ResolvedBenchmark, limit: int | None) -> Iterator[Item]:
    """The items that a benchmark asks, in its order, without worked examples or a template.

    Args:
        benchmark: Where they are.
        limit: Only the first so many of each of its tasks.

    Raises:
        StageError: The benchmark cannot be loaded, or an item has no right answer.
    """
    _tame_lm_eval()
    number = 0
    with (
        asking.named(benchmark, "cannot be read"),
        tempfile.TemporaryDirectory(prefix="wit-benchmark-") as cache,
    ):
        for task in _load(benchmark, cache)["tasks"].values():
            check_answers(task, limit)
            for _, doc in task.doc_iterator(limit=limit):
                yield item_of(benchmark.name, number, task, doc)
                number += 1


def ask(
    lm: Any,
    benchmark: ResolvedBenchmark,
    recipe: BenchmarkRecipe,
    *,
    seed: int,
    system: str | None = None,
    max_tokens: float = math.inf,
) -> dict[str, Any]:
    """What lm-eval finds when it puts one benchmark to one of its models.

    Args:
        lm: An ``lm_eval.api.model.LM``.
        benchmark: Its main metric comes first in what is found.
        recipe: Number of worked examples and limit of items.
        seed: Of the choice of worked examples.
        system: As of ``run_benchmarks``.
        max_tokens: The model's context.

    Raises:
        StageError: An item has no right answer, or the benchmark does not fit the model.
    """
    _tame_lm_eval()
    with asking.same_draws(), tempfile.TemporaryDirectory(prefix="wit-benchmark-") as cache:
        loaded = _load(benchmark, cache)
        for task in loaded["tasks"].values():
            asking.configure(task, recipe, seed)
            asking.check_room(task, max_tokens)
            check_answers(task, recipe.limit)
        found: Any = evaluate(
            lm,
            loaded,
            limit=recipe.limit,
            bootstrap_iters=1,  # not 0, or closed forms are left out too; see _tame_lm_eval
            system_instruction=system,
            apply_chat_template=benchmark.is_chat,
            fewshot_as_multiturn=benchmark.is_chat,
        )
    return asking.main_first(found, benchmark)


class _BenchmarkedModel(EachAlone, HFLM):
    """lm-eval's model, strict about the tokens of a prompt."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        is_chat: bool,
    ) -> None:
        # The template writes all special tokens; plain text gets those that the tokenizer adds.
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            add_bos_token=False if is_chat else None,
            softmax_dtype="float32",
        )
        self.is_chat = is_chat
        self.segment_tokenizer = SegmentTokenizer(tokenizer)
        self.cut_prompts: set[str] = set()  # too long for the model: lost their beginning

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of a choice after it, as prompts and responses have in training.

        Differs: lm-eval moves blanks and line breaks from the end of a prompt into the choice, and
        tokenises both together.
        """
        if not self.is_chat:
            return super()._encode_pair(context, continuation)
        segments = [Segment(context, Role.PROMPT), Segment(continuation, Role.RESPONSE)]
        try:
            ids, roles, *_ = self.segment_tokenizer.tokens(segments)
        except DataError:  # a text with characters that the tokenizer cannot spell
            return self.tok_encode(context), self.tok_encode(continuation)
        num_prompt_tokens = roles.count(Role.PROMPT)
        return ids[:num_prompt_tokens], ids[num_prompt_tokens:]

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        room = self.max_length + 1  # the last token is only a target
        for texts, prompt, end in requests:
            if len(prompt) + len(end) > room:
                self.cut_prompts.add(texts[0])
        answers = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        if not torch.tensor([logp for logp, _ in answers]).isfinite().all():
            raise StageError("the model gives log-probabilities that are not finite numbers")
        return answers


def _run_one(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    benchmark: ResolvedBenchmark,
    recipe: BenchmarkRecipe,
    batch_size: int,
    seed: int,
    system: str | None,
) -> Outcome:
    asking.check_template(benchmark, tokenizer)

    def attempt(num_prompts: int) -> tuple[dict[str, Any], set[str]]:
        lm = _BenchmarkedModel(model, tokenizer, batch_size=num_prompts, is_chat=benchmark.is_chat)
        found = ask(lm, benchmark, recipe, seed=seed, system=system, max_tokens=lm.max_length)
        return found, lm.cut_prompts

    found, cut = with_as_many_as_fit(model, batch_size, attempt)
    if cut:
        logger.warning("benchmark %s: %d prompts were too long and cut", benchmark.name, len(cut))
    return outcome_from_lm_eval(found, benchmark, recipe, len(cut))


def _load(benchmark: ResolvedBenchmark, cache: str) -> Any:
    """lm-eval's tasks of the benchmark, one or those of a group, with their data."""
    checkers_of(benchmark.files).make_ready()
    config = with_rows_in_place(_read(benchmark.yaml_path), benchmark.yaml_path)
    with rows_from_where_it_says(benchmark, cache):
        if "group" in config:
            return _all_tasks(benchmark.yaml_path, benchmark.fingerprint).load([config["group"]])
        if benchmark.rows and not benchmark.rows.is_folder:
            config |= only_scored_split(config)
        return TaskManager(include_defaults=False).load([config])


@functools.cache
def _all_tasks(group: Path, _fingerprint: str) -> TaskManager:
    """lm-eval's index of the tasks of a group; to index its own takes ten seconds."""
    return TaskManager(include_path=[*folders_of_tasks(group)], include_defaults=False)


def _read(yaml_path: Path) -> dict[str, Any]:
    """A benchmark's file and those it includes, with its functions."""
    config: dict[str, Any] = {}
    for file in included_in(yaml_path):
        config |= _read(file)
    own = load_yaml(yaml_path, recursive=False)
    return config | {key: value for key, value in own.items() if key != "include"}


@functools.cache
def _tame_lm_eval() -> None:
    """No progress bars, no chatter, no process pool; lm-eval has no switches for these.

    Its bootstrap starts a pool of processes and prints; metrics with a closed form do not use it.
    Its templates are compiled once, not four times for every item: a fifth of the time.
    """

    def quiet(*args: Any, **kwargs: Any) -> tqdm:
        return tqdm(*args, **{**kwargs, "disable": True})

    for module in (lm_eval.api.task, lm_eval.api.model, lm_eval.models.huggingface):
        module.tqdm = quiet  # pyright: ignore[reportAttributeAccessIssue]
    _factory.load_yaml = lambda path, **knobs: with_rows_in_place(load_yaml(path, **knobs), path)
    datasets.disable_progress_bars()
    lm_eval.utils.env.from_string = functools.cache(lm_eval.utils.env.from_string)  # pyright: ignore
    lm_eval.api.metrics.bootstrap_stderr = lambda *_, **__: "N/A"
    if logging.getLogger("lm_eval").level == logging.NOTSET:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
