"""Plans and comparisons on a terminal, and as JSON."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from wit.config import cell_name
from wit.files import size_text
from wit.objectives import objectives, replicates, sentences
from wit.progress import duration

if TYPE_CHECKING:
    import pandas as pd

    from wit.analysis.comparison import ComparedCell, Measured
    from wit.artifacts import Artifact
    from wit.config import Study
    from wit.estimate import Estimate
    from wit.plan import Plan
    from wit.search_plan import Search

MARK = "="  # before a cell that another one stands for
SAME_OBJECTIVE = "not trained: it is the objective of the unmarked cell above it"
# What the stages that belong to no cell are called, where their own names are too short.
SHARED_STAGES = {
    "items": "items of the benchmarks",
    "overlap": "overlap of items and training rows",
}


def plan_as_json(plan: "Plan", cost: "Estimate") -> dict[str, Any]:
    """Cells, stages with their fingerprints and states, distinct objectives, and the cost.

    ``replicates`` has the weights that are not trained, each with those of its objective that are.
    """
    from wit.estimate import sharing  # imports what judges need

    alignments = plan.alignment_of
    return {
        "study": plan.study.name,
        "num_cells": len(plan.study.weights) * len(plan.study.seeds) * len(plan.study.tuned_by),
        "num_trained_cells": len(plan.cells),
        "replicates": replicates(plan.study),
        "objectives": [found.model_dump(mode="json") for found in objectives(plan.study)],
        "tunings": [name for name in plan.study.tuned_by if name is not None],
        "alignments": {
            name: {"objective": knobs.objective, "beta": knobs.beta}
            for name, knobs in plan.study.aligned_by.items()
        },
        "sharing": sharing(plan).model_dump(mode="json"),
        "search": plan.search and search_as_json(plan.search),
        "stages": [
            {
                "stage": artifact.stage,
                "cell": str(cell) if cell else None,
                "alignment": alignments.get(artifact.fingerprint),
                "fingerprint": artifact.fingerprint,
                "state": _state(plan, artifact),
            }
            for artifact, cell in plan.artifacts()
        ],
        "cost": cost.model_dump(mode="json"),
    }


def search_as_json(search: "Search") -> dict[str, Any]:
    """How far it has come, and what is known of every cell that it has begun."""
    stopped = {str(cell) for cell in search.stopped}
    trials = [
        {
            "cell": name,
            "round": trial.round + 1,
            "rungs": [*trial.rungs],
            "score": trial.score,
            "state": "stopped" if name in stopped else "failed" if trial.has_failed else "begun",
        }
        for trial in search.trials
        for name in (f"{trial.weights}-s{trial.seed}",)
    ]
    return {
        "budget": search.knobs.budget,
        "num_rounds": search.num_rounds,
        "is_over": search.is_over,
        "cells": trials,
    }


def show_plan(console: Console, plan: "Plan", cost: "Estimate") -> None:
    """Prints the cells with the state of each stage, and the cost of what is to be made."""
    from wit.estimate import sharing  # imports what judges need

    console.print(_table_of_cells(plan))
    if plan.search is not None:
        at_most = "" if plan.search.is_over else "; the cost below is at most"
        console.print(f"{plan.search}{at_most}", highlight=False)
    if others := replicates(plan.study):
        num = len(others) * len(plan.study.seeds) * len(plan.study.tuned_by)
        all_cells = len(plan.cells) + num
        console.print(f"{MARK} {SAME_OBJECTIVE}: {num} of {all_cells} cells", highlight=False)
    for name, knobs in plan.study.aligned_by.items():
        said = f"alignment {name}: {knobs.label} ({knobs.method.source})"
        console.print(said, soft_wrap=True, highlight=False, markup=False)
    if len(plan.study.aligned_by) > 1:
        console.print(f"{sharing(plan)}.", highlight=False)
    console.print(f"artifacts: {plan.tokenizer.root}", soft_wrap=True, highlight=False)
    console.print(f"evaluations of the base: {_states(plan, plan.base_evaluations)}")
    for artifact in plan.shared:
        if artifact.stage == "evaluation":
            continue
        name = SHARED_STAGES.get(artifact.stage, artifact.stage)
        console.print(f"{name}: {_state(plan, artifact)}  [dim]{artifact.fingerprint}[/dim]")
    for sentence in sentences(objectives(plan.study)):
        console.print(sentence, highlight=False)
    for name, size in (("instructions", cost.instructions), ("preferences", cost.preferences)):
        about = "about " if size.is_estimated else ""
        console.print(f"{name}: {about}{size.num_rows:,} rows of {size.tokens_per_row:.0f} tokens")
    console.print(
        f"to train: {cost.sft_tokens:,} SFT tokens, {cost.dpo_tokens:,} DPO tokens, "
        f"{cost.optimizer_steps:,} optimizer steps"
    )
    if cost.responses_to_draw:
        said = f"to draw: {cost.responses_to_draw:,} responses; of prompts that give no pair"
        console.print(f"{said} nothing is learned", highlight=False)
    if cost.num_downloads:
        size = cost.download_bytes
        amount = "an unknown amount" if size is None else size_text(size)
        console.print(
            f"to download from the artifact store: {cost.num_downloads} artifacts, {amount}"
        )
    if cost.judge is not None:
        usd = "" if cost.judge.max_usd is None else f", {cost.judge.max_usd:,.2f} USD"
        console.print(
            f"to judge: {cost.judge.num_requests:,} requests of {cost.judge.num_prompt_tokens:,} "
            f"tokens, and answers of up to {cost.judge.max_completion_tokens:,}{usd}, at most"
        )
    tunings, alignments = plan.study.tuned_by, plan.study.aligned_by
    if any(knobs.adapter for knobs in (*tunings.values(), *alignments.values())):
        counts = (f"{num:,} ({name})" for name, num in (cost.trained_weights or {}).items())
        console.print(f"weights that are trained: {', '.join(counts) or 'unknown'}")
    if cost.seconds is None or cost.disk_bytes is None or cost.peak_memory_bytes is None:
        console.print("time, disk and memory: unknown: the base is not downloaded yet")
        return
    console.print(
        f"roughly {duration(cost.seconds)} of training, {size_text(cost.disk_bytes)} of "
        f"disk, {size_text(cost.peak_memory_bytes)} of memory per training"
    )


def _table_of_cells(plan: "Plan") -> Table:
    """One line per cell; where it has several alignments, one below it for each."""
    alignments = plan.study.aligned_by
    has_several = len(alignments) > 1
    draws = any(knobs.on_policy is not None for knobs in alignments.values())
    table = Table(title=f"{plan.study.name}: what a run would do")
    more = ["alignment"] * has_several + ["pairs"] * draws
    looks = ["rungs"] * any(cell.rungs for cell in plan.cells)
    after = ("sft", "its evaluations", "reference", *more, "dpo", "its evaluations")
    columns = ("cell", *looks, *after)
    for column in columns:
        table.add_column(column, overflow="fold")
    others: dict[str, list[str]] = {}
    for other, first in replicates(plan.study).items():
        others.setdefault(first, []).append(other)
    for cell in plan.cells:
        tuned = ([cell.sft], cell.sft_evaluations) if cell.is_tuned else ((), ())
        before = (*([cell.rungs] if looks else []), *tuned, cell.references)
        shown = [str(cell.cell), *(_states(plan, artifacts) for artifacts in before)]
        for one in cell.aligned:
            own = [one.alignment] if has_several else []
            pairs = [step for step in one.made if step.stage == "pairs"]
            own += [_states(plan, pairs) if pairs else ""] if draws else []
            models = [step for step in one.made if step.stage == "dpo"]
            states = (_states(plan, artifacts) for artifacts in (models, one.evaluations))
            table.add_row(*shown, *own, *states)
            shown = [""] * len(shown)
        if not cell.aligned:  # stopped, or not decided yet
            table.add_row(*shown)
        for other in others.get(str(cell.cell.weights), []):
            name = cell_name(f"{other}-s{cell.cell.seed}", cell.cell.tuning)
            table.add_row(f"{MARK} {name}", *[""] * (len(columns) - 1))
    return table


def comparison_as_json(scores: "pd.DataFrame") -> list[dict[str, Any]]:
    """The base, and every cell and seed, with what was measured before and after DPO."""
    from wit.analysis.comparison import compare

    return [cell.model_dump(mode="json") for cell in compare(scores)]


def show_comparison(console: Console, scores: "pd.DataFrame", study: "Study | None" = None) -> None:
    """Prints one line per cell and seed: scores before and after DPO, likelihoods after SFT.

    Args:
        console: Where to.
        scores: Of the study, as ``wit.lineage.table`` gives it.
        study: As it ran; None: not known here.
    """
    from wit.analysis.alignments import compare_alignments
    from wit.analysis.comparison import compare
    from wit.analysis.scores import of_alignment, of_tuning, tunings_in
    from wit.analysis.selection import recommend
    from wit.analysis.tunings import compare_tunings
    from wit.analysis.tunings_section import sentences_of
    from wit.analysis.wording import left_out

    _show_cells(console, compare(scores))
    main = of_tuning(scores)
    if (tunings := compare_tunings(scores, study)) is not None:
        for sentence in sentences_of(tunings):
            console.print(sentence, highlight=False)
        console.print(f"Of tuning {tunings_in(scores)[0]}:", highlight=False)
    if (alignments := compare_alignments(main)) is not None:
        first, *others = (result.name for result in alignments.results)
        beside = ", ".join(others)
        console.print(f"DPO is alignment {first}; below it: {beside}.", highlight=False)
        console.print(alignments.sentence, highlight=False)
    found = recommend(of_alignment(main))
    console.print(found.sentence, highlight=False)
    if found.best is not None and found.num_excluded:
        console.print(f"{left_out(found.num_excluded)}.", highlight=False)


def _show_cells(console: Console, cells: "Sequence[ComparedCell]") -> None:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="Mean score of the select benchmarks, ± half of its 95 % interval",
    )
    table.add_column("cell", no_wrap=True)
    # Eighty columns hold one line per cell, if its weights are not too long.
    for column in ("SFT", "DPO", "prompt\nNLL", "response\nNLL", "preference\naccuracy"):
        table.add_column(column, justify="right", overflow="fold")
    for cell in cells:
        before = cell.models.get("sft") or cell.models.get("base")
        after = cell.models.get("dpo")
        table.add_row(
            cell.cell if cell.replicate_of is None else f"{MARK} {cell.cell}",
            _score(before),
            "" if cell.cell == "base" else _score(after),
            *(_diagnostic(before, name) for name in ("nll_prompt", "nll_response")),
            _diagnostic(after or before, "preference_accuracy"),
        )
        for name, other in cell.other_alignments.items():
            accuracy = _diagnostic(other, "preference_accuracy")
            table.add_row(f"  {name}", "", _score(other), "", "", accuracy)
    console.print(table)
    if any(cell.replicate_of for cell in cells):
        console.print(f"{MARK} {SAME_OBJECTIVE}, whose scores it shows.", highlight=False)
    console.print("Likelihoods are those of the SFT model; preference accuracy is that after DPO.")
    for cell in (cell for cell in cells if cell.replicate_of is None):
        others = {f"{cell.cell} {name}": model for name, model in cell.other_alignments.items()}
        for name, model in ({cell.cell: cell.models.get("dpo")} | others).items():
            if model is not None and model.collapse:
                said = f"! {name} collapsed: its {'; its '.join(model.collapse)}."
                console.print(said, highlight=False, markup=False)


def _score(measured: "Measured | None") -> str:
    if measured is None:
        return "-"
    if measured.score is None:
        return measured.status
    interval = "" if measured.half_width is None else f" ±{measured.half_width:.3f}"
    return f"{measured.score:.3f}{interval}{'!' if measured.collapse else ''}"


def _diagnostic(measured: "Measured | None", name: str) -> str:
    value = None if measured is None else measured.diagnostics.get(name)
    return "-" if value is None else f"{value:.3f}"


def _state(plan: "Plan", artifact: "Artifact") -> str:
    if plan.is_made(artifact):
        return "reuse"
    return "resume" if artifact.scratch.exists() else "make"


def _states(plan: "Plan", artifacts: Iterable["Artifact"]) -> str:
    """Such as "make", or "make 1, reuse 5" where they differ; of none "-"."""
    counts = Counter(_state(plan, artifact) for artifact in artifacts)
    if not counts:
        return "-"
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{state} {count}" for state, count in sorted(counts.items()))
