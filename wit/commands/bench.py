"""The project's benchmarks."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wit.commands.options import AsJSON, console, notes, print_json

app = typer.Typer(help="The project's benchmarks, as ratios against named baselines.")


@app.command("sft")
def bench_sft(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each trainer")] = 3,
    as_json: AsJSON = False,
) -> None:
    """Weighted SFT against plain SFTTrainer: tokens per second on the same rows."""
    _bench_training("sft", repeats, as_json)


@app.command("packing")
def bench_packing(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each trainer")] = 3,
    as_json: AsJSON = False,
) -> None:
    """Packed rows against padded ones: tokens per second of weighted SFT."""
    _bench_training("packing", repeats, as_json)


def _bench_training(contest: Literal["sft", "packing"], repeats: int, as_json: bool) -> None:
    from wit.bench.result import show
    from wit.bench.sft import measure

    result = measure(contest, repeats)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        show(console, [result])


@app.command("dpo")
def bench_dpo(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each way")] = 3,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of a model; unset: the embedded one", exists=True),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """DPO that reads the reference's log-probabilities against TRL's: speed and peak memory."""
    from wit.bench.dpo import measure, show_measurement

    measurement = measure(repeats, base)
    if as_json:
        print_json(measurement.model_dump(mode="json"))
    else:
        show_measurement(console, measurement)


@app.command("data")
def bench_data(
    num_rows: Annotated[int, typer.Option("--rows", min=100, help="Synthetic rows")] = 100_000,
    num_workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; unset: one for each core")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Preparation of instructions: rows and tokens per second, and whether memory stays bounded."""
    from wit.bench.data import measure, show_measurement
    from wit.config import Runtime
    from wit.stages import data_workers

    measurement = measure(num_rows, num_workers or data_workers(Runtime()))
    if as_json:
        print_json(measurement.model_dump(mode="json"))
    else:
        show_measurement(console, measurement)


@app.command("eval")
def bench_eval(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each way")] = 3,
    limit: Annotated[int | None, typer.Option(min=1, help="First items; unset: all")] = None,
    as_json: AsJSON = False,
) -> None:
    """All benchmarks of a model in one load against an lm_eval process for each; same numbers."""
    from wit.bench.evaluation import measure, show_measurement

    measurement = measure(repeats, limit)
    if as_json:
        print_json(measurement.model_dump(mode="json"))
    else:
        show_measurement(console, measurement)


@app.command("lineage")
def bench_lineage(
    num_runs: Annotated[int, typer.Option("--runs", min=10, help="In the store")] = 10_000,
    as_json: AsJSON = False,
) -> None:
    """Table and lineage from a store of many runs: seconds, and number of statements."""
    from wit.bench.lineage import measure, show_measurement

    answers = measure(num_runs)
    if as_json:
        print_json([answer.model_dump(mode="json") for answer in answers])
    else:
        show_measurement(console, answers)


@app.command("study")
def bench_study(
    repeats: Annotated[int, typer.Option(min=1, help="Turns")] = 1,
    is_whole: Annotated[
        bool, typer.Option("--whole", help="All of the quickstart, not a cut of it: half an hour")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """The quickstart against the same trainings and evaluations as bare scripts."""
    from wit.bench.result import show
    from wit.bench.study import measure

    found = measure(repeats, is_whole=is_whole)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(console, [found])


@app.command("overhead")
def bench_overhead(
    repeats: Annotated[int, typer.Option(min=1, help="Turns")] = 1,
    is_whole: Annotated[
        bool, typer.Option("--whole", help="All of the quickstart, not a cut of it")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """What a study takes beside its trainers' steps and its models' calls."""
    from wit.bench.overhead import measure
    from wit.bench.result import show

    found = measure(repeats, is_whole=is_whole)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(console, [found])


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
