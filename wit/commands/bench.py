"""The project's benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

    _print(list(every(only or (), lambda name: notes.print(f"wit bench {name} ..."))), as_json)


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
    from wit.bench.dpo import measure

    _print([measure(repeats, base)], as_json)


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
