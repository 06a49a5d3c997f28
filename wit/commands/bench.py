"""The project's benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from wit.commands.options import AsJSON, console, notes, print_json

if TYPE_CHECKING:
    from wit.bench.result import BenchResult

app = typer.Typer(help="The project's benchmarks, as ratios against named baselines.")


Repeats = Annotated[int, typer.Option(min=1, help="Turns of both ways")]
Whole = Annotated[
    bool, typer.Option("--whole", help="All of the quickstart, not a cut of it: half an hour")
]


@app.command("all")
def bench_all(
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Every benchmark in its short form, one after the other: a quarter of an hour on two cores."""
    from wit.bench.every import every

    results: list[BenchResult] = []
    try:
        results.extend(every(only or (), lambda name: notes.print(f"wit bench {name} ...")))
    finally:  # what was measured before one failed is not lost
        if results:
            _print(results, as_json)


@app.command("sft")
def bench_sft(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """Weighted SFT against plain SFTTrainer: tokens per second and memory on the same rows."""
    from wit.bench.sft import measure

    _print([measure("sft", repeats)], as_json)


@app.command("packing")
def bench_packing(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """Packed rows against padded ones: tokens per second and memory of weighted SFT."""
    from wit.bench.sft import measure

    _print([measure("packing", repeats)], as_json)


@app.command("sft-reference")
def bench_sft_reference(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """Weighted SFT, packed, against the published loop: padded batches and full logits."""
    from wit.bench.sft_reference import measure

    _print([measure(repeats)], as_json)


@app.command("head")
def bench_head(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """The model's head and the weighted loss, against full logits and other fused heads."""
    from wit.bench.head import measure

    _print([measure(repeats)], as_json)


@app.command("dpo")
def bench_dpo(
    repeats: Repeats = 3,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of a model; unset: the embedded one", exists=True),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """DPO that reads the reference's log-probabilities against TRL's: speed and peak memory."""
    from wit.bench.dpo import Size, measure

    sizes = get_args(Size) if base is None else ("embedded",)
    _print([measure(repeats, base, size) for size in sizes], as_json)


@app.command("adapters")
def bench_adapters(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """Every kind of adapter against full tuning; and several cells at once on one base."""
    from wit.bench.adapters import Size, measure
    from wit.bench.at_once import measure as measure_at_once

    results = [measure(repeats, size) for size in get_args(Size)]
    _print([*results, measure_at_once(repeats)], as_json)


@app.command("data")
def bench_data(
    num_rows: Annotated[int, typer.Option("--rows", min=100, help="Synthetic rows")] = 100_000,
    num_workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; unset: one for each core")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Preparation of instructions against the tokenizer alone; and its peak memory."""
    from wit.bench.data import measure
    from wit.config import Runtime
    from wit.stages import data_workers

    _print([measure(num_rows, num_workers or data_workers(Runtime()))], as_json)


@app.command("eval")
def bench_eval(
    repeats: Repeats = 3,
    limit: Annotated[int | None, typer.Option(min=1, help="First items; unset: all")] = None,
    as_json: AsJSON = False,
) -> None:
    """All benchmarks of a model in one load against an lm_eval process for each; same numbers."""
    from wit.bench.evaluation import measure

    _print([measure(repeats, limit)], as_json)


@app.command("study")
def bench_study(repeats: Repeats = 1, is_whole: Whole = False, as_json: AsJSON = False) -> None:
    """The quickstart against the same trainings and evaluations as bare scripts."""
    from wit.bench.study import measure

    _print([measure(repeats, is_whole=is_whole)], as_json)


@app.command("overhead")
def bench_overhead(repeats: Repeats = 1, is_whole: Whole = False, as_json: AsJSON = False) -> None:
    """What a study takes beside its trainers' steps and its models' calls."""
    from wit.bench.overhead import measure

    _print([measure(repeats, is_whole=is_whole)], as_json)


@app.command("gpu")
def bench_gpu(
    repeats: Repeats = 1,
    only: Annotated[str, typer.Option(help="Pattern of names, such as sft-1b-*")] = "*",
    lengths: Annotated[
        list[int] | None,
        typer.Option("--length", min=1, help="Of the longest rows; may be repeated"),
    ] = None,
    num_steps: Annotated[int, typer.Option("--steps", min=1, help="That count")] = 6,
    attention: Annotated[str, typer.Option(help="As in the runtime")] = "auto",
    memory_gib: Annotated[
        float | None, typer.Option(min=1, help="Of the GPU: does it fit on a smaller one?")
    ] = None,
    is_tiny: Annotated[bool, typer.Option("--tiny", help="A toy, also on a CPU")] = False,
    as_json: AsJSON = False,
) -> None:
    """SFT and DPO of a 1B and an 8B model with random weights: tokens per second, MFU, memory."""
    from wit.bench.gpu import measure

    found = measure(
        repeats,
        only=only,
        lengths=lengths,
        num_steps=num_steps,
        attention=attention,
        memory_gib=memory_gib,
        is_tiny=is_tiny,
        tell=lambda result: notes.print(f"{result.name}: done"),
    )
    _print(list(found), as_json)


@app.command("scale")
def bench_scale(repeats: Repeats = 3, as_json: AsJSON = False) -> None:
    """Plan, compare, lineage and report over 10 to 10,000 runs: does the cost grow linearly?"""
    from wit.bench.scale import measure

    _print([measure(repeats=repeats)], as_json)


@app.command("rays")
def bench_rays(as_json: AsJSON = False) -> None:
    """The paper's grid with one training for each objective, against all 35."""
    from wit.bench.rays import measure

    _print([measure()], as_json)


@app.command("search")
def bench_search(
    scores: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="The paper's scores; unset: drawn curves", exists=True),
    ] = None,
    budget: Annotated[int, typer.Option(help="Cells that may be begun")] = 10,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Where to draw regret over budget; needs --scores"),
    ] = None,
    repeats: Repeats = 3,
    as_json: AsJSON = False,
) -> None:
    """Search over the weights against random cells and grids: regret, on known scores."""
    from wit.bench.search import measure
    from wit.bench.search_figure import write_figure
    from wit.errors import InputError

    if figure is not None and scores is None:
        raise InputError("--figure draws the regret on the paper's scores; give them by --scores")
    result = measure(scores, repeats, budget)
    if figure is not None and scores is not None:
        write_figure(scores, figure)
    _print([result], as_json)


@app.command("memorisation")
def bench_memorisation(
    num_pairs: Annotated[int, typer.Option("--pairs", min=2, help="Of UUIDs")] = 24,
    num_steps: Annotated[int, typer.Option("--steps", min=1, help="Of every training")] = 360,
    num_seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="That are averaged; one more is for the sweep")
    ] = 3,
    only: Annotated[
        list[str] | None, typer.Option(metavar="METHOD", help="Only this one; may be repeated")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where to draw accuracy against steps")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Full tuning against LoRA, DoRA and MoRA at memorising pairs of UUIDs: accuracy over steps."""
    from wit.bench.memorisation import measure
    from wit.bench.memorisation_figure import write_figure
    from wit.bench.memorisation_results import show, show_training
    from wit.errors import InputError

    if figure is not None and not figure.absolute().parent.is_dir():
        raise InputError(f"--figure {figure}: there is no folder {figure.parent}; make it first")
    found = measure(
        num_pairs,
        num_steps,
        num_seeds,
        only=only or (),
        tell=lambda training: show_training(notes, training),
    )
    if figure is not None:
        write_figure(found, figure)
    if as_json:
        print_json(found.as_json())
    else:
        show(console, found)


def _print(results: list["BenchResult"], as_json: bool) -> None:
    from wit.bench.result import show

    if as_json:
        print_json([result.as_json() for result in results])
    else:
        show(console, results)


@app.command("kill-storm")
def bench_kill_storm(
    num_kills: Annotated[int, typer.Option("--kills", min=1, help="Altogether")] = 20,
    seed: Annotated[int, typer.Option(help="Of whom, when, and how it is resumed")] = 0,
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="As of wit up; databases that nobody uses. Prefect's server is killed too then",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Kills flows, workers and trainings of a small study; it must end as if nobody had."""
    from wit.bench.kill_storm import measure
    from wit.bench.kill_storm_results import Kill, show_kill, show_measurement

    kills: list[Kill] = []

    def tell(kill: Kill) -> None:
        kills.append(kill)
        show_kill(notes, len(kills), kill)

    found = measure(num_kills, seed, postgres, tell)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_measurement(console, found)
    if found.wrong:
        raise typer.Exit(1)
