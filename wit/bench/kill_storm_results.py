"""What a kill storm reports."""

from rich.console import Console
from rich.table import Table

from wit.settings import Settings


class Kill(Settings):
    """One kill, as it happened."""

    kind: str
    program: str  # of `wit up`; run: a `wit run`
    stages: list[str]  # that the killed were making
    made_again: list[str]  # of these stages
    resumed_by: list[str]  # what a user did; empty: it went on by itself
    seconds: float  # until a process was in its place, and these stages were being made again


class Measurement(Settings):
    """All kills, and the final checks."""

    kills: list[Kill]
    num_rounds: int  # studies of four cells, each with another seed, one after the other
    num_artifacts: int
    num_runs: int  # of artifacts, in MLflow
    num_models: int
    num_equal_models: int  # whose weights are bit by bit those of the undisturbed study
    wrong: list[str]  # what a check has found, one sentence each
    seconds: float  # from the first start to the end of the last study
    machine: str


def show_kill(console: Console, number: int, kill: Kill) -> None:
    """Prints one kill, in a line."""
    by = ", ".join(kill.resumed_by) or "by itself"
    again = "; ".join(kill.made_again) or "nothing"
    said = f"{number:3} {kill.kind} ({kill.program}): {kill.seconds:.0f} s, {by}; again: {again}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)


def show_measurement(console: Console, found: Measurement) -> None:
    """Prints a line for each kill, and what the checks say."""
    table = Table(title="Killed, and resumed")
    for column in ("", "killed", "while it made", "resumed", "s", "made again"):
        table.add_column(column, justify="right" if column in ("", "s") else "left")
    for number, kill in enumerate(found.kills, start=1):
        table.add_row(
            str(number),
            kill.kind if kill.kind in ("prefect", "run") else f"{kill.kind} ({kill.program})",
            "\n".join(kill.stages) or "-",
            ", ".join(kill.resumed_by) or "by itself",
            f"{kill.seconds:.0f}",
            "\n".join(line.rpartition(": ")[2] for line in kill.made_again) or "-",
        )
    console.print(table)
    console.print(
        f"{found.num_artifacts} artifacts of {found.num_rounds} studies in {found.seconds:,.0f} s; "
        f"{found.num_runs} runs in MLflow; weights of {found.num_equal_models} of "
        f"{found.num_models} models equal bit by bit",
        highlight=False,
    )
    for sentence in found.wrong:
        console.print(f"wrong: {sentence}", style="red", markup=False, soft_wrap=True)
    if not found.wrong:
        console.print("all checks passed: scores equal bit by bit, every file, no process left")
    console.print(found.machine)
